"""Runs with workers: their processes, and what they wait for."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any


def wait_for(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def workers_of(process: subprocess.Popen[Any]) -> list[int]:
    """Return the processes of its workers, in the order in which they were started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == process.pid and b"workers.worker" in command:
                found.append(int(entry.name))
    return sorted(found)
