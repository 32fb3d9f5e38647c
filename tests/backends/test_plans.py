"""Saved plans in a backend: written once though answers are lost, and whole whoever else writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from sloth.errors import StateError
from sloth.state.backends import documents
from sloth.state.backends.backend import BackendError
from sloth.state.backends.sqlite import SQLite
from sloth.state.sync import plans
from tests.support.faulty import Lossy


@pytest.fixture(autouse=True)
def quick_tries() -> Iterator[None]:
    with mock.patch.multiple(documents, FIRST_PAUSE=0.0005, LONGEST_PAUSE=0.005):
        yield


async def test_a_plan_is_written_replaced_listed_and_deleted(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "b.db")
    assert await plans.names(backend) == []
    for name, data in (("b", b"1"), ("a.b", b"2"), ("b", b"\0\xff3")):
        await plans.write(backend, name, data)
        assert await plans.read(backend, name) == data
    await backend.write("runs/r", b"x", None)
    assert await plans.names(backend) == ["a.b", "b"]
    await plans.remove(backend, "b")
    for gone in (plans.read, plans.remove):
        with pytest.raises(StateError, match=r"no plan @b in sqlite:.*; hint: see sloth-runner plan list"):
            await gone(backend, "b")
    assert await plans.names(backend) == ["a.b"]


@pytest.mark.parametrize("seed", range(8))
async def test_lost_answers_cost_nothing(tmp_path: Path, seed: int) -> None:
    backend = Lossy(tmp_path / "b.db", 0.5, seed)
    for number in range(6):
        await plans.write(backend, "x", b"%d" % number)
        assert await plans.read(backend, "x") == b"%d" % number


class Contended(SQLite):
    """Somebody else writes just before each of the next writes."""

    rivals = 0

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        if self.rivals:
            self.rivals -= 1
            entry = await self.read(key)
            await super().write(key, b"of a rival %d" % self.rivals, entry.version if entry is not None else None)
        return await super().write(key, value, expected)


async def test_who_writes_last_has_written_whatever_others_do(tmp_path: Path) -> None:
    backend = Contended(tmp_path / "b.db")
    backend.rivals = plans.TRIES - 1
    await plans.write(backend, "x", b"ours")
    assert await plans.read(backend, "x") == b"ours"
    backend.rivals = plans.TRIES
    with pytest.raises(BackendError, match="plans/x is written by others all the time"):
        await plans.write(backend, "x", b"new")
    assert await plans.read(backend, "x") == b"of a rival 0"
    others = [SQLite(tmp_path / "b.db") for _ in range(4)]
    await asyncio.gather(*(plans.write(one, "x", b"%d" % number) for number, one in enumerate(others)))
    assert await plans.read(backend, "x") in {b"0", b"1", b"2", b"3"}


async def test_a_plan_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "b.db")
    await plans.write(backend, "x", b"same")
    before = await backend.read("plans/x")
    await plans.write(backend, "x", b"same")
    assert await backend.read("plans/x") == before
