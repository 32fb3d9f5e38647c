"""Copies to another backend, and new keys, are killed at random moments: nothing is lost, doubled or unreadable.

The long form: SLOTH_ATTACK_ROUNDS=100, over each server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sloth.errors import StateError
from sloth.state.backends.backend import Backend
from sloth.state.backends.documents import change, load
from sloth.state.backends.location import open_backend, open_server, parse
from sloth.state.backends.pieced import PIECES
from sloth.state.backends.sqlite import SQLite
from sloth.state.keys import Keys
from sloth.state.sync.deliver import probe
from sloth.state.sync.migrate import MARK, migrate
from tests.support.command import sloth
from tests.support.etcd import EtcdServer
from tests.support.paths import ROOT

ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "2"))
KILLS = 2  # in a row, before it may end
LARGE = 3_000_000  # bytes: in pieces on each server but SQLite
Values = dict[str, bytes]


def some_values(random: random.Random) -> Values:
    found = {f"runs/{number:03}": random.randbytes(random.randrange(2000)) for number in range(60)}
    found |= {f"replicas/h{number}/head": b'{"ids": [], "content": {}}' for number in range(10)}
    found |= {f"replicas/h{number}/1": random.randbytes(5000) for number in range(10)}
    return found | {"plans/large": random.randbytes(LARGE), "shared/tight": random.randbytes(1024 * 1024 - 100)}


async def fill(url: str, values: Values, keys: Keys | None) -> None:
    backend = open_backend(parse(url), keys)
    for name, value in values.items():
        assert await backend.write(name, value, None) is not None
    await backend.close()


async def content(url: str, keys: Keys | None) -> Values:
    """Return all that a backend has but marks and locks; each value must be readable."""
    backend = open_backend(parse(url), keys)
    try:
        found: Values = {}
        for name in await backend.names(""):
            entry = await backend.read(name)
            assert entry is not None
            found[name] = entry.value
        return found
    finally:
        await backend.close()


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sloth", "state", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    return out


def killed_again_and_again(random: random.Random, begin: Callable[[], subprocess.Popen[str]]) -> str:
    """Kill a command at random moments, then let it end; return what it printed."""
    for _ in range(KILLS):
        process = begin()
        time.sleep(random.uniform(0.3, 2.0))
        process.send_signal(random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
        process.communicate(timeout=60)
    return end(begin())


@pytest.fixture(params=["sqlite", "etcd", "seaweed"] if "SLOTH_ATTACK_ROUNDS" in os.environ else ["etcd"])
def target_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Return a new prefix each time."""
    if request.param == "sqlite":
        return lambda: f"sqlite://{tmp_path}/{secrets.token_hex(4)}.db"
    server = request.getfixturevalue(f"{request.param}_server")
    return lambda: str(server.url(secrets.token_hex(4)))


@pytest.fixture
def key_files(tmp_path: Path) -> tuple[Path, Path]:
    """Two files with a key each."""
    from cryptography.fernet import Fernet

    paths = tmp_path / "old.key", tmp_path / "new.key"
    for path in paths:
        path.write_bytes(Fernet.generate_key())
        path.chmod(0o600)
    return paths


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_a_copy_that_is_killed_is_completed(tmp_path: Path, target_url: Callable[[], str], number: int) -> None:
    chance = random.Random(number)
    source, target = f"sqlite://{tmp_path}/source.db", target_url()
    values = some_values(chance)
    await fill(source, values, None)
    out = await asyncio.to_thread(killed_again_and_again, chance, lambda: start("backend", "migrate", source, target))
    assert "all are there" in out
    assert await content(source, None) == await content(target, None) == values


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_a_new_key_that_is_killed_is_completed(
    target_url: Callable[[], str], key_files: tuple[Path, Path], number: int
) -> None:
    chance = random.Random(number)
    url, (old, new) = target_url(), key_files
    values = some_values(chance)
    is_plain = number % 2 == 0
    await fill(url, values, None if is_plain else Keys(old))
    words = ("rekey", "--backend", url, "--key-file", str(old), "--new-key-file", str(new))
    out = await asyncio.to_thread(killed_again_and_again, chance, lambda: start(*words))
    assert "is encrypted with the key" in out
    assert await content(url, Keys(new)) == values
    server = open_server(parse(url))
    for name in await server.names(""):
        entry = await server.read(name)
        assert entry is not None
        assert entry.value.startswith(b"sloth-runner sealed 1"), f"{name} is in plain text"
    await server.close()
    assert ": 0 entries" in end(start(*words))


async def test_a_server_that_is_killed_in_the_middle_costs_nothing(
    tmp_path: Path, key_files: tuple[Path, Path]
) -> None:
    (tmp_path / "etcd").mkdir()
    server, chance = EtcdServer(tmp_path / "etcd"), random.Random(1)
    server.start()
    try:
        source, target, (old, new) = f"sqlite://{tmp_path}/source.db", server.url("x"), key_files
        values = some_values(chance)
        await fill(source, values, None)
        for words in (
            ("backend", "migrate", source, target),
            ("rekey", "--backend", target, "--key-file", str(old), "--new-key-file", str(new)),
        ):
            process = start(*words)
            await asyncio.sleep(chance.uniform(0.5, 1.2))
            server.kill()
            await asyncio.sleep(1)
            server.start()
            await asyncio.to_thread(process.communicate, timeout=120)
            if process.returncode:
                await asyncio.to_thread(end, start(*words))
        assert await content(source, None) == await content(target, Keys(new)) == values
    finally:
        server.kill()


# Two at once, and runs meanwhile


async def test_two_copies_at_once_and_a_run_that_uses_the_target(tmp_path: Path) -> None:
    source, first, second = (SQLite(tmp_path / name) for name in ("a.db", "b.db", "b.db"))
    for number in range(50):
        await source.write(f"runs/{number:03}", b"%d" % number, None)
    assert [await asyncio.gather(migrate(source, first, False), migrate(source, second, False))] == [[{"runs": 50}] * 2]
    assert await first.names("") == await source.names("")
    # The slower one has read an entry, and the faster one is done: what is written then stays.
    waiting, go_on = asyncio.Event(), asyncio.Event()

    class Slow(SQLite):
        async def read(self, key: str) -> object:  # type: ignore[override]
            found = await super().read(key)
            if key == "runs/007":
                waiting.set()
                await go_on.wait()
            return found

    slow, target = Slow(tmp_path / "c.db"), SQLite(tmp_path / "c.db")
    copying = asyncio.create_task(migrate(source, slow, False))
    await waiting.wait()
    with pytest.raises(StateError, match=r"is an incomplete copy of .*a\.db; hint: complete it: sloth-runner state"):
        await probe(target)
    await migrate(source, target, False)
    await probe(target)
    entry = await target.read("runs/007")
    assert entry is not None
    await target.write("runs/007", b"of a run", entry.version)
    go_on.set()
    assert await copying == {"runs": 50}
    entry = await target.read("runs/007")
    assert entry is not None
    assert entry.value == b"of a run"


async def test_two_copies_from_different_sources_do_not_mix(tmp_path: Path) -> None:
    one, other, target = (SQLite(tmp_path / name) for name in ("a.db", "b.db", "c.db"))
    await one.write("runs/1", b"one", None)
    await other.write("runs/2", b"other", None)
    ends = await asyncio.gather(migrate(one, target, False), migrate(other, target, False), return_exceptions=True)
    assert sorted(isinstance(end, StateError) for end in ends) == [False, True]
    assert len(await target.names("")) == 1


async def test_what_was_deleted_since_an_interrupted_copy_does_not_come_back(tmp_path: Path) -> None:
    source, target = SQLite(tmp_path / "a.db"), SQLite(tmp_path / "b.db")
    for name in ("plans/deleted", "plans/kept"):
        await source.write(name, b"x", None)
    await migrate(source, target, False)
    mark = {"source": source.url, "is_exact": True}  # as after a kill before the end
    await change(target, MARK, lambda content, now: (_changed(mark), None))
    await source.forget("plans/deleted")
    await migrate(source, target, False)
    assert await target.names("") == ["plans/kept"]
    await source.forget("plans/kept")
    await source.write("plans/new", b"x", None)
    await migrate(source, target, True)
    assert await target.names("") == ["plans/kept", "plans/new"], "--force leaves what others have there"
    assert await load(target, MARK) is None


def _changed(content: object) -> object:
    from sloth.state.backends.documents import Change

    return Change(content)


async def test_a_copy_while_runs_write_misses_nothing(tmp_path: Path) -> None:
    source, target = SQLite(tmp_path / "a.db"), SQLite(tmp_path / "b.db")
    for number in range(100):
        await source.write(f"runs/{number:03}", b"%d" % number, None)

    async def write() -> None:
        for number in range(40):
            await change(source, f"runs/{number:03}x", lambda content, now: (_changed(1), None))
            await asyncio.sleep(0.001)

    writing = asyncio.create_task(write())
    while not writing.done():
        with contextlib.suppress(StateError):  # the source is written all the time
            await migrate(source, target, False)
    await migrate(source, target, True)
    assert await target.names("") == await source.names("")


# What a key makes larger


@pytest.mark.parametrize("size", [1024 * 1024 - 10, 1024 * 1024, 3 * 1024 * 1024])
async def test_values_that_are_full_in_plain_text_are_encrypted_in_more_pieces(
    etcd_server: EtcdServer, key_files: tuple[Path, Path], size: int
) -> None:
    url, value = etcd_server.url(secrets.token_hex(4)), secrets.token_bytes(size)
    await fill(url, {"plans/x": value}, None)
    server: Backend = open_server(parse(url))
    from sloth.state.backends.rekey import rekey

    assert await rekey(server, Keys(key_files[0]), Keys(key_files[1])) == 1
    assert await content(url, Keys(key_files[1])) == {"plans/x": value}
    assert len(await server.names(PIECES)) == -(-size // open_backend(parse(url), Keys(key_files[1])).piece_size)  # type: ignore[attr-defined]
    await server.close()


@pytest.mark.parametrize(
    "words",
    [("forget", "web1", "--yes"), ("restore", "replicas/web1", "1", "--yes"), ("versions", "replicas/web1"), ("sweep",),
     ("push",)],
)  # fmt: skip
async def test_no_command_changes_or_believes_an_incomplete_copy(tmp_path: Path, words: tuple[str, ...]) -> None:
    target = SQLite(tmp_path / "b.db")
    await target.write(MARK, b'{"ids": [], "content": {"source": "sqlite:///a.db", "is_exact": true}}', None)
    await target.write("replicas/web1/head", b'{"ids": [], "content": {}}', None)
    before = await target.names("")
    done = sloth(tmp_path, "state", "backend", *words, "--backend", f"sqlite://{tmp_path}/b.db")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "is an incomplete copy of sqlite:///a.db" in done.stderr
    assert await target.names("") == before
