"""Runs that are interrupted, in the test's own process: before they begin, with delegates, and while they wait."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from sloth.engine.events import CallOutput, Event, RunStarted, TaskFinished
from sloth.inventory import Inventory
from tests.support.edited_host import edited_hosts
from tests.support.jobs import Job
from tests.support.running import finished_hosts

pytestmark = pytest.mark.timeout(120)


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
