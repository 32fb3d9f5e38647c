"""Whether a run that has no end goes on: whoever is killed records none."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

from sloth.web.data.times import DAY

SILENT = DAY  # seconds after which a run of another machine that has no end is taken for lost


def is_lost(about: str | None, started: float) -> bool:
    """Return whether the process of a run has died: for certain of one on this machine, by its age otherwise."""
    try:
        found = json.loads(about) if about else {}
        namespace, pid = found["process"]
        is_ours = found["origin"] == socket.gethostname() and os.readlink("/proc/self/ns/pid") == namespace
    except (ValueError, RecursionError, KeyError, TypeError, OSError):
        is_ours, pid = False, 0
    if is_ours and isinstance(pid, int):
        return not _is_sloth(pid)
    return time.time() - started > SILENT


def _is_sloth(pid: int) -> bool:
    """Return whether a process is one of ours: numbers are used again."""
    try:
        return b"sloth" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
