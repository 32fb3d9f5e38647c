"""A Dask cluster on loopback: a scheduler and workers, as processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.support.paths import ROOT

SECONDS = 120.0  # for a start, on a busy machine
PORTS = 20_000, 32_000  # of workers: below those that the kernel gives to anybody's connections


class Cluster:
    """The processes. Workers are in the order of their addresses, in which hosts are dealt out to them."""

    def __init__(self, directory: Path, tls: Sequence[str] = (), scheme: str = "tcp") -> None:
        self.directory = directory
        self._tls = tuple(tls)
        self._scheme = scheme
        self._file = directory / "scheduler.json"
        self.scheduler = self._start("scheduler", "--protocol", scheme)
        _wait_for(lambda: self._file.exists() and bool(self._file.read_text().strip()), "the scheduler")
        self.address: str = json.loads(self._file.read_text())["address"]
        self.workers: list[subprocess.Popen[bytes]] = []
        self._port = PORTS[0] + os.getpid() * 16 % (PORTS[1] - PORTS[0])

    @property
    def url(self) -> str:
        """The address for --engine."""
        return self.address.replace("tcp://", "dask://").replace("tls://", "dasks://")

    def log(self) -> str:
        """Return what the scheduler and all workers have logged."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log")))

    def add_worker(self, *more: str, prefix: Sequence[str] = (), path: str | Path = ROOT, nanny: bool = False) -> None:
        """Start a worker.

        more: words of its command line, prefix: what is before it; path: where it finds modules; nanny: with one.
        """
        log = self.directory / f"worker{len(self.workers)}.log"
        while True:  # somebody else may have the port
            self._port += 1
            words = (
                "--nanny" if nanny else "--no-nanny", "--nthreads", "1", "--worker-port", str(self._port), *more,
                *(("--nanny-port", str(self._port + 8)) if nanny else ()),
            )  # fmt: skip
            worker = self._start("worker", *words, prefix=prefix, log=log, path=path)
            _wait_for(partial(_is_registered_or_dead, worker, log), "a worker")
            if worker.poll() is None:
                self.workers.append(worker)
                return
            assert "in use" in log.read_text(), log.read_text()

    def restart_scheduler(self) -> None:
        """Kill the scheduler, and start another one at its address."""
        self.scheduler.kill()
        self.scheduler.wait()
        self._file.unlink()
        port = self.address.rpartition(":")[2]
        self.scheduler = self._start("scheduler", "--protocol", self._scheme, port=port)
        _wait_for(lambda: self._file.exists() and bool(self._file.read_text().strip()), "the scheduler")

    def _start(
        self,
        what: str,
        *words: str,
        prefix: Sequence[str] = (),
        log: Path | None = None,
        path: str | Path = ROOT,
        port: str = "0",
    ) -> subprocess.Popen[bytes]:
        command = [
            *prefix, sys.executable, "-m", f"distributed.cli.dask_{what}", "--host", "127.0.0.1", "--no-dashboard",
            "--scheduler-file", str(self._file), *self._tls, *words,
        ]  # fmt: skip
        if what == "scheduler":
            command += ["--port", port]
        else:
            command += ["--local-directory", str(self.directory / "scratch")]
        with (log or self.directory / "scheduler.log").open("wb") as sink:
            return subprocess.Popen(
                command, stdout=sink, stderr=sink, cwd=self.directory, env={**os.environ, "PYTHONPATH": str(path)}
            )

    def close(self) -> None:
        """End all processes."""
        for process in (*self.workers, self.scheduler):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@contextlib.contextmanager
def running_cluster(directory: Path, workers: int = 2) -> Iterator[Cluster]:
    """Start a cluster, and end it."""
    directory.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(directory)
    try:
        for _ in range(workers):
            cluster.add_worker()
        yield cluster
    finally:
        cluster.close()


def _is_registered_or_dead(worker: subprocess.Popen[bytes], log: Path) -> bool:
    return "Registered to" in log.read_text() or worker.poll() is not None


def _wait_for(is_there: object, what: str) -> None:
    assert callable(is_there)
    end = time.monotonic() + SECONDS
    while not is_there():
        assert time.monotonic() < end, f"{what} did not start"
        time.sleep(0.05)
