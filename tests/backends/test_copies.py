"""A copy to another backend that fails anywhere is completed by the next one, and says what it does."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sloth.errors import StateError
from sloth.state.backends.backend import BackendError
from sloth.state.backends.documents import Change, change, load
from sloth.state.backends.sqlite import SQLite
from sloth.state.shared_locks import Grant, SharedLocks
from sloth.state.sync.migrate import AT_ONCE, MARK, PASSES, migrate, refuse_incomplete
from tests.support.faulty import Failing, Hanging, Stopping

VALUES = {
    "runs/1": b"1", "runs/2": b"2", "replicas/a/1": b"piece", "replicas/a/head": b"head", "plans/x": b"\0\xff",
    "shared/y": b"y",
}  # fmt: skip
LEFT_OUT = {"locks/x": b"held", "check/1": b"of a check", "sweep": b"when"}
COUNTS = {"plans": 1, "replicas": 2, "runs": 2, "shared": 1}


async def put(backend: SQLite, values: dict[str, bytes]) -> None:
    for name, value in values.items():
        entry = await backend.read(name)
        assert await backend.write(name, value, entry.version if entry is not None else None) is not None


async def content(backend: SQLite) -> dict[str, bytes]:
    """Return all that a backend has."""
    found = {}
    for name in await backend.names(""):
        entry = await backend.read(name)
        assert entry is not None
        found[name] = entry.value
    return found


@pytest.fixture
async def source_file(tmp_path: Path) -> SQLite:
    """A backend with some of everything."""
    backend = SQLite(tmp_path / "source.db")
    await put(backend, VALUES | LEFT_OUT)
    return backend


async def mark(target: SQLite, source: str, is_exact: bool = True) -> None:
    """Mark a backend as a copy that was interrupted."""
    await change(target, MARK, lambda content, now: (Change({"source": source, "is_exact": is_exact}), None))


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
async def test_a_copy_that_fails_anywhere_is_completed(tmp_path: Path, source_file: SQLite, is_late: bool) -> None:
    for number in itertools.count():
        target = Stopping(tmp_path / f"{number}.db")
        target.left, target.is_late = number, is_late
        try:
            await migrate(source_file, target, False)
            break
        except BackendError:
            pass
        target.left = Stopping.left
        there = await content(target)
        assert MARK in there or there in ({}, VALUES), "nobody uses what is not complete"
        assert there.keys() <= {*VALUES, MARK}
        if "replicas/a/head" in there:
            assert "replicas/a/1" in there, "no head without its pieces"
        assert await migrate(source_file, target, False) == COUNTS
        assert await content(target) == VALUES
    assert number > 3 * len(VALUES), "there were as many moments"
    assert await content(source_file) == VALUES | LEFT_OUT


async def test_progress_is_told_entry_by_entry(tmp_path: Path, source_file: SQLite) -> None:
    told: list[tuple[int, int]] = []
    target = SQLite(tmp_path / "b.db")
    assert await migrate(source_file, target, False, lambda done, total: told.append((done, total))) == COUNTS
    once = [(number, len(VALUES)) for number in range(1, len(VALUES) + 1)]
    assert told == once * 2, "the second time it finds that nothing is left"


async def test_a_copy_into_itself_is_refused(source_file: SQLite) -> None:
    with pytest.raises(StateError, match=r"source\.db is both the source and the target"):
        await migrate(source_file, source_file, True)


async def test_an_incomplete_copy_is_no_source(tmp_path: Path, source_file: SQLite) -> None:
    await refuse_incomplete(source_file)
    await mark(source_file, "sqlite:///a.db")
    with pytest.raises(
        BackendError, match=r"source\.db is an incomplete copy of sqlite:///a\.db; hint: complete it: .*"
    ):
        await migrate(source_file, SQLite(tmp_path / "b.db"), True)
    assert await SQLite(tmp_path / "b.db").names("") == []


async def test_the_numbers_of_locks_go_on_where_all_was_copied_to(tmp_path: Path, source_file: SQLite) -> None:
    """What a lock protects refuses smaller numbers than it has seen."""
    before, target = SharedLocks(source_file), SQLite(tmp_path / "target.db")
    for holder in ("ann", "ben", "cid"):
        await before.take("deploy", holder)
        assert holder == "cid" or await before.release("deploy", holder)
    await migrate(source_file, target, False)
    after = SharedLocks(target)
    assert await after.held() == [], "whoever holds one in the source does not hold it in the target"
    taken = await after.take("deploy", "dan")
    assert isinstance(taken, Grant)
    assert taken.number == 4
    await migrate(source_file, target, True)
    assert await after.release("deploy", "dan"), "one that is held by then stays as it is"


async def test_other_data_stays_unless_it_is_forced(tmp_path: Path, source_file: SQLite) -> None:
    for number, other in enumerate(({"runs/9": b"x"}, {"runs/1": b"another"}, {"runs/1": b"1", "runs/9": b"x"})):
        target = SQLite(tmp_path / f"{number}.db")
        await put(target, other | LEFT_OUT)
        text = rf"has other data: {len(other)} entries, {max(other)} for one; hint: choose another prefix, .* --force"
        with pytest.raises(StateError, match=text):
            await migrate(source_file, target, False)
        assert await content(target) == other | LEFT_OUT
        assert await migrate(source_file, target, True) == COUNTS
        assert await content(target) == other | LEFT_OUT | VALUES, "what has no namesake stays"


async def test_what_is_the_same_already_is_no_other_data(tmp_path: Path, source_file: SQLite) -> None:
    target = SQLite(tmp_path / "b.db")
    await put(target, {"runs/1": b"1"})
    assert await migrate(source_file, target, False) == COUNTS
    assert await content(target) == VALUES


async def test_a_copy_of_another_source_is_not_completed_unless_it_is_forced(
    tmp_path: Path, source_file: SQLite
) -> None:
    target = SQLite(tmp_path / "b.db")
    await mark(target, "sqlite:///a.db")
    with pytest.raises(StateError, match=r"b\.db is the target of another copy, of sqlite:///a\.db"):
        await migrate(source_file, target, False)
    await put(target, {"runs/9": b"of a.db"})
    with pytest.raises(StateError, match=r"has other data: 1 entries, runs/9 for one"):
        await migrate(source_file, target, False)
    assert await migrate(source_file, target, True) == COUNTS
    assert await content(target) == VALUES | {"runs/9": b"of a.db"}


@pytest.mark.parametrize("is_exact", [True, False])
async def test_a_copy_that_was_forced_forgets_nothing_when_it_is_completed(
    tmp_path: Path, source_file: SQLite, is_exact: bool
) -> None:
    target = SQLite(tmp_path / "b.db")
    await put(target, {"runs/9": b"there before, or deleted in the source since"})
    await mark(target, source_file.url, is_exact)
    assert await migrate(source_file, target, False) == COUNTS
    assert set(await content(target)) == {*VALUES} | (set() if is_exact else {"runs/9"})


async def test_a_copy_that_fails_after_it_was_forced_is_completed_as_one_that_was_forced(
    tmp_path: Path, source_file: SQLite
) -> None:
    target = Failing(tmp_path / "b.db")
    await put(target, {"runs/9": b"x"})
    target.left = 2
    with pytest.raises(BackendError, match="no space left"):
        await migrate(source_file, target, True)
    target.left = Failing.left
    assert await migrate(source_file, target, False) == COUNTS
    assert await content(target) == VALUES | {"runs/9": b"x"}


class Busy(SQLite):
    """A backend in which somebody writes something else whenever its names are asked for, so many times."""

    times = 0

    async def names(self, prefix: str) -> list[str]:
        found = await super().names(prefix)
        if self.times:
            self.times -= 1
            await put(self, {"runs/1": b"changed %d" % self.times, f"runs/new{self.times}": b"new"})
        return found


async def test_what_is_written_meanwhile_is_copied_or_it_is_said(tmp_path: Path) -> None:
    source, target = Busy(tmp_path / "a.db"), SQLite(tmp_path / "b.db")
    await put(source, VALUES)
    source.times = PASSES - 1  # the first one is before the first pass
    assert (await migrate(source, target, False))["runs"] == 2 + PASSES - 1
    assert await content(target) == await content(source)
    source.times = PASSES + 1
    with pytest.raises(BackendError, match=r"a\.db is written all the time; hint: let no run use it, and repeat"):
        await migrate(source, SQLite(tmp_path / "c.db"), False)
    with pytest.raises(BackendError, match="is an incomplete copy"):
        await refuse_incomplete(SQLite(tmp_path / "c.db"))
    await migrate(source, SQLite(tmp_path / "c.db"), False)
    assert await content(SQLite(tmp_path / "c.db")) == await content(source)


class Losing(SQLite):
    """Loses some of what it has written when its names are asked for the last time."""

    async def names(self, prefix: str) -> list[str]:
        return [name for name in await super().names(prefix) if not name.startswith("runs/")]


async def test_a_target_that_lacks_something_is_not_complete(tmp_path: Path, source_file: SQLite) -> None:
    target = Losing(tmp_path / "b.db")
    with pytest.raises(BackendError, match=r"b\.db lacks runs/1 and 1 more; hint: repeat the command"):
        await migrate(source_file, target, False)
    assert await load(target, MARK) is not None


async def test_a_source_gets_only_so_many_requests_at_once(tmp_path: Path) -> None:
    source, target = Hanging(tmp_path / "a.db"), SQLite(tmp_path / "b.db")
    for number in range(3 * AT_ONCE):
        await source.write(f"runs/{number}", b"x", None)
    await migrate(source, target, False)
    assert source.most == AT_ONCE
