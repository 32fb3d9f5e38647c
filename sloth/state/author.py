"""Who works at this controller, as records, locks and exports name him."""

from __future__ import annotations

import getpass
import os
import socket


def who() -> str:
    """Return the name of the user at the controller."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def author() -> dict[str, str]:
    """Return the user and the machine as {"by": ..., "origin": ...}."""
    return {"by": who(), "origin": socket.gethostname()}
