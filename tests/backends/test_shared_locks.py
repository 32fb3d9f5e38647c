"""Shared values and locks over backends: formats, names, lost answers, killed holders, and locks that are lost."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sloth.engine.locks import Locks
from sloth.errors import StateError
from sloth.payload.kernel.redact import MASK
from sloth.state.backends import documents
from sloth.state.backends.backend import BackendUnavailable, Unsure
from sloth.state.backends.documents import Change, encode_name
from sloth.state.backends.etcd import Etcd
from sloth.state.backends.location import parse
from sloth.state.backends.sqlite import SQLite
from sloth.state.shared import Shared
from sloth.state.shared_locks import Grant, LockLost
from tests.support.etcd import EtcdServer
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from sloth.state.backends.location import EtcdLocation

ROUNDS = int(os.environ.get("SLOTH_LOCK_ROUNDS", "150"))  # 1000 by hand


class Lossy(SQLite):
    """Loses one answer of ten to writes: half of these writes have happened, half have not."""

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        luck = random.random()
        if luck < 0.05:
            raise Unsure("the request was lost")
        version = await super().write(key, value, expected)
        if luck < 0.1:
            raise Unsure("the answer was lost")
        return version


class Away(SQLite):
    """A backend that can go away."""

    is_away = False

    async def read(self, key: str):  # type: ignore[no-untyped-def]  # as that of SQLite
        if self.is_away:
            raise BackendUnavailable("no route to host")
        return await super().read(key)


async def test_values_and_locks_of_format_1_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    database = sqlite3.connect(path)
    database.executescript((ROOT / "tests" / "formats" / "shared-1.sql").read_text())
    database.close()
    shared = Shared(SQLite(path))
    assert await shared.get("release") == {"version": "1.2", "hosts": ["a", "b"]}
    assert await shared.get("deployment:version/ü") == "v1"
    assert await shared.get("old") is None
    assert await shared.get("password") == MASK
    assert await shared.list() == ["deployment:version/ü", "password", "release"]
    (lock,) = await shared.locks.held()
    assert (lock.name, lock.holder, lock.taken) == ("deploy", "ann", 1790000000.0)
    assert await shared.try_lock("deploy", "ben") is False
    assert await shared.unlock("deploy", "ann")
    assert await shared.lock("deploy", "ben") == 2
    await shared.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "%2F", "ü\n", "~", "x" * 3000, "a b?c#d", "\udcff"])
async def test_any_text_is_a_name(tmp_path: Path, name: str) -> None:
    shared = Shared(SQLite(tmp_path / "shared.db"))
    await shared.set(name, 1)
    await shared.set(name + "2", 2)
    assert await shared.get(name) == 1
    assert sorted(await shared.list(name)) == sorted([name, name + "2"])
    assert await shared.lock(name, "me") == 1
    assert [lock.name for lock in await shared.locks.held()] == [name]
    await shared.close()


@given(st.text(max_size=20), st.text(max_size=20))
@example("", "~")
def test_names_stay_apart_in_keys_and_begin_alike(one: str, two: str) -> None:
    first, second = encode_name(one), encode_name(two)
    assert (first == second) == (one == two)
    assert first.isascii()
    assert "/" not in first
    assert first not in ("", ".", "..")
    if one:
        assert encode_name(one + two).startswith(first)


async def test_a_lock_is_never_held_twice_though_answers_are_lost_and_a_holder_is_killed(tmp_path: Path) -> None:
    inside: list[str] = []
    numbers: list[int] = []

    async def worker(me: str) -> None:
        shared = Shared(Lossy(tmp_path / "shared.db"))
        while len(numbers) < ROUNDS:
            number = await shared.try_lock("l", me, 1)
            if number is False:
                await asyncio.sleep(0.002)
                continue
            assert inside == []
            inside.append(me)
            numbers.append(int(number))
            await asyncio.sleep(0)
            inside.remove(me)
            if len(numbers) == ROUNDS // 2:
                return  # as a killed holder does: it does not release it
            await shared.unlock("l", me)

    await asyncio.gather(*(worker(str(number)) for number in range(5)))
    assert len(numbers) >= ROUNDS
    assert numbers == sorted(set(numbers)), "fencing numbers grow strictly"


async def test_ten_of_a_kind_lose_no_increment_though_answers_are_lost(tmp_path: Path) -> None:
    async def worker() -> None:
        shared = Shared(Lossy(tmp_path / "shared.db"))
        for _ in range(10):
            await shared.incr("n")
            while not await shared.cas("c", (before := await shared.get("c")), (before or 0) + 1):
                pass

    await asyncio.gather(*(worker() for _ in range(10)))
    shared = Shared(SQLite(tmp_path / "shared.db"))
    assert (await shared.get("n"), await shared.get("c")) == (100, 100)


async def test_what_cannot_be_known_is_an_error_and_not_a_guess(tmp_path: Path) -> None:
    """More was written after a lost answer than a document has ids of: our write may have been among it."""
    other = SQLite(tmp_path / "b.db")

    class Overrun(SQLite):
        async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
            for number in range(documents.IDS + 5):
                await documents.change(other, key, lambda content, now, n=number: (Change(n), None))  # type: ignore[misc]
            raise Unsure("the answer was lost")

    await documents.change(other, "n", lambda content, now: (Change(0), None))
    with pytest.raises(Unsure, match="too much was written since"):
        await documents.change(Overrun(tmp_path / "b.db"), "n", lambda content, now: (Change(1), None))


async def test_renewal_is_of_the_same_taking_only(tmp_path: Path) -> None:
    locks = Shared(SQLite(tmp_path / "shared.db")).locks
    grant = await locks.take("l", "me", 60)
    assert isinstance(grant, Grant)
    assert (await locks.renew("l", "me", grant.number, 60)).number == grant.number
    await locks.release_any("l")
    with pytest.raises(LockLost, match="somebody has released it"):
        await locks.renew("l", "me", grant.number, 60)
    await locks.take("l", "you", 60)
    with pytest.raises(LockLost, match="you has taken it since"):
        await locks.renew("l", "me", grant.number, 60)
    grant = await locks.take("other", "me", 0)
    assert isinstance(grant, Grant)
    with pytest.raises(LockLost, match="had expired"):
        await locks.renew("other", "me", grant.number, 60)


async def test_people_release_the_lock_that_they_saw_and_no_other(tmp_path: Path) -> None:
    locks = Shared(SQLite(tmp_path / "shared.db")).locks
    await locks.take("l", "me", 60)
    seen = await locks.find("l")
    assert seen is not None
    await locks.release("l", "me")
    await locks.take("l", "you", 60)
    assert await locks.release_any("l", lambda now: now.number == seen.number) is None
    assert (await locks.held())[0].holder == "you"


async def test_a_lock_is_lost_when_the_backend_is_away_for_longer_than_its_ttl(tmp_path: Path) -> None:
    backend = Away(tmp_path / "shared.db")
    locks = Locks(Shared(backend))
    await locks.hold(["l", "me", 0.6, 0], "site.sloth:3")
    await asyncio.sleep(0.8)
    locks.check("site.sloth:4")
    backend.is_away = True
    await asyncio.sleep(1.5)
    with pytest.raises(StateError) as raised:
        locks.check("site.sloth:4")
    assert str(raised.value).startswith("site.sloth:4: the lock l was lost: it could not be renewed in time")
    assert "site.sloth:3 has taken it" in str(raised.value)
    await locks.release_all()


async def test_two_clients_whose_clocks_differ_do_not_both_have_a_lock(tmp_path: Path) -> None:
    class Ahead(SQLite):
        async def clock(self) -> float:
            return time.time() + 0.9

    one, two = Shared(SQLite(tmp_path / "b.db"), 1.0).locks, Shared(Ahead(tmp_path / "b.db"), 1.0).locks
    mine = await one.take("l", "one", 0.3)
    assert isinstance(mine, Grant)
    while not isinstance(await two.take("l", "two", 0.3), Grant):
        pass
    assert time.monotonic() > mine.until, "the first has known before that its time is over"


class LossyEtcd(Etcd):
    """Loses one answer of ten to writes that have happened."""

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        version = await super().write(key, value, expected)
        if random.random() < 0.1:
            raise Unsure("the answer was lost")
        return version


async def test_locks_and_counts_over_a_real_etcd_though_answers_are_lost(etcd_server: EtcdServer) -> None:
    location = cast("EtcdLocation", parse(etcd_server.url("shared")))
    inside: list[str] = []
    numbers: list[int] = []

    async def worker(me: str) -> None:
        shared = Shared(LossyEtcd(location), 1.0)
        try:
            while len(numbers) < ROUNDS // 3:
                number = await shared.try_lock("l/ü", me, 2)
                if number is False:
                    await asyncio.sleep(0.01)
                    continue
                assert inside == []
                inside.append(me)
                numbers.append(int(number))
                await shared.incr("n")
                inside.remove(me)
                if len(numbers) == ROUNDS // 6:
                    return  # as a killed holder does: it does not release it
                await shared.unlock("l/ü", me)
        finally:
            await shared.close()

    await asyncio.gather(*(worker(str(number)) for number in range(4)))
    assert numbers == sorted(set(numbers))
    shared = Shared(Etcd(location), 1.0)
    assert await shared.get("n") == len(numbers)
    await shared.set("short", 1, {"ttl": 1})
    end = time.monotonic() + 30
    while await shared.get("short") is not None:
        assert time.monotonic() < end
        await asyncio.sleep(0.1)
    await shared.close()


async def test_a_lock_over_etcd_is_lost_when_the_server_is_killed_and_kept_when_it_comes_back(tmp_path: Path) -> None:
    server = EtcdServer(tmp_path)
    server.start()
    shared = Shared(Etcd(cast("EtcdLocation", parse(server.url("x")))), 1.0)
    locks = Locks(shared)
    try:
        await locks.hold(["long", "me", 60, 0], "site.sloth:2")
        await locks.hold(["short", "me", 2, 0], "site.sloth:3")
        locks.check("site.sloth:4")
        server.kill()
        end = time.monotonic() + 60
        lost = None
        while lost is None:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
            try:
                locks.check("site.sloth:4")
            except StateError as error:
                lost = error
        assert "the lock short was lost: it could not be renewed in time" in str(lost)
        server.start()
        assert await locks.release(["short", "me", False]) is False
        locks.check("site.sloth:5")
        assert await locks.release(["long", "me"]) is True
    finally:
        await locks.release_all()
        await shared.close()
        server.kill()
