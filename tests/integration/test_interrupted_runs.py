"""Runs that are interrupted, in the test's own process: before they begin, with delegates, and while they wait."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest import mock

import pytest

from sloth.engine import site_lock
from sloth.engine.events import CallOutput, Event, Log, RunStarted, TaskFinished
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.engine.site_lock import SiteLock
from sloth.errors import StateError
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.backends.backend import Entry
from sloth.state.backends.sqlite import SQLite
from sloth.state.memory import Memory
from sloth.state.shared import Shared
from tests.support.edited_host import edited_hosts
from tests.support.running import finished_hosts

pytestmark = pytest.mark.timeout(120)


class Backend(SQLite):
    """A backend that can hang, or fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = asyncio.Event()
        self.hangs = self.fails = False

    async def read(self, key: str) -> Entry | None:
        self.asked.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise StateError("no route to host")
        return await super().read(key)


class Job:
    """A run of site text that a test interrupts; on_event is called with each event."""

    def __init__(self, directory: Path, inventory: Inventory, source: str, hosts: str = "all") -> None:
        (directory / "site.sloth").write_text(source)
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = lambda event: None
        self.memory = Memory(directory / "controller")
        self.backend = Backend(directory / "shared.db")
        self.shared = Shared(self.backend)
        site = Site.read(str(directory / "site.sloth"))
        self.run = Run(site, inventory, inventory.select(hosts), Options(), self._emit, self.memory, self.shared)

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def texts(self) -> list[str]:
        """Return what was logged."""
        return [event.text for event in self.events if isinstance(event, Log)]


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Job]:
    """A run that would write a file, and has not begun."""
    source = f'task({{ name = "t", run = function() file.copy({{ content = "x", dest = "{tmp_path}/x" }}) end }})'
    job = Job(tmp_path, Inventory.local(), source)
    yield job
    job.memory.close()
    await job.shared.close()


async def test_a_run_that_is_interrupted_before_its_hosts_begin_touches_none(idle: Job, tmp_path: Path) -> None:
    idle.on_event = lambda event: idle.run.interrupt() if isinstance(event, RunStarted) else None
    assert await idle.run.run() == 130
    assert [end.status for end in finished_hosts(idle.events).values()] == ["skipped"]
    assert not (tmp_path / "x").exists()


async def test_an_interrupted_run_that_cannot_be_recorded_is_an_interrupted_one(idle: Job, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "controller" / "controller.db") as database:
        database.execute("CREATE TRIGGER no BEFORE INSERT ON runs BEGIN SELECT RAISE(ABORT, 'no more'); END")
    database.close()
    idle.run.interrupt()
    assert await idle.run.run() == 130
    assert not (tmp_path / "x").exists()


async def test_a_second_interrupt_cuts_off_what_is_done_on_delegates(tmp_path: Path) -> None:
    inventory = edited_hosts(tmp_path, web1=[], web2=[], gone=[({"t": "ready"}, {"end": True})])
    job = Job(
        tmp_path,
        inventory,
        """
task({ name = "lost", hosts = "web1", delegate_to = "gone", ignore_errors = true, run = function()
    exec.run("true")
end })
task({ name = "t", hosts = "web1", delegate_to = "web2", run = function()
    exec.run("trap '' TERM INT HUP; echo begun; sleep 60")
end })
""",
        "web1",
    )

    def on_event(event: Event) -> None:
        if isinstance(event, CallOutput):
            job.run.interrupt()
            asyncio.get_running_loop().call_soon(job.run.interrupt)

    job.on_event = on_event
    try:
        assert await asyncio.wait_for(job.run.run(), 30) == 130
    finally:
        job.memory.close()
    assert [event.task for event in job.events if isinstance(event, TaskFinished)] == ["lost"]
    (text,) = job.texts()
    assert text.startswith("interrupted: hosts have up to "), "nobody waits for what the delegate would record"


async def test_an_interrupted_run_waits_for_no_delegate(tmp_path: Path) -> None:
    """One never says goodbye, and one has not begun to answer; that nothing may be recorded there is no news."""
    edited_hosts(tmp_path, web1=[], mute=[({"t": "bye"}, {"drop": True})], slow=[])
    (tmp_path / "slow.python").write_text(f"#!/bin/sh\ntouch {tmp_path}/begun\nexec sleep 60\n")
    job = Job(
        tmp_path,
        Inventory.read(tmp_path / "edited.toml"),
        """
task({ name = "t", hosts = "web1", run = function()
    exec.run({ cmd = "true", delegate_to = "mute" })
    exec.run({ cmd = "true", delegate_to = "slow" })
end })
""",
        "web1",
    )
    running = asyncio.create_task(job.run.run())
    while not (tmp_path / "begun").exists():  # noqa: ASYNC110  another process makes it
        await asyncio.sleep(0.05)
    job.run.interrupt()
    try:
        assert await asyncio.wait_for(running, 50) == 130
    finally:
        job.memory.close()
    assert len(job.texts()) == 1


# The lock of a site


async def test_an_interrupted_run_waits_for_no_lock(idle: Job) -> None:
    await idle.shared.locks.take(f"run:{idle.run.site.identity}", "another")
    lock = SiteLock(idle.shared, idle.run, 600)
    taking = asyncio.create_task(lock.take())
    idle.on_event = lambda event: idle.run.interrupt()
    await asyncio.wait_for(taking, 30)
    assert idle.texts()[0].startswith("waiting up to 600 seconds for the run another, since ")
    assert await lock.release() == ""
    await asyncio.wait_for(lock.take(), 30)
    assert await idle.shared.locks.find(lock.name) is not None, "it is still that of the other run"


async def test_an_interrupted_run_waits_for_no_backend(idle: Job) -> None:
    lock = SiteLock(idle.shared, idle.run, 600)
    idle.backend.hangs = True
    taking = asyncio.create_task(lock.take())
    await idle.backend.asked.wait()
    idle.run.interrupt()
    await asyncio.wait_for(taking, 30)
    idle.backend.hangs = False
    assert await lock.release() == ""


async def test_a_lock_that_another_run_has_at_the_end_is_said(idle: Job) -> None:
    lock = SiteLock(idle.shared, idle.run, 0)
    await lock.take()
    await idle.shared.locks.release_any(lock.name)
    await idle.shared.locks.take(lock.name, "another")
    said = await lock.release()
    assert f"the lock {lock.name} is held by another" in said
    assert said.endswith("another run has taken it: two runs were at work at the same time")


async def test_a_lock_that_cannot_be_renewed_in_time_is_said_once(idle: Job) -> None:
    with mock.patch.object(site_lock, "TTL", 0.9):
        lock = SiteLock(idle.shared, idle.run, 0)
        await lock.take()
        said = asyncio.Event()
        idle.on_event = lambda event: said.set()
        idle.backend.fails = True
        await asyncio.wait_for(said.wait(), 30)
        idle.backend.fails = False
        await lock.release()
    (text,) = idle.texts()
    assert text.startswith(
        "the lock of the site was lost: it could not be renewed within 0.9 seconds: no route to host"
    )
