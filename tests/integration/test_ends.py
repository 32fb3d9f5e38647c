"""The exit status never improves because of an error, and every host has its end."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from sloth.engine.events import Event, HostFinished, Log, RunFinished
from sloth.engine.handlers import PostTasks
from sloth.engine.locks import Locks
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.engine.sessions import Sessions
from sloth.inventory import Inventory
from sloth.playbook import LogLevel, Site
from sloth.state.backends.sqlite import SQLite
from sloth.state.memory import Memory
from sloth.state.shared import Shared
from sloth.transport import Session

SITE = 'task({name = "t", run = function() exec.run({cmd = "true"}) end})'


def run(home: Path, sink: Callable[[Event], None] = lambda event: None) -> tuple[int, list[Event]]:
    """Run SITE on this machine; return the exit status and the events."""
    site = home / "site.sloth"
    site.write_text(SITE)
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        sink(event)

    async def go() -> int:
        memory = Memory(home / "controller")
        inventory = Inventory.local()
        hosts = inventory.select("all")
        job = Run(Site.read(str(site)), inventory, hosts, Options(), emit, memory, Shared(SQLite(home / "shared.db")))
        try:
            return await job.run()
        finally:
            memory.close()

    with mock.patch.dict(os.environ, {"HOME": str(home)}):
        return asyncio.run(go()), events


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (Session, "close", ValueError("an odd goodbye")),
        (Session, "close", RecursionError("nested too deep")),
        (Sessions, "remember", sqlite3.OperationalError("database is locked")),
        (PostTasks, "evaluation", KeyError("what")),
        (Locks, "release_all", RuntimeError("lost")),
    ],
    ids=str,
)
def test_what_raises_at_a_host_s_end_is_its_error(owner: type, name: str, error: Exception, tmp_path: Path) -> None:
    with mock.patch.object(owner, name, side_effect=error):
        status, events = run(tmp_path)
    assert status == 1
    (ended,) = [event for event in events if isinstance(event, HostFinished)]
    assert ended.status == "failed"
    assert str(error) in str(ended.error)
    assert isinstance(events[-1], RunFinished)


def test_a_reporter_that_fails_makes_the_run_fail(tmp_path: Path) -> None:
    def sink(event: Event) -> None:
        if isinstance(event, HostFinished):
            raise UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed")

    status, events = run(tmp_path, sink)
    assert status == 1
    (told,) = [event for event in events if isinstance(event, Log)]
    assert told.level is LogLevel.ERROR
    assert "UnicodeEncodeError" in told.text


def test_without_an_error_it_is_0(tmp_path: Path) -> None:
    assert run(tmp_path)[0] == 0
