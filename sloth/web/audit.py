"""Who has done what by the web UI: a line of JSON for each action, in a file of the controller's directory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from sloth.frozen import frozen
from sloth.web.data.paging import Page, Window, cut

NAME = "web-actions.jsonl"
TAIL = 1024 * 1024  # bytes that are read of it


@frozen
class Action:
    """One action.

    Attributes:
        who: the name that was given; address: from which it came.
        what: "drift", "unlock" or "freeze", and `about`: of what.
        outcome: what came of it.
    """

    at: float
    who: str
    address: str
    what: str
    about: str
    outcome: str


def write(directory: Path, who: str, address: str, what: str, about: Mapping[str, str], outcome: str) -> None:
    """Add an action. Raises OSError: nothing is done that cannot be recorded."""
    row = {"at": time.time(), "who": who, "address": address, "what": what, "about": dict(about), "outcome": outcome}
    data = (json.dumps(row) + "\n").encode()
    file = os.open(directory / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        os.write(file, data)
        os.fsync(file)
    finally:
        os.close(file)


def read(directory: Path, window: Window) -> Page[Action]:
    """Return the newest actions, newest first."""
    try:
        with open(directory / NAME, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return Page((), 0, 1, window.size, "-at")
    found = [row for row in map(_read, reversed(lines)) if row is not None]
    return cut(found, window, "-at")


def _read(line: str) -> Action | None:
    try:
        row = json.loads(line)
        about = ", ".join(f"{name} {value}" for name, value in row["about"].items())
        return Action(float(row["at"]), row["who"], row["address"], row["what"], about, row["outcome"])
    except (ValueError, KeyError, TypeError, AttributeError):  # a line that is cut
        return None
