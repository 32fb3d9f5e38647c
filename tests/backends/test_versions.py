"""Versions of an entry are listed, and each of them can be made the newest again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sloth.errors import StateError, UsageError
from sloth.payload.state.store import Store
from sloth.state.backends.backend import Damaged
from sloth.state.backends.sqlite import SQLite
from sloth.state.run_values import RunCounts
from sloth.state.sync import entries, versions
from sloth.state.sync.entries import head_key, piece_key, run_key
from sloth.state.sync.fetch import Fetching
from tests.support.replicas import Controller, record_on, rows_of

BY = {"by": "ben", "origin": "laptop"}
KEY = head_key("web1")


@pytest.fixture
def versions_file(tmp_path: Path) -> SQLite:
    return SQLite(tmp_path / "backend.db")


async def visited(path: Path, backend: SQLite, count: int) -> tuple[Controller, Store, list[list[dict[str, Any]]]]:
    """Let a controller deliver so many changes of a host; return both, and what there was after each."""
    one, host, states = Controller(path / "one", backend), Store(None), []
    for number in range(count):
        record_on(host, str(number), number)
        one.visit(host)
        await one.deliver()
        states.append(rows_of(host))
    return one, host, states


async def as_fetched(path: Path, backend: SQLite) -> list[dict[str, Any]]:
    """Return what a controller finds that has nothing yet."""
    new = Controller(path, backend)
    assert await new.fetch() == []
    rows = new.rows()
    new.memory.close()
    return rows


async def test_each_version_can_be_the_newest_again(tmp_path: Path, versions_file: SQLite) -> None:
    one, host, states = await visited(tmp_path, versions_file, 3)
    for number, state in ((2, states[1]), (1, states[0]), (3, states[2]), (5, states[0])):
        before = await versions.versions(versions_file, KEY)
        new = await versions.restore(versions_file, KEY, number, BY)
        found = await versions.versions(versions_file, KEY)
        assert found[1:] == before, "what was there stays"
        assert (new, found[0].version) == (before[0].version + 1,) * 2
        assert (found[0].by, found[0].origin) == ("ben", "laptop")
        assert found[0].at >= before[0].at
        assert await as_fetched(tmp_path / f"new{new}", versions_file) == state
    assert [one.version for one in found] == [7, 6, 5, 4, 3, 2, 1]
    record_on(host, "later", 1)
    one.visit(host)
    await one.deliver()
    assert await as_fetched(tmp_path / "last", versions_file) == rows_of(host), "the host is the truth"
    assert (await versions.versions(versions_file, KEY))[0].version == 8


async def test_what_a_version_is_is_said(tmp_path: Path, versions_file: SQLite) -> None:
    one, host, _ = await visited(tmp_path, versions_file, 1)
    record_on(host, "b", 1)
    one.visit(host)
    await one.deliver()
    await versions.restore(versions_file, KEY, 1, BY)
    store = str(host.meta("id"))[:8]
    sizes = []
    for piece in (await entries.load_versions(versions_file, KEY))[1]["pieces"]:
        entry = await versions_file.read(piece_key("web1", piece["id"]))
        assert entry is not None
        sizes.append(len(entry.value))
    assert [one.what for one in await versions.versions(versions_file, KEY)] == [
        f"up to change 1 of {store}, {sizes[0]} bytes, restored from version 1",
        f"up to change 2 of {store}, {sum(sizes)} bytes",
        f"up to change 1 of {store}, {sizes[0]} bytes",
    ]


async def test_the_record_of_a_run_is_what_it_was(tmp_path: Path, versions_file: SQLite) -> None:
    one, key = Controller(tmp_path / "one", versions_file), run_key("r")
    one.memory.runs.begin("r", "web", "ann", 3)
    await one.deliver()
    one.memory.runs.end("r", counts=RunCounts(), seconds=1.0, status=4)
    await one.deliver()
    assert await versions.restore(versions_file, key, 1, BY) == 3
    assert [one.what for one in await versions.versions(versions_file, key)] == [
        "web on 3 hosts by ann, not finished, restored from version 1",
        "web on 3 hosts by ann, ended with status 4",
        "web on 3 hosts by ann, not finished",
    ]
    two = Controller(tmp_path / "two", versions_file)
    await Fetching(two.memory, versions_file).runs()
    assert two.memory.runs.find("r").status is None
    assert await versions.restore(versions_file, key, 2, BY) == 4
    await Fetching(two.memory, versions_file).runs()
    assert two.memory.runs.find("r").status == 4


async def test_what_cannot_be_restored_leaves_all_as_it_is(tmp_path: Path, versions_file: SQLite) -> None:
    _, _, states = await visited(tmp_path, versions_file, 3)
    before = await versions_file.read(KEY)
    with pytest.raises(StateError, match=f"{KEY} has no version 4; hint: kept are 3, 2, 1$"):
        await versions.restore(versions_file, KEY, 4, BY)
    for missing in ("replicas/web2/head", run_key("r")):
        with pytest.raises(StateError, match=f"{missing} has no version 1; hint: kept are none"):
            await versions.restore(versions_file, missing, 1, BY)
        with pytest.raises(StateError, match=f"no entry {missing}; hint: see sloth-runner runs list, and state list"):
            await versions.versions(versions_file, missing)
    named = [{piece["id"] for piece in one["pieces"]} for one in await entries.load_versions(versions_file, KEY)]
    (lost,) = named[0] - named[1]
    await versions_file.forget(piece_key("web1", lost))
    with pytest.raises(Damaged, match=f"{lost} is missing"):
        await versions.restore(versions_file, KEY, 3, BY)
    assert await versions_file.read(KEY) == before
    await versions.restore(versions_file, KEY, 2, BY)
    assert await as_fetched(tmp_path / "new", versions_file) == states[1], "it is whole"


async def test_a_damaged_record_of_a_run_is_not_restored(tmp_path: Path, versions_file: SQLite) -> None:
    one = Controller(tmp_path / "one", versions_file)
    one.memory.runs.begin("r", "web", "ann", 3)
    await one.deliver()
    entry = await versions_file.read(run_key("r"))
    assert entry is not None
    await versions_file.write(run_key("r"), entry.value.replace(b'"rows": "', b'"rows": "x'), entry.version)
    before = await versions_file.read(run_key("r"))
    with pytest.raises(Damaged, match="runs/r is damaged"):
        await versions.restore(versions_file, run_key("r"), 1, BY)
    assert await versions_file.read(run_key("r")) == before


async def test_what_is_delivered_meanwhile_is_kept_as_a_version(tmp_path: Path, versions_file: SQLite) -> None:
    one, host, _ = await visited(tmp_path, versions_file, 2)
    record_on(host, "later", 1)
    one.visit(host)
    other = SQLite(tmp_path / "backend.db")
    new, _ = await asyncio.gather(versions.restore(other, KEY, 1, BY), one.deliver())
    found = await versions.versions(versions_file, KEY)
    assert [each.version for each in found] == [4, 3, 2, 1]
    assert new in (3, 4)
    assert sum("restored" in each.what for each in found) == 1
    record_on(host, "last", 1)
    one.visit(host)
    await one.deliver()
    assert await as_fetched(tmp_path / "new", versions_file) == rows_of(host)


async def test_only_so_many_versions_are_kept(tmp_path: Path, versions_file: SQLite) -> None:
    await visited(tmp_path, versions_file, 2)
    for _ in range(entries.KEPT):
        await versions.restore(versions_file, KEY, 2, BY)
        found = await versions.versions(versions_file, KEY)
        if found[-1].version == 2:
            break
    assert len(found) == entries.KEPT


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("runs/r", "runs/r"), ("replicas/web1", "replicas/web1/head"), ("replicas/web1/head", "replicas/web1/head"),
        ("replicas/web1@root", "replicas/web1@root/head"),
    ],
)  # fmt: skip
def test_a_key_is_what_people_call_it(name: str, key: str) -> None:
    assert versions.versioned_key(name) == key


@pytest.mark.parametrize("name", ["runs/", "replicas/", "replicas/web1/6a-1", "plans/x", "shared/x", "web1", ""])
def test_what_has_no_versions_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} has no versions; hint: runs/RUN and replicas/AGENT have"):
        versions.versioned_key(name)
