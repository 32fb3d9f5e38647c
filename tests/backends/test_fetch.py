"""What others have delivered is fetched: what is new, all of it, and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from unittest import mock

import pytest

from sloth.payload.state.store import Store
from sloth.state.backends.backend import Entry
from sloth.state.backends.documents import Change, change
from sloth.state.backends.sqlite import SQLite
from sloth.state.run_values import RunCounts
from sloth.state.sync import entries
from sloth.state.sync import fetch as fetching_module
from sloth.state.sync.entries import head_key, is_head, is_piece, run_key
from sloth.state.sync.fetch import AT_ONCE, Fetching
from tests.support.faulty import Hanging
from tests.support.replicas import Controller, record_on, rows_of


class Watched(SQLite):
    """A backend that knows what was read, and whose clock differs from ours.

    Attributes:
        ahead: seconds by which its clock differs.
    """

    ahead = 0.0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads: list[str] = []

    async def read(self, key: str) -> Entry | None:
        self.reads.append(key)
        return await super().read(key)

    async def clock(self) -> float:
        return await super().clock() + self.ahead


class Pair:
    """Two controllers: `one` visits a host and delivers, `two` fetches."""

    def __init__(self, path: Path) -> None:
        self.backend = Watched(path / "backend.db")
        self.one, self.two = Controller(path / "one", self.backend), Controller(path / "two", self.backend)
        self.host = Store(None)

    async def record(self, *names: str) -> None:
        """Record something on the host, and deliver that."""
        for name in names:
            record_on(self.host, name, 1)
        self.one.visit(self.host)
        await self.one.deliver()

    async def pieces(self) -> list[str]:
        """Return the ids of the pieces of the newest version."""
        (newest, *_) = await entries.load_versions(self.backend, head_key("web1"))
        return [piece["id"] for piece in newest["pieces"]]

    async def fetched(self) -> list[str]:
        """Fetch the replica; return which pieces of the newest version were read, by their number."""
        self.backend.reads.clear()
        assert await self.two.fetch() == []
        read = [name.rpartition("/")[2] for name in self.backend.reads if is_piece(name)]
        pieces = await self.pieces()
        return [str(pieces.index(one)) for one in read]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two controllers, and nothing in their backend yet."""
    found = Pair(tmp_path)
    yield found
    for one in (found.one, found.two):
        one.memory.close()
    await found.backend.close()


# Replicas


async def test_only_what_is_new_is_read(pair: Pair) -> None:
    await pair.record("a")
    assert await pair.fetched() == ["0"]
    assert await pair.fetched() == []
    await pair.record("b")
    await pair.record("c")
    assert await pair.fetched() == ["1", "2"]
    await pair.record("d")
    assert await pair.fetched() == ["3"]
    assert await pair.fetched() == []
    assert pair.two.rows() == rows_of(pair.host)
    pair.host = Store(None)
    await pair.record("new")
    assert await pair.fetched() == ["0"]
    assert pair.two.rows() == rows_of(pair.host)


async def test_what_is_fetched_needs_not_be_delivered(pair: Pair) -> None:
    await pair.record("a")
    await pair.fetched()
    assert pair.two.memory.outbox is not None
    pair.two.visit(pair.host)
    assert pair.two.memory.outbox.waiting() == [], "nothing has changed since"


async def test_a_replica_that_lacks_what_is_before_is_read_as_a_whole(pair: Pair) -> None:
    await pair.record("a")
    await pair.fetched()
    await pair.record("b")
    pair.two.memory.replica_path("web1").unlink()
    assert await pair.fetched() == ["1", "0", "1"]
    assert pair.two.rows() == rows_of(pair.host)


@pytest.mark.parametrize("ahead", [7200.0, -7200.0])
async def test_the_backend_s_clock_need_not_be_ours(pair: Pair, ahead: float) -> None:
    pair.backend.ahead = ahead
    await pair.record("a")
    await pair.fetched()
    here, there = (one.memory.seen()["web1"] for one in (pair.two, pair.one))
    assert here[0] == there[0]
    assert abs(here[1] - there[1]) <= 2, "when the host was last seen, by our clock"
    assert await pair.fetched() == []
    pair.host = Store(None)
    record_on(pair.host, "newer", 1)
    await asyncio.sleep(1.1)
    pair.two.visit(pair.host)
    assert await pair.fetched() == [], "what the backend has is older"
    assert pair.two.rows() == rows_of(pair.host)


@pytest.mark.parametrize(("minutes", "is_read"), [(0, False), (10, True)])
async def test_a_smaller_count_of_the_same_file_is_believed_when_it_is_clearly_newer(
    pair: Pair, minutes: int, is_read: bool
) -> None:
    """A host that was restored from a backup counts from there."""
    await pair.record("a")
    await pair.record("b")
    await pair.fetched()
    versions = await entries.load_versions(pair.backend, head_key("web1"))
    at = versions[0]["at"] + minutes * 60
    content = {"format": 1, "versions": [{**versions[1], "version": 3, "at": at}, *versions]}
    await change(pair.backend, head_key("web1"), lambda _, now: (Change(content), None))
    assert await pair.fetched() == (["0"] if is_read else [])
    assert len(pair.two.rows()) == (1 if is_read else 2)


class Overtaken(Watched):
    """Somebody delivers so much, whenever a head has been read, that all pieces become others; so many times."""

    pair: Pair
    times = 0

    async def read(self, key: str) -> Entry | None:
        found = await super().read(key)
        if is_head(key) and self.times:
            self.times -= 1
            other = SQLite(self._path)
            for name in await other.names("replicas/"):
                await other.forget(name)
            assert self.pair.one.memory.outbox is not None
            self.pair.one.memory.outbox.forget_delivered()
            self.pair.one.backend = other
            await self.pair.record(f"new{self.times}")
        return found


@pytest.mark.parametrize("times", [1, 2, 3, 4])
async def test_pieces_that_are_replaced_while_they_are_read(pair: Pair, tmp_path: Path, times: int) -> None:
    await pair.record("a")
    backend = Overtaken(tmp_path / "backend.db")
    backend.pair, backend.times = pair, times
    two = Controller(tmp_path / "two", backend)
    problems = await two.fetch()  # it reads a head to know who is ahead, and then before each of three tries
    if times < 4:
        assert problems == []
        assert two.rows() == rows_of(pair.host)
    else:
        assert ["is missing" in str(problem) for problem in problems] == [True]
    two.memory.close()
    await backend.close()


async def test_what_is_damaged_is_said_and_the_rest_is_fetched(pair: Pair, tmp_path: Path) -> None:
    await pair.record("a")
    await pair.backend.write(head_key("web2"), b'{"ids": [], "content": {"format": 9}}', None)
    await pair.backend.write(run_key("bad"), b"no json", None)
    pair.one.memory.runs.begin("good", "site", "ann", 1)
    await pair.one.deliver()
    fetching = Fetching(pair.two.memory, pair.backend)
    await fetching.news()
    assert sorted(type(problem).__name__ for problem in fetching.problems) == ["Damaged", "NewerFormat"]
    assert pair.two.rows() == rows_of(pair.host)
    assert pair.two.memory.runs.find("good").who == "ann"


async def test_of_agents_that_the_backend_does_not_have_nothing_is_fetched(pair: Pair) -> None:
    fetching = Fetching(pair.two.memory, pair.backend)
    await fetching.replicas(["web1", "../x"])
    assert (fetching.problems, pair.two.memory.seen()) == ([], {})
    assert await fetching.new_agents() == []
    await pair.record("a")
    assert await fetching.new_agents() == ["web1"]
    await fetching.replicas(["web1"])
    assert await fetching.new_agents() == []


async def test_news_are_the_replicas_of_hosts_on_which_others_have_worked(pair: Pair) -> None:
    pair.one.run("1", pair.host, lambda: record_on(pair.host, "a", 1))
    await pair.one.deliver()
    await Fetching(pair.two.memory, pair.backend).news()
    assert pair.two.rows() == rows_of(pair.host)
    await asyncio.sleep(2.1)  # times of whole seconds are compared
    pair.backend.reads.clear()
    await Fetching(pair.two.memory, pair.backend).news()
    assert [name for name in pair.backend.reads if not name.startswith("runs/")] == [], "nobody has worked there since"
    pair.one.run("2", pair.host, lambda: record_on(pair.host, "b", 1))
    await pair.one.deliver()
    await Fetching(pair.two.memory, pair.backend).news()
    assert pair.two.rows() == rows_of(pair.host)


async def test_it_reads_only_so_much_at_once(tmp_path: Path, pair: Pair) -> None:
    for number in range(3 * AT_ONCE):
        pair.one.memory.runs.begin(f"{number}", "site", "ann", 1)
    await pair.one.deliver()
    backend = Hanging(tmp_path / "backend.db")
    assert await Fetching(pair.two.memory, backend).runs() == 3 * AT_ONCE
    assert backend.most == AT_ONCE
    assert len(pair.two.memory.runs.newest(-1)) == 3 * AT_ONCE


# Records of runs


async def test_the_newest_runs_are_fetched_and_older_ones_when_they_are_named(pair: Pair) -> None:
    for number in range(6):
        pair.one.memory.runs.begin(f"2026010{number}-x", "site", "ann", 1)
    pair.one.memory.runs.begin("20251231-x", "site", "ann", 1)
    await pair.one.deliver()
    with mock.patch.multiple(fetching_module, NEWEST=3, BATCH=2):
        fetching = Fetching(pair.two.memory, pair.backend)
        assert await fetching.runs() == 3
        assert set(pair.two.memory.runs.ends()) == {"20260103-x", "20260104-x", "20260105-x"}
        assert await fetching.runs("202601") == 3, "all that begin so"
        assert await fetching.runs("202601") == 0
        assert "20251231-x" not in pair.two.memory.runs.ends()
        assert await fetching.runs() == 1
    assert len(pair.two.memory.runs.ends()) == 7


async def test_runs_that_had_not_ended_are_read_again(pair: Pair) -> None:
    for number in range(4):
        pair.one.memory.runs.begin(f"{number}", "site", "ann", 1)
    pair.two.memory.runs.begin("own", "site", "ben", 1)
    await asyncio.gather(pair.one.deliver(), pair.two.deliver())
    fetching = Fetching(pair.two.memory, pair.backend)
    assert await fetching.runs() == 4
    for number in (0, 3):
        pair.one.memory.runs.end(f"{number}", counts=RunCounts(changed=7), seconds=1.0, status=0)
    await pair.one.deliver()
    pair.backend.reads.clear()
    with mock.patch.object(fetching_module, "UNENDED", 4):  # own, 3, 2, 1
        assert await fetching.runs() == 0
    assert sorted(pair.backend.reads) == ["runs/1", "runs/2", "runs/3"]
    ends = {run: end for run, (end, _) in pair.two.memory.runs.ends().items()}
    assert ends == {"0": False, "1": False, "2": False, "3": True, "own": False}
    assert pair.two.memory.runs.find("3").changed == 7
    pair.backend.reads.clear()
    await fetching.runs()
    assert sorted(pair.backend.reads) == ["runs/0", "runs/1", "runs/2"], "what has ended stays as it is"
