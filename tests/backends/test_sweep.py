"""A backend does not grow without bound, and nothing that anybody needs is swept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest

from sloth.payload.state.store import Store
from sloth.state.backends.backend import Backend, Unsupported
from sloth.state.backends.documents import Change, change
from sloth.state.backends.location import open_backend, parse
from sloth.state.backends.sqlite import SQLite
from sloth.state.shared import Shared
from sloth.state.sync import entries
from sloth.state.sync import sweep as sweeping
from sloth.state.sync.heads import Piece
from sloth.state.sync.sweep import forget_host, is_due, sweep
from tests.support.moto import MotoServer
from tests.support.paths import ROOT
from tests.support.replicas import Controller, record_on, rows_of
from tests.support.team import Team

SCHEMA = json.loads((ROOT / "sloth" / "report" / "schema_state.json").read_text())


async def test_an_entry_is_removed_only_where_it_is_as_it_was_read(opened: Callable[[], Backend]) -> None:
    backend = opened()
    first = await backend.write("a", b"1", None)
    assert first is not None
    second = await backend.write("a", b"2", first)
    assert second is not None
    try:
        assert await backend.remove("a", first) is False
    except Unsupported:  # moto deletes whatever the condition is: it is found out, and nothing is removed
        assert await backend.names("") == ["a"]
        assert "s3://" in backend.url
        return
    entry = await backend.read("a")
    assert entry is not None
    assert entry.value == b"2"
    assert await backend.remove("a", second) is True
    assert await backend.read("a") is None
    assert await backend.remove("a", second) is True, "as after a lost answer"
    large = await backend.write("large", b"x" * 3_000_000, None)
    assert large is not None
    await backend.read("large")
    assert await backend.remove("large", large) is True
    assert await cast(Any, backend)._backend.names("") == [], "with its pieces"


async def test_a_value_that_is_set_while_it_is_swept_stays(opened: Callable[[], Backend], monkeypatch: Any) -> None:
    monkeypatch.setattr(sweeping, "OLD", -10.0)
    one, shared = opened(), Shared(opened())
    for number in range(30):
        await shared.set(f"v{number}", number)
        await shared.delete(f"v{number}")
    await shared.set("expired", 1, {"ttl": 0.001})
    await shared.set("kept", 1)
    await shared.try_lock("l", "me")
    await shared.unlock("l", "me")

    async def set_again() -> None:
        for number in range(0, 30, 3):
            await shared.set(f"v{number}", "again")

    swept, other, _ = await asyncio.gather(sweep(one), sweep(opened()), set_again())
    assert [await shared.get(f"v{number}") for number in range(0, 30, 3)] == ["again"] * 10
    assert await shared.get("kept") == 1
    assert await shared.lock("l", "you") == 2, "the numbers of locks go on"
    names = await one.names("shared/")
    if swept.can_remove and other.can_remove:
        await sweep(one)
        assert len(await one.names("shared/")) == 11
    else:
        assert len(names) == 32


async def test_records_of_runs_that_are_old_and_not_among_the_newest(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "b.db")
    names = [f"runs/2020{month:02}{day:02}-120000-abcdef" for month in range(1, 11) for day in range(1, 11)]
    for name in [*names, "runs/00000000-000000-no-date", "runs/20991231-235959-ffffff", "runs/odd"]:
        await backend.write(name, b"x", None)
    assert (await sweep(backend, kept_runs=200)).runs == 0
    assert (await sweep(backend, kept_runs=20, run_age=10**10)).runs == 0, "none is so old"
    assert (await sweep(backend, kept_runs=20)).runs == 82
    left = await backend.names("runs/")
    assert len(left) == 21
    assert left[0] == "runs/00000000-000000-no-date", "nobody knows how old it is"
    assert left[-2:] == ["runs/20991231-235959-ffffff", "runs/odd"]
    assert (await sweep(backend, kept_runs=20)).runs == 0


async def test_pieces_that_no_version_names_and_hosts_that_are_no_more(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "b.db")
    one, host = Controller(tmp_path / "one", backend), Store(None)
    for number in range(60):
        record_on(host, f"r{number % 7}", number)
        one.visit(host)
        await one.deliver()
    assert len(await backend.names("replicas/")) <= 1 + entries.KEPT + 10, "those of the last 20 versions"
    versions = await entries.load_versions(backend, entries.head_key("web1"))
    assert len(versions) == entries.KEPT
    named = {Piece.read(piece).id for version in versions for piece in version["pieces"]}
    days = int(await backend.clock()) - 2 * 86400
    for name in ("1000-dead", f"{days:x}-dead", f"{2**40:x}-young"):
        await backend.write(entries.piece_key("web1", name), b"x", None)
        await backend.write(entries.piece_key("headless", name), b"x", None)
    assert (await sweep(backend)).pieces == 4
    left = {name.rpartition("/")[2] for name in await backend.names("replicas/web1/")}
    assert left == named | {"head", f"{2**40:x}-young"}
    two = Controller(tmp_path / "two", backend)
    assert await two.fetch() == []
    assert two.rows() == rows_of(host)
    assert await forget_host(backend, "web1") == len(left)
    assert await backend.names("replicas/web1/") == []
    record_on(host, "later", 1)
    one.visit(host)
    await one.deliver()
    assert await two.fetch() == []
    assert two.rows() == rows_of(host), "a host that is not gone comes back whole"


async def test_once_a_day_and_by_one(tmp_path: Path) -> None:
    one, two = SQLite(tmp_path / "b.db"), SQLite(tmp_path / "b.db")
    assert sorted(await asyncio.gather(is_due(one), is_due(two))) == [False, True]
    assert not await is_due(one)
    now = await one.clock()
    for at in (now - 2 * 86400, now + 2 * 86400, "odd"):
        await change(one, sweeping.DONE, lambda content, now, at=at: (Change({"at": at}), None))
        assert await is_due(two)


class Careless(SQLite):
    """A server that deletes whatever the condition is, which its client has found out.

    Attributes:
        asked: how often it was asked.
    """

    asked = 0

    async def remove(self, key: str, expected: str) -> bool:
        self.asked += 1
        raise Unsupported("no conditions")


async def test_what_cannot_be_deleted_under_a_condition_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "OLD", -10.0)
    backend = Careless(tmp_path / "b.db")
    shared = Shared(backend)
    for number in range(5 * sweeping.AT_ONCE):
        await shared.set(f"v{number}", 1)
        await shared.delete(f"v{number}")
    before = await backend.names("")
    swept = await sweep(backend)
    assert (swept.values, swept.can_remove) == (0, False)
    assert await backend.names("") == before
    assert 1 <= backend.asked <= sweeping.AT_ONCE, "it is not asked for each"


async def test_a_server_that_deletes_whatever_the_condition_is_keeps_everything(
    moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "OLD", -10.0)
    backend = open_backend(parse(moto_server.url("sweep")))
    shared = Shared(backend)
    await shared.set("x", 1)
    await shared.delete("x")
    swept = await sweep(backend)
    assert (swept.values, swept.can_remove) in ((0, False), (1, True))
    assert len(await backend.names("shared/")) == (0 if swept.can_remove else 1)
    await shared.close()


def test_runs_and_commands_sweep(tmp_path: Path) -> None:
    team = Team(tmp_path, f"sqlite://{tmp_path}/backend.db")
    ann = team.controller("ann")
    team.site('file.copy({content = "1\\n", dest = "FILES/" .. host.name})')
    ann.run()
    assert asyncio.run(is_due(SQLite(tmp_path / "backend.db"))) is False, "the run has swept"
    swept = ann.json("state", "backend", "sweep")
    jsonschema.validate(swept, {**SCHEMA, "$ref": "#/$defs/backend_sweep"})
    assert swept == {"values": 0, "runs": 0, "pieces": 0, "can_remove": True}
    assert "removed 0 deleted values" in ann("state", "backend", "sweep")
    assert "forgot web2" in ann("state", "backend", "forget", "web2", "--yes")
    assert "no replica of web2" in ann("state", "backend", "forget", "web2", "--yes", status=1)
    assert team.controller("ben").recorded("web1") == [f"file:copy:{team.files}/web1"]
