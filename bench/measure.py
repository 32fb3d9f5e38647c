"""Measures a command: how long it takes, its processor time and memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One measurement. wall, cpu (of the command and its children), hosts_cpu: seconds; memory: its peak, in bytes."""

    wall: float
    cpu: float
    memory: int
    hosts_cpu: float = 0.0


def measure(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    directory: Path | None = None,
    hosts_cpu: Callable[[], float] = lambda: 0.0,
) -> Sample:
    """Run a command and return what it took. Raises RuntimeError, with what it printed, when it fails."""
    before = hosts_cpu()
    begun = time.perf_counter()
    with (
        open(os.devnull, "rb") as null,
        (directory or Path("/tmp")).joinpath(f"bench-{os.getpid()}.out").open("w+b") as out,
    ):
        child = subprocess.Popen(command, env=environment, cwd=directory, stdin=null, stdout=out, stderr=out)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            out.seek(0)
            said = out.read().decode("utf-8", "replace")[-3000:]
            raise RuntimeError(f"{' '.join(command)[:300]} ended with {child.returncode}:\n{said}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, hosts_cpu() - before)


def median(samples: Sequence[Sample]) -> Sample:
    """Return the median of each of the values."""
    return Sample(
        statistics.median(sample.wall for sample in samples),
        statistics.median(sample.cpu for sample in samples),
        int(statistics.median(sample.memory for sample in samples)),
        statistics.median(sample.hosts_cpu for sample in samples),
    )
