"""What is due is delivered, whatever interrupts it: complete after the next contact, and once."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from unittest import mock

import pytest

from sloth.errors import StateError
from sloth.payload.state.store import Store
from sloth.state.backends.backend import BackendUnavailable
from sloth.state.backends.documents import Change, change
from sloth.state.backends.sqlite import SQLite
from sloth.state.outbox import Item, Outbox
from sloth.state.run_values import RunCounts
from sloth.state.sync import deliver as delivering
from sloth.state.sync import entries
from sloth.state.sync.deliver import AT_ONCE, Delivery, probe
from sloth.state.sync.entries import head_key, run_key
from sloth.state.sync.fetch import Fetching
from sloth.state.sync.migrate import MARK
from sloth.state.sync.sweep import DONE
from tests.support.faulty import Hanging, Stopping
from tests.support.replicas import Controller, record_on, rows_of

RUNS = ("1", "2", "3")


def waiting(one: Controller) -> list[Item]:
    """Return what is due."""
    assert one.memory.outbox is not None
    return one.memory.outbox.waiting()


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110  tasks and other connections make it so
            await asyncio.sleep(0.005)


async def failure(work: Coroutine[object, object, None]) -> str:
    """Return why work failed; "": it did not."""
    try:
        await work
    except StateError as error:
        return str(error)
    return ""


def work(one: Controller, host: Store) -> None:
    """Let three runs change a host."""
    for number in RUNS:
        one.run(number, host, lambda number=number: record_on(host, number, int(number)))  # type: ignore[misc]


async def is_complete(path: Path, backend: SQLite, host: Store) -> bool:
    """Return whether a new controller finds all of that work, and each thing has one version."""
    new = Controller(path, backend)
    fetching = Fetching(new.memory, backend)
    await fetching.news()
    found = new.rows(), {run: len(await entries.load_versions(backend, run_key(run))) for run in RUNS}
    status = {new.memory.runs.find(run).status for run in RUNS}
    new.memory.close()
    versions = await entries.load_versions(backend, head_key("web1"))
    return fetching.problems == [] and (*found, status, len(versions)) == (
        rows_of(host),
        dict.fromkeys(RUNS, 1),
        {0},
        1,
    )


@pytest.mark.parametrize("is_noted", [True, False], ids=["failed", "killed"])
@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
async def test_a_delivery_that_is_interrupted_anywhere_is_completed_once(
    tmp_path: Path, is_late: bool, is_noted: bool
) -> None:
    """killed: what was delivered by then is not even noted."""
    for number in itertools.count():
        backend, host = Stopping(tmp_path / f"{number}.db"), Store(None)
        one = Controller(tmp_path / f"one{number}", backend)
        work(one, host)
        backend.left, backend.is_late = number, is_late
        with mock.patch.object(Outbox, "done", Outbox.done if is_noted else lambda self, items: None):
            said = await failure(one.deliver())
        assert said in ("", "stopped")
        has_failed = said != ""
        assert bool(waiting(one)) >= has_failed
        one.memory.close()
        backend.left = Stopping.left
        again = Controller(tmp_path / f"one{number}", backend)
        await again.deliver()
        assert waiting(again) == []
        again.memory.close()
        assert await is_complete(tmp_path / f"new{number}", backend, host)
        await backend.close()
        if not has_failed:
            break
    assert number > 8, "there were as many moments"


@pytest.fixture
async def delivered_by(tmp_path: Path) -> AsyncIterator[Controller]:
    """A controller whose backend answers, until a test lets it hang."""
    one = Controller(tmp_path / "one", Hanging(tmp_path / "backend.db"))
    yield one
    one.memory.close()
    await one.backend.close()


def hang(one: Controller, *keys: str) -> None:
    assert isinstance(one.backend, Hanging)
    one.backend.keys = keys


async def test_what_becomes_due_in_a_run_is_delivered_while_it_goes_on(
    delivered_by: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, host, other = delivered_by, Store(None), SQLite(tmp_path / "backend.db")
    one.memory.runs.begin("0", "site", "ann", 1)
    delivery = Delivery(one.memory, one.backend)
    monkeypatch.setattr(delivering, "RETRY", 600.0)
    delivery.start()
    await until(lambda: not waiting(one))
    assert await other.names("runs/") == ["runs/0"], "what was due before"
    work(one, host)
    await until(lambda: not waiting(one))
    assert await is_complete(tmp_path / "new", other, host)
    assert await delivery.finish() is None
    one.memory.runs.begin("4", "site", "ann", 1)
    await asyncio.sleep(0.05)
    assert len(waiting(one)) == 1, "nothing is delivered after the end"


async def test_a_backend_that_comes_back_gets_all(delivered_by: Controller, tmp_path: Path) -> None:
    one, backend, host = delivered_by, Stopping(tmp_path / "backend.db"), Store(None)
    backend.left = 0
    delivery = Delivery(one.memory, backend)
    with mock.patch.object(delivering, "RETRY", 0.01):
        delivery.start()
        work(one, host)
        await until(lambda: delivery.problem)
        assert len(waiting(one)) == len(RUNS) + 1
        left = delivery.left()
        assert left is not None
        assert left.startswith(
            "4 entries are not delivered to the backend yet, and will be by the next command: stopped"
        )
        backend.left = Stopping.left
        await until(lambda: not waiting(one))
        assert await delivery.finish() is None
    assert delivery.problem is None
    assert await is_complete(tmp_path / "new", backend, host)


async def test_the_record_of_a_run_that_goes_on_is_delivered_now_and_then(delivered_by: Controller) -> None:
    one, host = delivered_by, Store(None)
    delivery = Delivery(one.memory, one.backend)
    delivery.start()
    one.memory.runs.begin("1", "site", "ann", 1)
    await until(lambda: not waiting(one))
    one.memory.runs.add("1", progress=[("web1", "t", "changed")])
    record_on(host, "a", 1)
    one.visit(host)
    await until(lambda: len(waiting(one)) == 1)
    (version,) = await entries.load_versions(one.backend, run_key("1"))
    assert version["steps"] == 0, "not again at once; what a host has become is delivered at once"
    assert await delivery.finish() is None
    versions = await entries.load_versions(one.backend, run_key("1"))
    assert [each["steps"] for each in versions] == [1, 0]


async def test_the_record_of_a_run_is_delivered_again_in_time(delivered_by: Controller) -> None:
    one = delivered_by
    with mock.patch.object(delivering, "PROGRESS", 0.0):
        delivery = Delivery(one.memory, one.backend)
        delivery.start()
        one.memory.runs.begin("1", "site", "ann", 1)
        async with asyncio.timeout(30):
            while (await entries.load_versions(one.backend, run_key("1")) or [{"steps": 0}])[0]["steps"] == 0:
                await asyncio.sleep(0.05)
                one.memory.runs.add("1", progress=[("web1", "t", "changed")])
        await delivery.finish()


async def test_who_ends_a_run_in_a_hurry_does_not_wait_long(delivered_by: Controller) -> None:
    one = delivered_by
    one.memory.runs.begin("1", "site", "ann", 1)
    hang(one, "runs/")
    for is_hurried, limits in ((True, {"HURRIED": 0.05}), (False, {"DRAIN": 0.05})):
        delivery = Delivery(one.memory, one.backend)
        delivery.start()
        with mock.patch.multiple(delivering, **limits):
            left = await asyncio.wait_for(delivery.finish(is_hurried), 15)
        assert left is not None
        assert left.startswith("1 entry is not delivered to the backend yet, and will be by the next command: ")
        assert left.endswith("backend.db: it takes too long")
    hang(one)
    assert await Delivery(one.memory, one.backend).finish() is None
    assert await one.backend.names("runs/") == ["runs/1"]


async def test_what_hangs_does_not_keep_the_rest(delivered_by: Controller) -> None:
    one = delivered_by
    for number in range(AT_ONCE + 4):
        one.memory.runs.begin(f"{number}", "site", "ann", 1)
    hang(one, *(f"runs/{number}" for number in range(2, 10)))  # and 12 to 19 do not
    with mock.patch.object(delivering, "ATTEMPT", 0.2), pytest.raises(BackendUnavailable, match="it takes too long"):
        await one.deliver()
    assert [item.name for item in waiting(one)] == list("23456789")


async def test_a_backend_gets_only_so_many_requests_at_once(delivered_by: Controller) -> None:
    one = delivered_by
    for number in range(3 * AT_ONCE):
        one.memory.runs.begin(f"{number}", "site", "ann", 1)
    await one.deliver()
    assert isinstance(one.backend, Hanging)
    assert one.backend.most == AT_ONCE
    assert waiting(one) == []


@pytest.mark.parametrize(
    ("is_run", "is_hurried", "sweeps"), [(True, False, True), (True, True, False), (False, False, False)]
)
async def test_only_the_end_of_a_run_that_nobody_hurries_sweeps(
    delivered_by: Controller, is_run: bool, is_hurried: bool, sweeps: bool
) -> None:
    delivery = Delivery(delivered_by.memory, delivered_by.backend)
    if is_run:
        delivery.start()
    assert await delivery.finish(is_hurried) is None
    assert await delivered_by.backend.names("") == ([DONE] if sweeps else [])


async def test_a_sweep_removes_what_it_should_and_keeps_nobody_waiting(
    delivered_by: Controller, tmp_path: Path
) -> None:
    one, other = delivered_by, SQLite(tmp_path / "backend.db")
    orphan = "replicas/web1/1-000000000000"
    await other.write(orphan, b"of a delivery that was killed long ago", None)
    hang(one, DONE)
    delivery = Delivery(one.memory, one.backend)
    delivery.start()
    with mock.patch.object(delivering, "SWEEP", 0.05):
        assert await asyncio.wait_for(delivery.finish(), 15) is None
    assert await other.names("") == [orphan]
    hang(one)
    for left in ([DONE], [orphan, DONE]):  # the second time it is not due
        delivery.start()
        assert await delivery.finish() is None
        assert await other.names("") == left
        await other.write(orphan, b"another one", None)


async def test_a_backend_that_does_not_answer_is_found_out_soon(delivered_by: Controller) -> None:
    one = delivered_by
    await probe(one.backend)
    hang(one, "clock")
    one.memory.runs.begin("1", "site", "ann", 1)
    with (
        mock.patch.object(delivering, "PROBE", 0.05),
        pytest.raises(BackendUnavailable, match=r"backend\.db has not answered within 0\.05 seconds"),
    ):
        await one.deliver()
    hang(one)
    assert await one.backend.names("") == []


async def test_nothing_is_delivered_to_an_incomplete_copy(delivered_by: Controller) -> None:
    one = delivered_by
    await change(one.backend, MARK, lambda content, now: (Change({"source": "sqlite:///a.db"}), None))
    one.memory.runs.begin("1", "site", "ann", 1)
    with pytest.raises(StateError, match=r"is an incomplete copy of sqlite:///a\.db"):
        await one.deliver()
    delivery = Delivery(one.memory, one.backend)
    with mock.patch.object(delivering, "RETRY", 0.01):
        delivery.start()
        await until(lambda: delivery.problem)
        assert await one.backend.names("") == [MARK]
        await one.backend.forget(MARK)
        await until(lambda: not waiting(one))
    assert await delivery.finish() is None
    assert "runs/1" in await one.backend.names("")


async def test_a_file_of_ours_that_cannot_be_read_for_a_while_ends_no_delivery(
    delivered_by: Controller, tmp_path: Path
) -> None:
    one = delivered_by
    one.memory.runs.begin("1", "site", "ann", 1)
    database = sqlite3.connect(tmp_path / "one" / "controller.db", isolation_level=None)
    database.execute("ALTER TABLE outbox RENAME TO away")
    delivery = Delivery(one.memory, one.backend)
    with mock.patch.object(delivering, "RETRY", 0.01):
        delivery.start()
        await until(lambda: delivery.problem)
        assert delivery.left() is None, "that is not known"
        database.execute("ALTER TABLE away RENAME TO outbox")
        database.close()
        await until(lambda: not waiting(one))
    assert await delivery.finish() is None
    assert await one.backend.names("runs/") == ["runs/1"]


async def test_what_is_due_and_not_there_any_more_is_not_due(delivered_by: Controller) -> None:
    one, host = delivered_by, Store(None)
    assert one.memory.outbox is not None
    one.memory.outbox.add_run("gone")
    one.run("1", host, lambda: record_on(host, "a", 1))
    one.memory.replica_path("web1").unlink()
    await one.deliver()
    assert waiting(one) == []
    assert await one.backend.names("") == ["runs/1"]


async def test_what_is_delivered_again_has_no_effect(delivered_by: Controller) -> None:
    one, host = delivered_by, Store(None)
    work(one, host)
    assert one.memory.outbox is not None
    items = one.memory.outbox.waiting()
    await one.deliver()
    before = {name: await one.backend.read(name) for name in await one.backend.names("")}
    for _ in range(2):
        one.memory.outbox.forget_delivered()
        for item in items:
            one.memory.outbox._add(item)
        await one.deliver()
    assert {name: await one.backend.read(name) for name in await one.backend.names("")} == before


async def test_the_end_of_a_run_is_delivered_though_its_beginning_just_was(delivered_by: Controller) -> None:
    one = delivered_by
    one.memory.runs.begin("1", "site", "ann", 1)
    delivery = Delivery(one.memory, one.backend)
    delivery.start()
    await until(lambda: not waiting(one))
    one.memory.runs.end("1", counts=RunCounts(), seconds=1.0, status=0)
    assert await delivery.finish() is None
    found = await entries.load_versions(one.backend, run_key("1"))
    assert [each["has_ended"] for each in found] == [True, False]
