"""The controller's memory: every format of its database since the first, its runs, and damage."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from sloth.errors import StateError
from sloth.state.memory import MIGRATIONS, Known, Memory
from sloth.state.run_records import RunCounts, RunResult
from tests.support.paths import ROOT

FORMATS = ROOT / "tests" / "formats"
VERSION = len(MIGRATIONS)


def load_format(version: int, directory: Path) -> None:
    """Create a controller's database as the sloth-runner of that format wrote it."""
    with sqlite3.connect(directory / "controller.db") as database:
        database.executescript((FORMATS / f"controller-{version}.sql").read_text())
    database.close()


def tables(directory: Path) -> dict[str, list[str]]:
    """Return the tables and indexes of the database, with the columns of the tables."""
    with sqlite3.connect(directory / "controller.db") as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")]
        found = {name: [row[1] for row in database.execute(f"PRAGMA table_info({name})")] for name in names}
    database.close()
    return found


def test_every_format_has_a_file_that_was_written_then() -> None:
    names = sorted(path.name for path in FORMATS.glob("controller-*.sql"))
    assert names == [f"controller-{version}.sql" for version in range(1, VERSION)]


@pytest.mark.parametrize("version", range(1, VERSION))
def test_a_database_of_every_format_is_migrated(tmp_path: Path, version: int) -> None:
    load_format(version, tmp_path)
    memory = Memory(tmp_path)
    assert memory.known(["web1"]) == {
        "web1": Known("aa", "s1", 3, frozenset({"a1", "a2"})),
        "web1@deploy": Known("aa", "s2", 1),
    }
    assert memory.accounts("web1") == ["deploy"]
    second, first = memory.runs.newest()
    assert (second.run, second.status) == ("20250615-150641-bbbbbb", None)
    assert (first.run, first.changed, first.failed, first.seconds, first.status) == (
        "20250615-150640-aaaaaa", 1, 1, 2.5, 1,
    )  # fmt: skip
    results = memory.runs.results(first.run)
    if version > 1:  # format 1 did not record them
        motd = RunResult("web1", "t", "file:copy:/etc/motd", "changed", "new", "site.sloth:2", "")
        assert results == [motd, RunResult("web2", "t", "pkg:install:nginx", "failed", "", "site.sloth:3", "no space")]
    counts = RunCounts(changed=4, rescued=2)
    memory.runs.end(second.run, counts=counts, seconds=1.0, status=0, results=results)
    ended = memory.runs.find(second.run)
    assert (ended.changed, ended.failed, ended.rescued, ended.ignored, ended.status) == (4, 0, 2, 0, 0)
    assert memory.runs.results(second.run) == results
    memory.close()
    (tmp_path / "new").mkdir()
    Memory(tmp_path / "new").close()
    assert tables(tmp_path) == tables(tmp_path / "new")


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "controller.db") as database:
        database.execute(f"PRAGMA user_version={VERSION + 1}")
    database.close()
    with pytest.raises(StateError, match=f"has format {VERSION + 1}, but .* up to {VERSION}.*upgrade"):
        Memory(tmp_path)
    (tmp_path / "controller.db").write_bytes(
        b"no database at all, but as long as the header of one would have to be" * 9
    )
    with pytest.raises(StateError, match=r"cannot use .*move it away"):
        Memory(tmp_path)


def test_a_run_is_found_by_a_prefix_or_as_the_last(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    with pytest.raises(StateError, match="run last not found"):
        memory.runs.find("last")
    for run in ("20250101-1", "20250101-12", "20250102-1"):
        memory.runs.begin(run, "site.sloth", "ann", 1)
    assert memory.runs.find("last").run == "20250102-1"
    assert memory.runs.find("20250102").run == "20250102-1"
    assert memory.runs.find("20250101-1").run == "20250101-1", "a whole id, although another begins so"
    with pytest.raises(StateError, match=r"run 2025 is ambiguous: .*; hint: use a longer prefix"):
        memory.runs.find("2025")
    with pytest.raises(StateError, match="run 19 not found"):
        memory.runs.find("19")
    memory.close()


def test_only_a_hash_of_a_file_that_has_settled_is_kept(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    fresh = tmp_path / "fresh"
    fresh.write_text("x")
    memory.keep_hash(str(fresh), fresh.stat(), "aa")
    assert memory.hash_of(str(fresh), fresh.stat()) is None
    settled = Path(os.__file__)
    memory.keep_hash(str(settled), settled.stat(), "bb")
    assert memory.hash_of(str(settled), settled.stat()) == "bb"
    memory.close()
