"""Values in pieces: readers and writers at once, writers that are killed, and the sweep of what they leave."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from sloth.state.backends.backend import BackendError, BackendUnavailable, Unsure
from sloth.state.backends.pieced import MARK, OLD, PIECES, Pieced
from sloth.state.backends.sqlite import SQLite
from sloth.state.keys import Damaged


class Small(SQLite):
    """A server that takes 1,000 bytes, with a clock and faults of the test."""

    limit = 1000
    now = 1_000_000_000.0
    before_write: Callable[[str], None] = staticmethod(lambda key: None)
    after_write: Callable[[str], None] = staticmethod(lambda key: None)

    async def clock(self) -> float:
        return self.now

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        assert len(value) <= self.limit
        self.before_write(key)
        version = await super().write(key, value, expected)
        self.after_write(key)
        return version


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A server with a small limit."""
    return Small(tmp_path / "small.db")


def value(size: int = 3500) -> bytes:
    return secrets.token_bytes(size)


async def content(backend: Pieced, key: str) -> bytes | None:
    entry = await backend.read(key)
    return entry.value if entry else None


async def test_a_value_is_replaced_with_its_pieces(small: Small) -> None:
    backend = Pieced(small)
    one, two = value(), value(2500)
    version = await backend.write("a", one, None)
    assert len(await small.names(PIECES)) == 4
    assert await content(backend, "a") == one
    version = await backend.write("a", two, version)
    assert len(await small.names(PIECES)) == 3
    other = Pieced(small)
    assert await content(other, "a") == two
    await other.write("a", b"small", version)
    assert await small.names("") == ["a"]
    await backend.write("b", one, None)
    await other.forget("b")
    assert await small.names("") == ["a"]


async def test_a_writer_who_loses_takes_its_pieces_away(small: Small) -> None:
    backend, rival = Pieced(small), Pieced(small)
    one, two = value(), value()
    version = await backend.write("a", one, None)
    assert await rival.write("a", two, "0") is None
    assert await rival.write("a", two, None) is None
    assert len(await small.names(PIECES)) == 4
    assert await content(rival, "a") == one
    assert await backend.write("a", two, version) is not None
    assert await content(rival, "a") == two


async def test_of_many_writers_one_wins_and_no_piece_is_lost(small: Small) -> None:
    backends = [Pieced(small) for _ in range(6)]
    version = await backends[0].write("a", value(), None)
    for _ in range(5):
        values = [value() for _ in backends]
        for one in backends:
            await one.read("a")
        done = await asyncio.gather(*(one.write("a", new, version) for one, new in zip(backends, values, strict=True)))
        [winner] = [number for number, found in enumerate(done) if found]
        version = done[winner]
        assert await content(Pieced(small), "a") == values[winner]
        assert len(await small.names(PIECES)) == 4


async def test_a_reader_beside_a_writer_has_the_old_or_the_new(small: Small) -> None:
    writer, reader = Pieced(small), Pieced(small)
    values = [bytes([number]) * 3500 for number in range(20)]
    version = await writer.write("a", values[0], None)

    async def write() -> None:
        nonlocal version
        for one in values[1:]:
            version = await writer.write("a", one, version)
            await asyncio.sleep(0.02)

    work = asyncio.ensure_future(write())
    seen = []
    while not work.done():
        seen.append(await content(reader, "a"))
        await asyncio.sleep(0)
    assert set(seen) <= set(values)
    assert len(set(seen)) > 2


async def test_what_a_killed_writer_leaves_is_swept_after_a_day(small: Small) -> None:
    backend = Pieced(small)
    kept = value()
    version = await backend.write("a", kept, None)

    def killed(key: str) -> None:
        if not key.startswith(PIECES):
            raise KeyboardInterrupt

    small.before_write = killed
    with pytest.raises(KeyboardInterrupt):
        await backend.write("a", value(), version)
    with pytest.raises(KeyboardInterrupt):
        await backend.write("b/c", value(), None)
    small.before_write = lambda key: None
    assert len(await small.names(PIECES)) == 12
    assert await backend.sweep() == 0, "their writers may still be at work"
    small.now += OLD + 1
    assert await backend.sweep("b/") == 4
    assert await backend.sweep() == 4
    assert await content(backend, "a") == kept, "what a head names is never swept"
    assert await backend.names("") == ["a"]


async def test_the_next_write_sweeps_the_pieces_of_its_key(small: Small) -> None:
    old = "3b9aca00-00"
    await small.write(f"{PIECES}a/{old}/0", b"x", None)
    await small.write(f"{PIECES}other/{old}/0", b"x", None)
    await small.write(f"{PIECES}a/strange/0", b"x", None)
    small.now += OLD + 1
    await Pieced(small).write("a", value(), None)
    names = await small.names(PIECES)
    assert f"{PIECES}a/{old}/0" not in names
    assert f"{PIECES}other/{old}/0" in names
    assert f"{PIECES}a/strange/0" in names, "what is not ours stays"


async def test_answers_that_are_lost_lose_no_piece(small: Small) -> None:
    backend = Pieced(small)
    lost = set()

    def lose(key: str) -> None:
        if key not in lost:
            lost.add(key)
            raise Unsure("lost")

    small.after_write = lose
    one = value()
    with pytest.raises(Unsure):
        await backend.write("a", one, None)
    assert len(lost) == 5
    assert await content(backend, "a") == one, "the head was written, and all that it names"


async def test_a_refused_piece_is_the_write_s_error(small: Small) -> None:
    def refuse(key: str) -> None:
        raise BackendError("full")

    small.before_write = refuse
    with pytest.raises(BackendError, match="full") as caught:
        await Pieced(small).write("a", value(), None)
    assert not isinstance(caught.value, BackendUnavailable)
    assert await small.names("") == []


@pytest.mark.parametrize("damage", ["missing", "altered", "short", "head", "count"])
async def test_damage_is_found(small: Small, damage: str) -> None:
    backend = Pieced(small)
    await backend.write("a", value(), None)
    piece = sorted(await small.names(PIECES))[1]
    head = await small.read("a")
    assert head is not None
    if damage in ("head", "count"):
        bad = MARK + b"{]" if damage == "head" else head.value.replace(b'"count": 4', b'"count": 999999999')
        await small.write("a", bad, head.version)
    else:
        await small.forget(piece)
        if damage != "missing":
            await small.write(piece, bytes(1000 if damage == "altered" else 1), None)
    with pytest.raises(Damaged, match=r"pieces of a are missing or altered|the head of a is damaged"):
        await Pieced(small).read("a")


async def test_the_names_of_pieces_are_nobody_s(small: Small) -> None:
    with pytest.raises(BackendError, match="cannot begin with"):
        await Pieced(small).write(f"{PIECES}x", b"1", None)


async def test_a_value_that_looks_like_a_head_is_none(small: Small) -> None:
    backend = Pieced(small)
    await backend.write("a", MARK + b"{}", None)
    assert await content(backend, "a") == MARK + b"{}"
