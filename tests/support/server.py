"""A real server for tests: a process with a port of its own and its data in a temporary directory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

PATIENCE = 60.0  # seconds for a start, on a machine that is busy


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def program(name: str) -> str:
    """Return the path of a server's program, from our virtual environment or the system; skip the test without it.

    With SLOTH_SERVERS=required (CI) not having it is an error.
    """
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None and os.environ.get("SLOTH_SERVERS") == "required":
        pytest.fail(f"{name} is not installed")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


class Server:
    """A server's process, which can be killed, stopped and started again on the same port and data."""

    def __init__(self, command: list[str], directory: Path, ready: str, environment: Mapping[str, str] = {}) -> None:
        """ready: the URL that it answers, whatever the status, as soon as it is up."""
        self._command = command
        self._directory = directory
        self._ready = ready
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self._directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._directory,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while not self._answers():
            log_text = (self._directory / "log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"{self._command[0]} has ended: {log_text}"
            assert time.monotonic() < end, f"{self._command[0]} does not start: {log_text}"
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End it as a power failure would."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._ready, timeout=5) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code < 500
        except OSError:
            return False
        return True
