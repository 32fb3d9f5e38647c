"""The lock of a site in the test's own process: how it is taken, kept, lost and given back."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from unittest import mock

import pytest

from sloth.engine import site_lock
from sloth.engine.site_lock import SiteLock
from sloth.errors import StateError
from sloth.state.author import who
from sloth.state.backends.backend import BackendError, BackendUnavailable
from sloth.state.backends.documents import Change, change
from sloth.state.shared_locks import Lock
from sloth.state.sync.migrate import MARK
from tests.support.jobs import Job

pytestmark = pytest.mark.timeout(120)


async def until(is_so: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while not await is_so():  # noqa: ASYNC110  tasks and a server make it so
            await asyncio.sleep(0.02)


async def seen(idle: Job, text: str) -> None:
    """Wait until a run has said something."""

    async def is_seen() -> bool:
        return any(text in one for one in idle.texts())

    await until(is_seen)


async def held(idle: Job) -> Lock | None:
    """Return the lock of the site, if anybody has it."""
    return await idle.shared.locks.find(name_of(idle))


def name_of(idle: Job) -> str:
    return f"run:{idle.run.site.identity}"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> float:
    """A lock that is held for less than a second without being renewed."""
    monkeypatch.setattr(site_lock, "TTL", 0.9)
    return 0.9


# Taking it


async def test_it_names_who_has_it_until_it_is_given_back(idle: Job) -> None:
    lock = SiteLock(idle.shared, idle.run, 0)
    with mock.patch.dict("os.environ", CI_JOB_URL="https://ci/1"):
        await lock.take()
    found = await held(idle)
    assert found is not None
    assert (found.name, found.holder) == (name_of(idle), idle.run.run_id)
    assert found.about == {"by": who(), "from": socket.gethostname(), "job": "https://ci/1"}
    assert 25 < found.expires - found.taken <= 30
    assert await lock.release() == ""
    assert await held(idle) is None
    assert (lock.is_taken_over, idle.texts(), idle.run.exit_status()) == (False, [], 0)


async def test_it_is_not_had_while_another_run_keeps_it(idle: Job) -> None:
    await idle.shared.locks.take(name_of(idle), "another", about={"by": "ann"})
    lock = SiteLock(idle.shared, idle.run, 0)
    text = (
        rf"the site is locked by the run another, by ann, since \d+-.*; hint: --lock-wait waits longer; "
        rf"if that run is dead: sloth-runner state unlock '{re.escape(name_of(idle))}'$"
    )
    with pytest.raises(StateError, match=text):
        await lock.take()
    assert idle.texts() == [], "nobody waits"
    assert await lock.release() == ""
    found = await held(idle)
    assert found is not None
    assert found.holder == "another"


async def test_another_run_is_waited_for(idle: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_lock, "POLL", 0.01)
    await idle.shared.locks.take(name_of(idle), "another")
    lock = SiteLock(idle.shared, idle.run, 600)
    taking = asyncio.create_task(lock.take())
    await seen(idle, "waiting up to 600 seconds for the run another, since ")
    await asyncio.sleep(0.1)
    assert not taking.done()
    await idle.shared.locks.release(name_of(idle), "another")
    await asyncio.wait_for(taking, 60)
    found = await held(idle)
    assert found is not None
    assert found.holder == idle.run.run_id
    assert len(idle.texts()) == 1
    assert await lock.release() == ""


async def test_it_is_waited_for_so_long_only(idle: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_lock, "POLL", 0.01)
    await idle.shared.locks.take(name_of(idle), "another")
    with pytest.raises(StateError, match="the site is locked by the run another"):
        await asyncio.wait_for(SiteLock(idle.shared, idle.run, 0.2).take(), 60)
    assert len(idle.texts()) == 1


@pytest.mark.parametrize("hint", ["", "see there"])
async def test_a_backend_that_fails_keeps_the_run_from_beginning(idle: Job, hint: str) -> None:
    class Special(BackendError):
        pass

    lock = SiteLock(idle.shared, idle.run, 0)
    with (
        mock.patch.object(idle.backend, "read", side_effect=Special("no route to host", hint=hint)),
        pytest.raises(Special) as found,
    ):
        await lock.take()
    assert found.value.message == "the site cannot be locked: no route to host"
    assert found.value.hint == (hint or "with --no-lock it is run all the same, and nothing keeps other runs out")
    assert await lock.release() == ""


@pytest.mark.parametrize(("least", "wait"), [(0.05, 0), (0.01, 0.1)])
async def test_a_backend_that_is_away_is_waited_for_a_while(
    idle: Job, monkeypatch: pytest.MonkeyPatch, least: float, wait: float
) -> None:
    monkeypatch.setattr(site_lock, "LEAST", least)
    calls = 0

    async def away(key: str) -> None:
        nonlocal calls
        calls += 1
        raise BackendUnavailable("no route to host")

    monkeypatch.setattr(idle.backend, "read", away)
    with pytest.raises(BackendUnavailable, match="the site cannot be locked: no route to host"):
        await asyncio.wait_for(SiteLock(idle.shared, idle.run, wait).take(), 15)  # it is PATIENCE otherwise, 30 s
    assert calls > 1


async def test_a_backend_that_is_an_incomplete_copy_is_not_locked(idle: Job) -> None:
    await change(idle.backend, MARK, lambda content, now: (Change({"source": "sqlite:///a.db"}), None))
    lock = SiteLock(idle.shared, idle.run, 0)
    with pytest.raises(StateError, match=r"the site cannot be locked: .* is an incomplete copy of sqlite:///a\.db"):
        await lock.take()
    assert await lock.release() == ""
    assert await held(idle) is None


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


async def test_a_request_that_ends_late_leaves_no_lock(idle: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    write, has_begun = idle.backend.write, asyncio.Event()

    async def late(key: str, value: bytes, expected: str | None) -> str | None:
        try:
            has_begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            await write(key, value, expected)
            raise
        raise AssertionError

    monkeypatch.setattr(idle.backend, "write", late)
    lock = SiteLock(idle.shared, idle.run, 600)
    taking = asyncio.create_task(lock.take())
    await has_begun.wait()
    idle.run.interrupt()
    await asyncio.wait_for(taking, 30)
    monkeypatch.setattr(idle.backend, "write", write)
    assert await lock.release() == ""
    await asyncio.sleep(0.1)
    assert await held(idle) is None


async def test_a_lock_that_another_run_has_at_the_end_is_said(idle: Job) -> None:
    lock = SiteLock(idle.shared, idle.run, 0)
    await lock.take()
    await idle.shared.locks.release_any(lock.name)
    await idle.shared.locks.take(lock.name, "another")
    said = await lock.release()
    assert f"the lock {lock.name} is held by another" in said
    assert said.endswith("another run has taken it: two runs were at work at the same time")


@pytest.mark.parametrize("is_failing", [True, False], ids=["fails", "hangs"])
async def test_a_lock_that_cannot_be_renewed_in_time_is_said_once(idle: Job, short: float, is_failing: bool) -> None:
    lock = SiteLock(idle.shared, idle.run, 0)
    await lock.take()
    idle.backend.fails = is_failing
    idle.backend.hangs = not is_failing
    await seen(idle, "could not be renewed")
    await asyncio.sleep(short)  # and once only
    idle.backend.fails = idle.backend.hangs = False
    await lock.release()
    text = idle.texts()[0]
    why = "no route to host" if is_failing else "the backend does not answer"
    assert text.startswith(
        f"the lock of the site was lost: it could not be renewed within 0.9 seconds: {why}. The work"
    )
    assert sum("could not be renewed" in one for one in idle.texts()) == 1


# Keeping it


async def test_it_is_kept_for_as_long_as_the_run_takes(idle: Job, short: float) -> None:
    lock = SiteLock(idle.shared, idle.run, 0)
    await lock.take()
    first = await held(idle)
    assert first is not None

    async def is_later() -> bool:
        now = await held(idle)
        return now is not None and now.expires > first.expires + short

    await until(is_later)
    now = await held(idle)
    assert now is not None
    assert (now.number, now.taken) == (first.number, first.taken)
    assert await lock.release() == ""
    assert idle.texts() == []


async def test_one_that_expired_is_taken_again_if_nobody_had_it_since(idle: Job, short: float) -> None:
    lock = SiteLock(idle.shared, idle.run, 0)
    await lock.take()
    for number in (2, 3):
        idle.backend.fails = True
        await until(lambda: expired(idle))
        idle.backend.fails = False

        async def is_again(number: int = number) -> bool:
            now = await held(idle)
            return now is not None and now.number == number

        await until(is_again)
        await until(lambda: asyncio.sleep(0, len(idle.texts()) == 2 * (number - 1)))  # noqa: B023
    assert ["again" in text for text in idle.texts()] == [False, True] * 2
    assert idle.texts()[1] == "the lock of the site is held again: no other run had it meanwhile"
    assert await lock.release() == ""
    assert (lock.is_taken_over, idle.run.exit_status()) == (False, 0)


async def expired(idle: Job) -> bool:
    """Return whether the backend fails and the run has said that the lock is lost since it last said something else."""
    return bool(idle.texts()) and "could not be renewed" in idle.texts()[-1]


async def test_one_that_somebody_has_released_is_said_once_and_then_lost_to_who_takes_it(
    idle: Job, short: float
) -> None:
    lock = SiteLock(idle.shared, idle.run, 0)
    await lock.take()
    await idle.shared.locks.release_any(lock.name)
    await seen(idle, "somebody has released the lock of the site: another run may begin")
    await asyncio.sleep(short)
    assert await held(idle) is None, "somebody wanted it so"
    assert len(idle.texts()) == 1
    assert idle.run.exit_status() == 0
    await idle.shared.locks.take(lock.name, "another")
    await seen(idle, "the lock of the site was lost, and the run another, since ")
    assert idle.texts()[1].endswith(" has taken it: two runs were at work at the same time")
    assert lock.is_taken_over
    assert idle.run.exit_status() == 1
    await asyncio.sleep(short)
    assert await lock.release() == "", "it was said"
    found = await held(idle)
    assert found is not None
    assert found.holder == "another"
    assert len(idle.texts()) == 2


async def test_one_that_another_run_had_meanwhile_is_lost(idle: Job, short: float) -> None:
    lock = SiteLock(idle.shared, idle.run, 0)
    await lock.take()
    await idle.shared.locks.release_any(lock.name)
    await idle.shared.locks.take(lock.name, "another")
    await idle.shared.locks.release(lock.name, "another")
    await seen(idle, "the lock of the site was lost, and another run has taken it: two runs were at work")
    assert lock.is_taken_over
    assert await lock.release() == ""


# Giving it back


async def test_one_that_another_run_had_meanwhile_is_found_out_when_it_is_given_back(idle: Job) -> None:
    lock = SiteLock(idle.shared, idle.run, 0)
    await lock.take()
    await idle.shared.locks.release_any(lock.name)
    await idle.shared.locks.take(lock.name, "another")
    await idle.shared.locks.release(lock.name, "another")
    said = await lock.release()
    assert said == (
        "the lock of the site was lost, and another run has taken it: two runs were at work at the same time"
    )
    assert lock.is_taken_over


async def test_one_that_somebody_has_released_needs_not_be_given_back(idle: Job) -> None:
    lock = SiteLock(idle.shared, idle.run, 0)
    await lock.take()
    await idle.shared.locks.release_any(lock.name)
    assert await lock.release() == ""
    assert not lock.is_taken_over


async def test_one_that_cannot_be_given_back_expires_by_itself(idle: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_lock, "RELEASE", 0.05)
    lock = SiteLock(idle.shared, idle.run, 0)
    idle.backend.fails = True
    assert await lock.release() == "", "it was never taken"
    idle.backend.fails = False
    await lock.take()
    for fails, why in ((True, "no route to host"), (False, "the backend does not answer")):
        idle.backend.fails, idle.backend.hangs = fails, not fails
        said = await asyncio.wait_for(lock.release(), 60)
        text = rf"the lock {re.escape(lock.name)} was not released: {why}; it expires by itself in (\d+) seconds"
        found = re.fullmatch(text, said)
        assert found is not None, said
        assert 20 < int(found[1]) <= 30
    idle.backend.hangs = False
    assert await held(idle) is not None
