"""Two runs are compared by the versions of a replica: what is said is so, or it is said that it is not known."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sloth.errors import StateError, StateNotFound
from sloth.payload.state.store import Store
from sloth.state.author import author
from sloth.state.backends.sqlite import SQLite
from sloth.state.queries import Difference
from sloth.state.run_values import RunCounts, RunHost, RunKind, RunResult
from sloth.state.sync import versions
from sloth.state.sync.compare import compare
from sloth.state.sync.entries import KEPT, head_key, run_key
from sloth.state.sync.fetch import Fetching
from tests.support.replicas import Controller, changed, record_on
from tests.support.stores import record

ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS") or 12)
NO_RECORD = "does not have what web1 was at the end of run "
States = dict[str, tuple[Any, Any]]
Work = list[tuple[str, dict[str, int] | None]]

WORK: st.SearchStrategy[Work] = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.none() | st.dictionaries(st.sampled_from("xy"), st.integers(0, 2), max_size=2)
    ),
    max_size=3,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["run", "run", "edit", "late"]), st.sampled_from(["one", "two"]), WORK),
        st.tuples(st.sampled_from(["anew", "restore"]), st.just("one"), st.just([])),
    ),
    min_size=2,
    max_size=8,
)


def states_of(host: Store) -> States:
    """Return what a host has recorded of each resource: what it is, and what it was before the first change."""
    return {one.key: (one.observed, one.before_first_change) for one in host.records.select()}


def expected(one: States, other: States) -> dict[str, tuple[Any, Any]]:
    """Return what was and what is, of each resource that differs."""
    found = {}
    for key in {*one, *other}:
        after, first = other.get(key, (None, None))
        before = one[key][0] if key in one else first
        if before != after:
            found[key] = before, after
    return found


def holds_together(row: Difference) -> bool:
    """Return whether what is listed attribute by attribute is what lies between the two states."""
    if row.diff.get("exists") != (
        {"before": row.before is not None, "after": row.after is not None}
        if (row.before is None) != (row.after is None)
        else None
    ):
        return False
    before, after = row.before or {}, row.after or {}
    listed = {name: (one["before"], one["after"]) for name, one in row.diff.items() if name != "exists"}
    return listed == {
        name: (before.get(name), after.get(name)) for name in {*before, *after} if before.get(name) != after.get(name)
    }


async def answer(work: Coroutine[object, object, list[Difference]]) -> list[Difference] | str:
    try:
        return await work
    except StateError as error:
        return str(error)


def work_on(host: Store, work: Work) -> None:
    for name, value in work:
        if value is None:
            host.records.forget(f"m:t:{name}")
        else:
            record(host, f"m:t:{name}", json.dumps(value), value, value, True, first=({"x": 0},))
        host.commit()


@settings(deadline=None, max_examples=ROUNDS, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_what_is_said_is_what_lies_between_the_states(steps: list[tuple[str, str, Work]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_go(Path(directory), steps))


async def _go(directory: Path, steps: list[tuple[str, str, Work]]) -> None:
    """Compare all runs.

    late: what a run has changed is delivered with what comes next, so nobody knows what it was at its end. What has
    changed without any run, such as a host that was set up anew, is delivered by who sees it first.
    """
    backend = SQLite(directory / "backend.db")
    controllers = {name: Controller(directory / name, backend) for name in ("one", "two")}
    host, ends, unknown = Store(None), dict[str, States](), set[str]()
    is_new = False
    for number, (step, name, work) in enumerate(steps):
        controller = controllers[name]
        if step == "anew":
            host, is_new = Store(None), True
        elif step == "edit":
            is_new = False
            work_on(host, work)
            controller.visit(host)
            await controller.deliver()
        elif step == "restore":
            if await backend.read(head_key("web1")) is not None:
                await versions.restore(backend, head_key("web1"), 1, author())
        else:
            run = f"20260101-000000-{number:06}"
            changed = controller.run(run, host, partial(work_on, host, work))
            ends[run] = states_of(host)
            if step == "run" or is_new:
                is_new = False
                await controller.deliver()
            elif changed:
                unknown.add(run)
    for controller in controllers.values():
        await controller.deliver()
    job = Controller(directory / "job", backend)
    await Fetching(job.memory, backend).runs()
    for first, last in itertools.product(ends, repeat=2):
        before, after = sorted((first, last))
        found = await answer(compare(backend, job.memory, "web1", first, last))
        if isinstance(found, str):
            assert unknown, found
            assert NO_RECORD in found
            continue
        assert {row.key: (row.before, row.after) for row in found} == expected(ends[before], ends[after])
        assert all(map(holds_together, found))
        assert [row.key for row in found] == sorted(row.key for row in found)
    for controller in (*controllers.values(), job):
        controller.memory.close()
    await backend.close()


class Place:
    """A host, two controllers that visit it, and one that only compares."""

    def __init__(self, path: Path) -> None:
        self.backend = SQLite(path / "backend.db")
        self.one, self.two, self.job = (Controller(path / name, self.backend) for name in ("one", "two", "job"))
        self.host = Store(None)

    def set(self, **values: int) -> None:
        """Record values on the host."""
        for name, value in values.items():
            record_on(self.host, name, value)

    async def run(self, run: str, **values: int) -> None:
        """Let a run record values, and deliver them."""
        self.one.run(run, self.host, lambda: self.set(**values))
        await self.one.deliver()

    async def refused(self, first: str, last: str) -> str:
        """Return why two runs are not compared."""
        with pytest.raises(StateError) as found:
            await self.compared(first, last)
        return str(found.value)

    async def compared(self, first: str, last: str, agent: str = "web1") -> dict[str, tuple[Any, Any]]:
        """Return what differs, by key, as the controller that only compares sees it."""
        await Fetching(self.job.memory, self.backend).runs()
        found = await compare(self.backend, self.job.memory, agent, first, last)
        return {row.key.rpartition(":")[2]: (row.before, row.after) for row in found}


@pytest.fixture
async def compared_place(tmp_path: Path) -> AsyncIterator[Place]:
    """A place with nothing in it yet."""
    place = Place(tmp_path)
    yield place
    await place.backend.close()


async def test_a_version_that_was_restored_is_not_what_the_host_was(compared_place: Place) -> None:
    place = compared_place
    await place.run("1", a=1)
    await place.run("2", a=2)
    await versions.restore(place.backend, head_key("web1"), 1, author())
    await place.run("3")
    assert await place.compared("2", "3") == {}
    assert await place.compared("1", "3") == {"a": ({"v": 1}, {"v": 2})}


async def test_the_end_of_a_run_is_not_that_of_one_before_changes_that_were_never_delivered(
    compared_place: Place,
) -> None:
    """The backend was away for two runs, of which the second one changed nothing."""
    place = compared_place
    await place.run("1", a=1)
    place.one.run("2", place.host, lambda: record_on(place.host, "a", 2))
    place.one.run("3", place.host)
    await place.run("4", a=4)
    for run in ("2", "3"):
        with pytest.raises(
            StateError, match=rf"does not have what web1 was at the end of run {run}.*leave out --cached"
        ):
            await place.compared("1", run)
    assert await place.compared("1", "4") == {"a": ({"v": 1}, {"v": 4})}


NOTHING_RECORDED = (
    RunResult("web1", "t", "exec:run:x", "changed", "run", "", ""),  # an action
    RunResult("web1", "t", "m:t:a", "failed", "", "", "no"),
    RunResult("web1", "t", "", "failed", "", "", "no"),
    RunResult("web1", "t", "m:t:a", "frozen", "", "", ""),
    RunResult("web2", "t", "m:t:a", "changed", "new", "", ""),
)


@pytest.mark.parametrize("row", NOTHING_RECORDED, ids=lambda row: f"{row.host} {row.status} {row.key}")
async def test_a_run_that_has_changed_no_resource_is_like_the_one_before(compared_place: Place, row: RunResult) -> None:
    place = compared_place
    await place.run("1", a=1)
    await place.run("2", a=2)
    place.one.run("3", place.host, results=[row])
    await place.run("4")
    for last in ("3", "4"):
        assert await place.compared("1", last) == {"a": ({"v": 1}, {"v": 2})}
        assert await place.compared("2", last) == {}
    await place.run("5", a=5)
    assert await place.compared("5", "3") == {"a": ({"v": 2}, {"v": 5})}, "whatever comes first"


async def test_what_differs_is_listed(compared_place: Place) -> None:
    place = compared_place
    place.one.run("1", place.host, lambda: work_on(place.host, [("a", {"x": 1, "y": 1}), ("b", {"x": 1})]))
    await place.one.deliver()
    place.one.run("2", place.host, lambda: work_on(place.host, [("a", {"x": 2, "z": 1}), ("b", None), ("c", {"y": 1})]))
    await place.one.deliver()
    await Fetching(place.job.memory, place.backend).runs()
    found = await compare(place.backend, place.job.memory, "web1", "1", "2")
    assert {row.key: row.diff for row in found} == {
        "m:t:a": {
            "x": {"before": 1, "after": 2},
            "y": {"before": 1, "after": None},
            "z": {"before": None, "after": 1},
        },
        "m:t:b": {"exists": {"before": True, "after": False}, "x": {"before": 1, "after": None}},
        "m:t:c": {"x": {"before": 0, "after": None}, "y": {"before": None, "after": 1}},
    }, "c was something before its first change"


async def test_a_check_changes_nothing(compared_place: Place) -> None:
    place = compared_place
    await place.run("1", a=1)
    place.one.memory.runs.begin("2", "site", "ann", 1, kind=RunKind.CHECK)
    rows, hosts = [changed("m:t:a")], [RunHost("web1", "ok")]
    place.one.memory.runs.end("2", counts=RunCounts(), seconds=1.0, status=0, results=rows, hosts=hosts)
    await place.run("3")
    assert await place.compared("1", "2") == await place.compared("1", "3") == {}


async def test_before_the_first_change_there_was_nothing_that_is_known(compared_place: Place) -> None:
    place = compared_place
    await place.run("1")
    await place.run("2", a=1, b=2)
    assert await place.compared("1", "2") == {"a": (None, {"v": 1}), "b": (None, {"v": 2})}
    assert await place.compared("1", "last") == await place.compared("1", "2")
    found = await compare(place.backend, place.job.memory, "web1", "1", "2")
    assert found[0].diff == {"exists": {"before": False, "after": True}, "v": {"before": None, "after": 1}}
    assert await place.compared("last", "2") == {}


async def test_a_run_that_began_while_another_one_was_at_work_ends_with_what_that_one_has_changed(
    compared_place: Place,
) -> None:
    """It has waited for the host's lock."""
    place, second = compared_place, compared_place.two.memory.runs
    place.one.run("1", place.host, lambda: (second.begin("2", "site", "ben", 1), place.set(a=1)))
    await place.one.deliver()
    await place.two.fetch()
    place.two.visit(place.host, "2")
    second.end("2", counts=RunCounts(), seconds=1.0, status=0, hosts=[RunHost("web1", "ok")])
    await place.two.deliver()
    await place.run("3", a=3)
    assert await place.compared("1", "2") == {}
    assert await place.compared("2", "3") == {"a": ({"v": 1}, {"v": 3})}


async def test_before_the_first_version_there_was_nothing_either(compared_place: Place) -> None:
    place = compared_place
    place.one.run("1", place.host)
    await place.run("2", a=2)
    assert await place.compared("1", "2") == {"a": (None, {"v": 2})}
    await place.run("3", a=3)
    assert await place.compared("1", "3") == {"a": (None, {"v": 3})}


async def test_what_is_older_than_all_versions_is_not_known(compared_place: Place) -> None:
    place = compared_place
    await place.run("0")
    await place.run("1", a=1)
    await place.run("1b")
    for number in range(2, KEPT + 2):
        await place.run(f"{number}", a=number)
    for old in ("0", "1", "1b"):
        said = await place.refused(old, "last")
        assert f"{NO_RECORD}{old}: it keeps {KEPT} versions; hint: leave out --cached" in said
    assert await place.compared("2", "last") == {"a": ({"v": 2}, {"v": KEPT + 1})}
    await place.run("99")
    assert await place.compared("2", "99") == {"a": ({"v": 2}, {"v": KEPT + 1})}
    number = KEPT + 1
    for _ in range(KEPT):
        number = await versions.restore(place.backend, head_key("web1"), number, author())
    assert f"it keeps {KEPT} versions" in await place.refused("0", "1b"), "there is none but what was restored"


async def test_runs_that_are_none_of_this_host_are_refused(compared_place: Place) -> None:
    place = compared_place
    place.one.memory.runs.begin("2", "site", "ann", 1)
    await place.run("1")
    hosts = [RunHost("web1", "unreachable"), RunHost("web2", "ok")]
    place.one.memory.runs.end("2", counts=RunCounts(), seconds=1.0, status=4, hosts=hosts)
    await place.one.deliver()
    assert "run 2 has not reached web1; hint: see sloth-runner runs show" in await place.refused("1", "2")
    assert "run 7 not found" in await place.refused("1", "7")
    with pytest.raises(StateNotFound, match="no run on web3 is recorded; hint: see sloth-runner runs list"):
        await place.compared("last", "1", "web3")
    await place.backend.forget(head_key("web1"))
    with pytest.raises(StateNotFound, match="no replica of web1; hint: a run creates it"):
        await place.compared("1", "last")


async def test_a_damaged_version_is_said(compared_place: Place) -> None:
    place = compared_place
    await place.run("1", a=1)
    await place.run("2", a=2)
    first, _ = sorted(name for name in await place.backend.names("replicas/") if not name.endswith("head"))
    await place.backend.forget(first)
    assert f"{first} is missing" in await place.refused("1", "2")


async def test_what_a_run_has_changed_in_the_state_of_another_account_does_not_matter(compared_place: Place) -> None:
    place, root = compared_place, Store(None)
    await place.run("1", a=1)
    place.one.run("2", root, lambda: record_on(root, "of-root", 1), "web1@root")
    await place.one.deliver()
    place.one.run("3", root, lambda: record_on(root, "of-root", 2), "web1@root")
    place.one.run("4", place.host, lambda: place.set(a=4))
    await place.run("5", a=5)
    assert await place.compared("1", "2") == await place.compared("1", "3") == {}
    assert await place.compared("2", "5", "web1@root") == {"of-root": ({"v": 1}, {"v": 2})}
    assert f"{NO_RECORD}4;" in await place.refused("1", "4")
    await place.run("6")
    assert await place.compared("5", "6") == {}


async def test_a_key_that_was_there_in_between_only_is_one_of_this_account(compared_place: Place) -> None:
    place, root = compared_place, Store(None)
    await place.run("1", a=1)
    place.one.run("2", root, lambda: record_on(root, "of-root", 1), "web1@root")
    await place.one.deliver()
    place.one.run("3", place.host, lambda: place.set(b=1))
    place.one.run("4", place.host, lambda: (place.host.records.forget("m:t:b"), place.host.commit()))
    await place.run("5", a=2)
    assert f"{NO_RECORD}3;" in await place.refused("1", "3")
    assert await place.compared("1", "5") == {"a": ({"v": 1}, {"v": 2})}


async def test_what_was_there_before_the_first_delivery_only_is_not_taken_for_nothing(compared_place: Place) -> None:
    place = compared_place
    place.one.run("1", place.host, lambda: place.set(b=1))
    place.one.run("2", place.host)
    place.one.run("3", place.host, lambda: (place.host.records.forget("m:t:b"), place.host.commit()))
    await place.one.deliver()
    assert f"{NO_RECORD}2;" in await place.refused("2", "3")


async def test_a_version_whose_run_is_not_known_any_more_is_of_when_it_was_written(compared_place: Place) -> None:
    place = compared_place
    await place.run("1", a=1)
    await place.run("2")
    await place.run("3", a=3)
    await place.backend.forget(run_key("1"))  # as a sweep does
    assert await place.compared("2", "3") == {"a": ({"v": 1}, {"v": 3})}
