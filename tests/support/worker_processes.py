"""Runs with workers: their processes, and what they wait for."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.support.home import Home


def wait_for(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def workers_of(home: Home) -> list[int]:
    """Return the processes that work on the hosts of a run, of whichever engine, in no order."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                is_worker = b"workers.worker" in (entry / "cmdline").read_bytes()
                if is_worker and Path(os.readlink(entry / "cwd")) == home.path:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def worker_above(home: Home, pid: int) -> int:
    """Return the worker that has started a process, or one of its parents."""
    workers = workers_of(home)
    while pid not in workers:
        assert pid > 1, "no worker has started it"
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid
