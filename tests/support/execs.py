"""Every command line that processes are started with, as strace sees it: a sampler of process lists misses some."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
OPTIONS = ("-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-s", "200000", "-xx", "-v")


class Execs:
    """A context manager that watches a running process and all that it starts."""

    def __init__(self, pid: int, log: Path) -> None:
        self._log = log
        self._pid = pid

    def __enter__(self) -> Execs:
        self._strace = subprocess.Popen(["strace", *OPTIONS, "-o", str(self._log), "-p", str(self._pid)])
        end = time.monotonic() + 30
        while _tracer(self._pid) != self._strace.pid:
            assert time.monotonic() < end, "strace does not attach"
            assert self._strace.poll() is None, "strace ended"
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._strace.send_signal(signal.SIGTERM)
        self._strace.wait(30)

    def command_lines(self) -> list[list[bytes]]:
        return command_lines(self._log)


def command_lines(log: Path) -> list[list[bytes]]:
    """Return the arguments of each execve() in a log."""
    found = []
    for line in log.read_text().splitlines():
        _, call, rest = line.partition("execve(")
        if call:
            words = rest.partition(", [")[2].partition("]")[0]
            found.append([bytes.fromhex(word.replace("\\x", "")) for word in _STRING.findall(words)])
    return found


def _tracer(pid: int) -> int:
    found = re.search(r"^TracerPid:\t(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def descendants(pid: int) -> dict[int, tuple[int, str]]:
    """Return parent and name of the processes below `pid`."""
    table = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        table[int(path.parent.name)] = (int(rest.split()[1]), head.partition("(")[2])
    below = {pid}
    while True:
        more = {child for child, (parent, _) in table.items() if parent in below} - below
        if not more:
            return {child: table[child] for child in below if child in table}
        below |= more
