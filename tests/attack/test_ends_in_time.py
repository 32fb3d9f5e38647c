"""Every phase ends in bounded time, and the first Ctrl-C ends a run, whatever a host or the controller's disk does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.attack
PROMISED = 15.0  # seconds from the first Ctrl-C
SLOW = 3  # a busy machine may take so many times as long


class Running:
    """A run of a site on this machine, in a process of its own; `home` is its home."""

    def __init__(self, home: Path, site: str, *options: str, hangup: signal.Handlers = signal.SIG_DFL) -> None:
        """hangup: SIG_IGN for what nohup does."""

        def set_signals() -> None:  # whoever runs the tests may have set them otherwise
            signal.signal(signal.SIGHUP, hangup)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        (home / "site.sloth").write_text(site)
        command = [sys.executable, "-m", "sloth", "run", "-o", "ndjson", "-f", "site.sloth", *options]
        environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
        with (home / "out").open("wb") as out, (home / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                command, cwd=home, env=environment, stdout=out, stderr=errors, preexec_fn=set_signals
            )
        self.home = home

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.home / "out").read_bytes().split(b"\n")[:-1]
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def until(self, is_reached: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not is_reached():
            assert time.monotonic() < end
            assert self.process.poll() is None, (self.home / "errors").read_text()
            time.sleep(0.1)

    def interrupt(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; return the exit status and how long the end took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(90)
        return status, time.monotonic() - begun


@pytest.fixture
def payloads() -> Iterator[list[int]]:
    """The processes to end after a test."""
    found: list[int] = []
    yield found
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from descendants(int(child))


def stop_payload(running: Running) -> list[int]:
    """Stop the payload and whatever it runs; return their process ids."""
    found = list(descendants(running.process.pid))
    payload = [pid for pid in found if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]]
    assert len(payload) == 1, found
    for pid in (*payload, *descendants(payload[0])):
        os.kill(pid, signal.SIGSTOP)
    return found


COMMAND = 'task({name = "t", OPTIONS run = function() exec.run({cmd = "touch ~/running; sleep 300"}) end})'


def started(home: Path) -> Callable[[], bool]:
    return (home / "running").exists


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_signal_ends_a_run_with_its_summary(tmp_path: Path, number: int) -> None:
    running = Running(tmp_path, COMMAND.replace("OPTIONS", ""))
    running.until(started(tmp_path))
    status, took = running.interrupt(number)
    assert status == 130
    assert took < PROMISED
    (end,) = running.events("run_finished")
    assert end["interrupted"] is True


def test_a_hangup_that_is_ignored_ends_nothing(tmp_path: Path) -> None:
    running = Running(tmp_path, COMMAND.replace("OPTIONS", "").replace("300", "3"), hangup=signal.SIG_IGN)
    running.until(started(tmp_path))
    assert running.interrupt(signal.SIGHUP)[0] == 0


@pytest.mark.parametrize("what", ["a command", "a large copy"])
def test_the_first_interrupt_ends_a_run_whose_payload_is_stopped(
    tmp_path: Path, payloads: list[int], what: str
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(1 << 20) * 200)
    copy = 'task({name = "t", run = function() file.copy({src = "large", dest = "~/copied"}) end})'
    running = Running(tmp_path, COMMAND.replace("OPTIONS", "") if what == "a command" else copy)
    running.until(started(tmp_path) if what == "a command" else lambda: list(tmp_path.glob(".copied*")))
    payloads += stop_payload(running)
    status, took = running.interrupt()
    assert status == 130
    assert took < PROMISED * SLOW
    (end,) = running.events("host_finished")
    assert end["status"] != "changed"


def test_a_timeout_is_kept_within_5_seconds_by_a_stopped_payload(tmp_path: Path, payloads: list[int]) -> None:
    running = Running(tmp_path, COMMAND.replace("OPTIONS", "timeout = 8,"))
    running.until(started(tmp_path))
    payloads += stop_payload(running)
    assert running.process.wait(90) == 1
    (end,) = running.events("task_finished")
    assert end["seconds"] < 13 + SLOW
    assert "did not end within 8 seconds" in end["error"]


def test_a_command_that_minds_no_signal_is_killed_in_time(tmp_path: Path) -> None:
    stubborn = """task({name = "t", timeout = 2, ignore_errors = true, run = function()
        exec.run({cmd = "trap '' TERM; sleep 300"})
    end})
    task({name = "after", run = function() file.copy({content = "x", dest = "~/after"}) end})"""
    running = Running(tmp_path, stubborn)
    assert running.process.wait(90) == 0
    assert running.events("task_finished")[0]["seconds"] < 7 + SLOW
    assert (tmp_path / "after").exists()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a database as another process may."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        database.close()


def test_a_locked_database_keeps_no_interrupt_waiting(tmp_path: Path) -> None:
    running = Running(tmp_path, COMMAND.replace("OPTIONS", ""))
    running.until(started(tmp_path))
    with locked(tmp_path / ".sloth-runner" / "controller.db"):
        status, took = running.interrupt()
    assert status == 130
    assert took < PROMISED
    assert any("locked by another process" in event["text"] for event in running.events("log"))


def test_a_database_that_is_locked_for_a_while_is_waited_for(tmp_path: Path) -> None:
    running = Running(tmp_path, COMMAND.replace("OPTIONS", "").replace("300", "1"))
    running.until(started(tmp_path))
    with locked(tmp_path / ".sloth-runner" / "controller.db"):
        running.until(lambda: running.events("task_finished"))
        time.sleep(3)
        assert running.process.poll() is None
    assert running.process.wait(60) == 0
    assert running.events("log") == []


@pytest.mark.parametrize("kind", ["plain", "json", "ndjson"])
def test_a_report_that_cannot_be_written_is_a_failure(tmp_path: Path, kind: str) -> None:
    (tmp_path / "site.sloth").write_text('task({name = "t", run = function() exec.run("touch ~/done") end})')
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sloth", "run", "-o", kind, "-f", "site.sloth", "--junit", "junit.xml"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "done").exists()
    assert b"testcase" in (tmp_path / "junit.xml").read_bytes()
