"""A replica in a backend ends as the host has it, however deliveries of two controllers interleave and get lost."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sloth.errors import StateError
from sloth.payload.state.store import Store
from sloth.state.backends import documents
from sloth.state.backends.backend import Damaged
from sloth.state.backends.sqlite import SQLite
from sloth.state.sync import entries, heads
from sloth.state.sync.entries import NewerFormat, head_key, piece_key
from tests.support.faulty import Lossy
from tests.support.replicas import Controller, record_on, rows_of

ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS") or 20)


def test_what_is_packed_is_unpacked() -> None:
    for value in ({"a": "\u00e4\udcff\U0001f511"}, [], None):
        assert entries.unpack(entries.pack(value)) == value


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.sampled_from("abcd"), st.integers(0, 9)),
        st.tuples(st.just("forget"), st.sampled_from("abcd"), st.just(0)),
        st.tuples(st.sampled_from(["visit", "deliver", "fetch"]), st.sampled_from(["one", "two"]), st.just(0)),
        st.tuples(st.just("deliver both"), st.just(""), st.just(0)),
        st.tuples(st.just("anew"), st.just(""), st.just(0)),
        st.tuples(st.just("lose replica"), st.sampled_from(["one", "two"]), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=ROUNDS, suppress_health_check=list(HealthCheck))
@given(STEPS, st.sampled_from([0.0, 0.3]), st.integers(0, 1000))
def test_the_head_ends_as_the_host_is(steps: list[tuple[str, str, int]], chance: float, seed: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_go(Path(directory), steps, chance, seed))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "FIRST_PAUSE", 0.0005)
    monkeypatch.setattr(documents, "LONGEST_PAUSE", 0.005)


async def _go(directory: Path, steps: list[tuple[str, str, int]], chance: float, seed: int) -> None:
    backend = Lossy(directory / "backend.db", chance, seed)
    controllers = {name: Controller(directory / name, backend) for name in ("one", "two")}
    host = Store(None)
    for step, name, value in steps:
        if step == "record":
            record_on(host, name, value)
        elif step == "forget":
            host.records.forget(f"m:t:{name}")
            host.commit()
        elif step == "visit":
            controllers[name].visit(host)
        elif step == "deliver":
            await controllers[name].deliver()
        elif step == "fetch":
            assert await controllers[name].fetch() == []
        elif step == "deliver both":
            await asyncio.gather(*(one.deliver() for one in controllers.values()))
        elif step == "anew":
            host = Store(None)
        elif step == "lose replica":
            controllers[name].memory.replica_path("web1").unlink(missing_ok=True)
    for one in controllers.values():
        one.visit(host)
        one.visit(host)  # the first one may have found that it must ask for all
        assert one.rows() == rows_of(host)
    await asyncio.gather(*(one.deliver() for one in controllers.values()))
    third = Controller(directory / "three", backend)
    assert await third.fetch() == []
    assert third.rows() == rows_of(host)
    for one in (*controllers.values(), third):
        assert one.memory.outbox is not None
        assert one.memory.outbox.waiting() == []
        one.memory.close()
    await backend.close()


@pytest.fixture
def backend(tmp_path: Path) -> SQLite:
    return SQLite(tmp_path / "backend.db")


@pytest.mark.asyncio
async def test_pieces_become_one_when_they_are_many_and_those_of_no_version_go(tmp_path: Path, backend: SQLite) -> None:
    one, host = Controller(tmp_path / "one", backend), Store(None)
    for number in range(70):
        record_on(host, str(number % 50), number)
        one.visit(host)
        await one.deliver()
    versions = await entries.load_versions(backend, head_key("web1"))
    assert [version["version"] for version in versions] == list(range(70, 50, -1))
    assert all(len(version["pieces"]) <= heads.DELTAS + 1 for version in versions)
    named = {piece_key("web1", piece["id"]) for version in versions for piece in version["pieces"]}
    assert {name for name in await backend.names("replicas/") if entries.is_piece(name)} == named
    two = Controller(tmp_path / "two", backend)
    assert await two.fetch() == []
    assert two.rows() == rows_of(host)


@pytest.mark.asyncio
async def test_a_host_that_was_restored_from_a_backup_is_the_truth(tmp_path: Path, backend: SQLite) -> None:
    one, host = Controller(tmp_path / "one", backend), Store(str(tmp_path / "host.db"))
    record_on(host, "a", 1)
    one.visit(host)
    await one.deliver()
    copy = (tmp_path / "host.db").read_bytes(), (tmp_path / "host.db-wal").read_bytes()
    for number in range(5):
        record_on(host, "b", number)
    one.visit(host)
    await one.deliver()
    host.close()
    (tmp_path / "host.db").write_bytes(copy[0])
    (tmp_path / "host.db-wal").write_bytes(copy[1])
    host = Store(str(tmp_path / "host.db"))
    assert len(rows_of(host)) == 1
    one.visit(host)
    await one.deliver()
    two = Controller(tmp_path / "two", backend)
    await two.fetch()
    assert two.rows() == rows_of(host)


@pytest.mark.asyncio
async def test_a_laptop_that_was_away_does_not_bring_back_a_host_s_former_state(
    tmp_path: Path, backend: SQLite
) -> None:
    away, here = Controller(tmp_path / "one", backend), Controller(tmp_path / "two", backend)
    host = Store(None)
    record_on(host, "old", 1)
    away.visit(host)  # and its network is gone
    host = Store(None)
    record_on(host, "new", 2)
    await asyncio.sleep(0.01)
    here.visit(host)
    await here.deliver()
    await away.deliver()
    await away.fetch()
    third = Controller(tmp_path / "three", backend)
    await third.fetch()
    assert away.rows() == third.rows() == rows_of(host)
    assert away.memory.outbox is not None
    assert away.memory.outbox.waiting() == []


async def _damage(backend: SQLite, key: str, value: bytes) -> None:
    entry = await backend.read(key)
    assert entry is not None
    assert await backend.write(key, value, entry.version)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("what", "error", "text"),
    [
        ("head", Damaged, "replicas/web1/head is damaged.*state backend push"),
        ("piece", Damaged, "replicas/web1/.* is damaged.*state backend push"),
        ("swapped", Damaged, "replicas/web1/.* is damaged.*state backend push"),
        ("missing", Damaged, "replicas/web1/.* is missing.*state backend push"),
        ("newer", NewerFormat, "replicas/web1/head has format 9, but .* up to 1.*upgrade"),
    ],
)
async def test_what_is_damaged_or_newer_is_said_and_leaves_the_replica_alone(
    tmp_path: Path, backend: SQLite, what: str, error: type[StateError], text: str
) -> None:
    one, two, host = Controller(tmp_path / "one", backend), Controller(tmp_path / "two", backend), Store(None)
    record_on(host, "a", 1)
    one.visit(host)
    await one.deliver()
    await two.fetch()
    before = two.rows()
    record_on(host, "b", 1)
    one.visit(host)
    await one.deliver()
    first, last = [piece["id"] for piece in (await entries.load_versions(backend, head_key("web1")))[0]["pieces"]]
    changes: dict[str, Callable[[], Any]] = {
        "head": lambda: _damage(backend, head_key("web1"), b'{"ids": [], "content": {"format": 1, "versions": [{}]}}'),
        "newer": lambda: _damage(backend, head_key("web1"), b'{"ids": [], "content": {"format": 9}}'),
        "piece": lambda: _damage(backend, piece_key("web1", last), b"\0" * 100),
        "missing": lambda: backend.forget(piece_key("web1", last)),
    }
    if what == "swapped":
        entry = await backend.read(piece_key("web1", first))
        assert entry is not None
        await _damage(backend, piece_key("web1", last), entry.value)
    else:
        await changes[what]()
    (problem,) = await two.fetch()
    assert isinstance(problem, error)
    with pytest.raises(error, match=text):
        raise problem
    assert two.rows() == before


def test_a_head_whose_pieces_do_not_make_a_whole_is_damaged(backend: SQLite) -> None:
    base: dict[str, object] = {"id": "a", "since": None, "until": 3, "size": 1}
    rest: dict[str, object] = {"id": "b", "since": 3, "until": 5, "size": 1}
    head = {"version": 1, "store": "s", "seq": 5, "at": 1.0, "pieces": [base, rest]}
    assert heads.Head.read(backend, "key", head).position.seq == 5
    for wrong in ({"pieces": []}, {"pieces": [rest]}, {"pieces": [base]}, {"seq": 6}, {"at": "now"}):
        with pytest.raises(Damaged, match="key is damaged"):
            heads.Head.read(backend, "key", {**head, **wrong})


@pytest.mark.asyncio
async def test_fields_that_we_do_not_know_are_kept(tmp_path: Path, backend: SQLite) -> None:
    one, host = Controller(tmp_path / "one", backend), Store(None)
    record_on(host, "a", 1)
    one.visit(host)
    await one.deliver()
    entry = await backend.read(head_key("web1"))
    assert entry is not None
    later = entry.value.replace(b'"format": 1', b'"format": 1, "later": {"x": 1}').replace(
        b'"by":', b'"why": "w", "by":'
    )
    await _damage(backend, head_key("web1"), later)
    record_on(host, "b", 1)
    one.visit(host)
    await one.deliver()
    entry = await backend.read(head_key("web1"))
    assert entry is not None
    assert b'"later": {"x": 1}' in entry.value
    assert b'"why": "w"' in entry.value
    two = Controller(tmp_path / "two", backend)
    assert await two.fetch() == []
    assert two.rows() == rows_of(host)
