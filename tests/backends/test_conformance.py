"""Every backend does the same, plain and sealed: SQLite, etcd, two dialects of S3, and Consul (a stub)."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import time
import warnings
from collections.abc import Callable

import pytest

from sloth.state.backends import etcd
from sloth.state.backends.backend import Backend, BackendError, BackendUnavailable
from sloth.state.backends.check import Aspect, Verdict, check
from sloth.state.backends.documents import Change, change, load
from sloth.state.backends.location import open_backend, parse
from sloth.state.backends.pieced import PIECES, Pieced
from sloth.state.keys import Keys

WRITERS = 20 if "SLOTH_ATTACK_ROUNDS" in os.environ else 6
NAMES = [
    "plain",
    "with space",
    "ünïcödé/日本語",
    "100%/%41/%2F",
    "a//b",
    "/leading",
    "trailing/",
    "//",
    "dots/../up/./here",
    "?a=b&c#d",
    "plus+tilde~'quotes\"()*!",
    "back\\slash",
    "a=2Fb=",
    "x.value/y.value",
    "Case",
    "case",
    "new\nline\ttab",
    "😀" * 50,
    "l" * 200,
    "é" * 200,
    "deep/" * 20 + "end",
]


async def test_a_value_is_created_once(any_backend: Backend) -> None:
    assert await any_backend.read("a/b") is None
    first = await any_backend.write("a/b", b"1", None)
    assert first is not None
    assert await any_backend.write("a/b", b"2", None) is None
    entry = await any_backend.read("a/b")
    assert entry is not None
    assert (entry.value, entry.version) == (b"1", first)


async def test_a_value_is_written_only_where_it_is_as_expected(any_backend: Backend) -> None:
    assert await any_backend.write("a", b"0", "5") is None, "nothing is there"
    first = await any_backend.write("a", b"1", None)
    second = await any_backend.write("a", b"2", first)
    assert second not in (None, first)
    assert await any_backend.write("a", b"3", first) is None
    entry = await any_backend.read("a")
    assert entry is not None
    assert entry.value == b"2"


async def test_the_same_bytes_are_another_version(any_backend: Backend) -> None:
    first = await any_backend.write("a", b"same", None)
    second = await any_backend.write("a", b"other", first)
    third = await any_backend.write("a", b"same", second)
    assert len({first, second, third}) == 3
    assert await any_backend.write("a", b"late", first) is None


async def test_a_value_that_was_deleted_and_created_again_is_another_one(any_backend: Backend) -> None:
    first = await any_backend.write("a", b"same", None)
    await any_backend.forget("a")
    assert await any_backend.read("a") is None
    assert await any_backend.write("a", b"late", first) is None, "it was deleted"
    second = await any_backend.write("a", b"same", None)
    assert second not in (None, first)
    assert await any_backend.write("a", b"late", first) is None
    await any_backend.forget("a")
    await any_backend.forget("a")
    await any_backend.forget("never/there")


async def test_names_may_have_any_characters(any_backend: Backend) -> None:
    for name in NAMES:
        assert await any_backend.write(name, name.encode(), None) is not None, name
    assert await any_backend.names("") == sorted(NAMES)
    for name in NAMES:
        entry = await any_backend.read(name)
        assert entry is not None
        assert entry.value == name.encode(), name
        assert await any_backend.write(name, b"new", entry.version) is not None, name
        expected = sorted(one for one in NAMES if one.startswith(name[:-1]))
        assert await any_backend.names(name[:-1]) == expected, name
    for name in NAMES:
        await any_backend.forget(name)
    assert await any_backend.names("") == []


async def test_a_name_may_be_that_of_a_directory_and_prefixes_are_text(any_backend: Backend) -> None:
    for name in ("a", "a/b", "a/b/c", "ab", "b"):
        assert await any_backend.write(name, name.encode(), None) is not None
    assert await any_backend.names("a") == ["a", "a/b", "a/b/c", "ab"]
    assert await any_backend.names("a/") == ["a/b", "a/b/c"]
    assert await any_backend.names("a/b") == ["a/b", "a/b/c"]
    assert await any_backend.names("c") == []
    await any_backend.forget("a")
    assert await any_backend.names("a") == ["a/b", "a/b/c", "ab"]


async def test_more_names_than_fit_on_a_page(any_backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 1234 if "SLOTH_ATTACK_ROUNDS" in os.environ else 123
    monkeypatch.setattr(etcd, "PAGE", count // 5)  # S3 has pages of 1,000, whatever one asks for
    await asyncio.gather(*(any_backend.write(f"many/{number:04}", b"x", None) for number in range(count)))
    assert await any_backend.names("many/") == [f"many/{number:04}" for number in range(count)]
    assert len(await any_backend.names("many/010")) == 10


@pytest.mark.parametrize(
    "value", [b"", b"\0", bytes(range(256)) * 10, b"sloth-runner pieces 1 {}", b"sloth-runner sealed 1 {}\nx"]
)
async def test_values_are_bytes(any_backend: Backend, backend_keys: Keys | None, value: bytes) -> None:
    if backend_keys is None and value.startswith(b"sloth-runner sealed"):
        pytest.skip("without keys, it is taken for a sealed one")
    version = await any_backend.write("a", value, None)
    entry = await any_backend.read("a")
    assert entry is not None
    assert (entry.value, entry.version) == (value, version)
    assert await any_backend.write("a", b"", version) is not None


async def test_sizes_around_the_limit_and_above(any_backend: Backend) -> None:
    assert isinstance(any_backend, Pieced)
    size = min(any_backend.piece_size, 4 * 1024 * 1024)
    for more in (-1, 0, 1, size + 7):
        value = secrets.token_bytes(size + more)
        key = f"large{more}"
        version = await any_backend.write(key, value, None)
        entry = await any_backend.read(key)
        assert entry is not None
        assert entry.value == value
        assert entry.version == version
        assert await any_backend.write(key, b"small", version) is not None
    assert sorted(await any_backend.names("")) == sorted(f"large{more}" for more in (-1, 0, 1, size + 7))
    left = await any_backend._backend.names(PIECES)
    assert left == [], "the pieces of what was replaced are gone"


def test_a_backend_can_be_closed_and_used_again_in_another_event_loop(
    server_url: str, backend_keys: Keys | None
) -> None:
    backend = open_backend(parse(server_url), backend_keys)

    async def use(number: int) -> list[str]:
        await backend.write(f"loop/{number}", b"x", None)
        return await backend.names("loop/")

    async def close() -> None:
        await backend.close()
        await backend.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # connections of a loop that has ended cannot be closed
        assert asyncio.run(use(1)) == ["loop/1"]
        assert asyncio.run(use(2)) == ["loop/1", "loop/2"]
        asyncio.run(close())
        assert asyncio.run(use(3)) == ["loop/1", "loop/2", "loop/3"]
        asyncio.run(close())
        gc.collect()


async def test_many_requests_at_once(any_backend: Backend) -> None:
    async def one(number: int) -> None:
        version = await any_backend.write(f"n/{number}", b"%d" % number, None)
        entry = await any_backend.read(f"n/{number}")
        assert entry is not None
        assert (entry.value, entry.version) == (b"%d" % number, version)

    await asyncio.gather(*(one(number) for number in range(40)))


async def test_of_many_writers_one_wins(any_backend: Backend) -> None:
    created = await asyncio.gather(*(any_backend.write("a", b"%d" % number, None) for number in range(WRITERS)))
    assert sum(version is not None for version in created) == 1
    [version] = [version for version in created if version is not None]
    changed = await asyncio.gather(*(any_backend.write("a", b"%d" % number, version) for number in range(WRITERS)))
    assert sum(version is not None for version in changed) == 1


async def test_a_cancelled_request_does_no_harm_to_the_next(any_backend: Backend) -> None:
    await any_backend.write("a", b"1", None)
    await any_backend.write("b", b"2", None)
    for number in range(20):
        task = asyncio.ensure_future(any_backend.read("a"))
        await asyncio.sleep(0.0003 * number)
        task.cancel()
        entry = await any_backend.read("b")
        assert entry is not None
        assert entry.value == b"2"


async def test_the_clock_is_that_of_the_server(any_backend: Backend) -> None:
    assert abs(await any_backend.clock() - time.time()) < 1.5
    first = await any_backend.clock()
    await asyncio.sleep(0.2)
    assert 0.1 < await any_backend.clock() - first < 2


async def test_documents_are_changed_exactly_once(opened: Callable[[], Backend]) -> None:
    backends = [opened() for _ in range(4)]

    async def count(backend: Backend) -> None:
        for _ in range(5):
            await change(backend, "count", lambda content, now: (Change((content or 0) + 1), None))

    await asyncio.gather(*map(count, backends))
    assert await load(backends[0], "count") == 20


async def test_the_check_finds_nothing_wrong(any_backend: Backend, backend_keys: Keys | None) -> None:
    findings = await check(any_backend)
    assert {finding.aspect for finding in findings} == set(Aspect)
    assert [one for one in findings if one.verdict is not Verdict.OK] == []
    [encryption] = [one for one in findings if one.aspect is Aspect.ENCRYPTION]
    assert ("not encrypted" in encryption.text) is (backend_keys is None)
    assert await any_backend.names("check/") == []


async def test_a_value_that_is_too_large_is_refused_at_once(any_backend: Backend) -> None:
    with pytest.raises(BackendError, match="bytes, and a value may have") as caught:
        await any_backend.write("a", bytes(257 * 1024 * 1024), None)
    assert not isinstance(caught.value, BackendUnavailable)
