"""A controller that sends files to two hosts, of which one is held at some place: see `holder.py`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

SMALL = 200_000  # bytes; smaller files go with their call, which leaves no time to change them
LIMIT = 90.0  # seconds for one run


class Sending:
    """A controller and two hosts, one of which is held at some place; both are this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.source, self.hosts = path, path / "files" / "sent", path / "hosts"
        self.source.parent.mkdir()
        self.hosts.mkdir()
        self._started: subprocess.Popen[str] | None = None

    def describe(self, place: str, body: str) -> None:
        """Write the site, and the inventory in which the host `held` is held at a place."""
        program = self.path / "python-held"
        script = ROOT / "tests" / "attack" / "holder.py"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} {place} {self.path} {sys.executable} "$@"\n')
        program.chmod(0o755)
        lines = ['[hosts.other]\nconnection = "local"', f'[hosts.held]\nconnection = "local"\npython = "{program}"']
        (self.path / "inventory.toml").write_text("\n".join(lines))
        text = body.replace('"HOST', f'"{self.hosts}/" .. host.name .. "')
        (self.path / "site.sloth").write_text(f'task({{ name = "t", run = function()\n{text}\nend }})\n')

    def start(self, *words: str) -> None:
        """Start a command, which is a run of the site unless others are given."""
        environment = {**os.environ, "HOME": str(self.path), "PYTHONPATH": str(ROOT)}
        self._started = subprocess.Popen(
            [sys.executable, "-m", "sloth", *(words or ("run", "-f", "site.sloth", "-o", "json"))], cwd=self.path,
            text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def make_hosts(self) -> None:
        """Make the directories of both hosts."""
        for host in ("other", "held"):
            (self.hosts / host).mkdir()

    def start_until_held(self) -> None:
        """Start a run, and wait until the host is held."""
        self.start()
        self.until_held()

    def until_held(self) -> None:
        end = time.monotonic() + LIMIT
        while not (self.path / "held").exists():
            assert time.monotonic() < end
            assert self._started is not None
            assert self._started.poll() is None, self._started.communicate()[0][-3000:]
            time.sleep(0.02)

    def go(self) -> tuple[int, dict[str, Any]]:
        """Let the host go on; return the exit status and the report."""
        (self.path / "go").touch()
        assert self._started is not None
        shown, errors = self._started.communicate(timeout=LIMIT)
        assert shown, errors
        return self._started.returncode, json.loads(shown)["hosts"]

    def run(self) -> tuple[int, dict[str, Any]]:
        self.start()
        return self.go()

    def end(self) -> None:
        if self._started is not None and self._started.poll() is None:
            self._started.send_signal(signal.SIGKILL)
            self._started.communicate()

    def left(self, host: str) -> set[str]:
        """Return the names of what is in the host's directory."""
        return {entry.name for entry in (self.hosts / host).iterdir()}
