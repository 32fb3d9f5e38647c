"""The locks of state.with_lock: given back however a function ends, and what is said when one was lost meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sloth.engine.events import TaskFinished
from sloth.engine.locks import Locks
from sloth.errors import StateError
from sloth.state.backends.backend import Entry
from sloth.state.backends.sqlite import SQLite
from sloth.state.shared import Shared
from tests.support.running import printed, run_local


class Forgetful(SQLite):
    """A backend of which one read fails once `fails` is there; `has_failed` is set then."""

    fails = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.has_failed = asyncio.Event()

    async def read(self, key: str) -> Entry | None:
        if self.fails and not self.has_failed.is_set():
            self.has_failed.set()
            raise StateError("the disk is gone")
        return await super().read(key)


async def noticed(locks: Locks) -> None:
    """Go on until a lock is known to be lost. Raises StateError then."""
    while True:
        await asyncio.sleep(0.01)
        locks.check("site.sloth:4")


async def test_one_renewal_that_fails_is_not_the_end_of_a_lock(tmp_path: Path) -> None:
    backend = Forgetful(tmp_path / "shared.db")
    locks = Locks(Shared(backend))
    await locks.hold(["l", "me", 3, 0], "site.sloth:3")
    backend.fails = True
    await backend.has_failed.wait()
    locks.check("site.sloth:4")
    assert await locks.release(["l", "me"]) is True


@pytest.mark.parametrize("is_noticed", [False, True])
@pytest.mark.parametrize("taken", [False, True])
async def test_a_lock_that_was_lost_is_an_error_at_its_end(tmp_path: Path, is_noticed: bool, taken: bool) -> None:
    """Also when nothing was done after the loss, and whether or not it was to be renewed since."""
    shared = Shared(SQLite(tmp_path / "shared.db"))
    locks = Locks(shared)
    await locks.hold(["l", "me", 0.2 if is_noticed else 300, 0], "site.sloth:3")
    assert await shared.unlock("l", "me")
    if taken:
        await shared.lock("l", "you", 300)
    if is_noticed:
        with pytest.raises(StateError, match=r"site.sloth:4: the lock l was lost"):
            await noticed(locks)
    with pytest.raises(StateError, match="nothing more is done under it") as raised:
        await locks.release(["l", "me", True])
    assert raised.value.message.startswith("the lock l ")
    assert "site.sloth:3 has taken it" in raised.value.hint


async def test_a_function_that_has_failed_has_its_own_error(tmp_path: Path) -> None:
    shared = Shared(SQLite(tmp_path / "shared.db"))
    locks = Locks(shared)
    await locks.hold(["l", "me", 300, 0], "site.sloth:3")
    await shared.unlock("l", "me")
    assert await locks.release(["l", "me", False]) is False


@pytest.mark.timeout(60)
async def test_a_task_that_ran_out_of_time_finds_its_own_lock_free_when_it_is_tried_again(tmp_path: Path) -> None:
    """So does what runs after its failure. One attempt holds a lock then, and another waits for one."""
    events = await run_local(
        """
local function busy(name) state.with_lock(name, function() exec.run("sleep 60") end) end
task({ name = "a", retries = 1, delay = 0, timeout = 1, ignore_errors = true, run = function()
    state.with_lock("l", function() busy(tostring(state.incr("n"))) end)
end, on_failure = function()
    state.with_lock("l", function() print("on_failure has it") end)
end })
task({ name = "b", timeout = 1, ignore_errors = true, run = function()
    state.lock("taken", "somebody", 300)
    state.with_lock("taken", function() end, { wait = 60 })
end })
task({ name = "c", run = function() print(#state.list("x")) state.with_lock("1", function() end) end })
""",
        tmp_path,
    )
    ended = {event.task: event for event in events if isinstance(event, TaskFinished)}
    assert "task a did not end within 1 seconds" in (ended["a"].error or "")
    assert printed(events) == ["on_failure has it", "0"]
    assert ended["a"].retried == 1
    assert "task b did not end within 1 seconds" in (ended["b"].error or "")
    assert ended["c"].status == "unchanged"


async def test_a_lock_takes_no_fourth_argument(tmp_path: Path) -> None:
    events = await run_local('task({ name = "a", run = function() state.lock("l", "me", 60, 10) end })', tmp_path)
    (ended,) = (event for event in events if isinstance(event, TaskFinished))
    assert "state.lock: invalid number of arguments: 4; hint: state.lock(name, holder, ttl = 300)" in (
        ended.error or ""
    )
