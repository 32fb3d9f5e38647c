"""The state file itself: every format since the first, damage, full disks, kills, and what it keeps."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.record import Record, ReplicaPosition
from sloth.payload.kernel.redact import MASK, Redactor
from sloth.payload.state import blobs as contents_module
from sloth.payload.state.database import VERSION
from sloth.payload.state.export import TABLES, dump, load
from sloth.payload.state.store import Store, StoreError
from tests.support.paths import ROOT
from tests.support.stores import CONTEXT, record, remember

FORMATS = ROOT / "tests" / "formats"


def made_by(version: int, path: Path) -> Path:
    """A state file as that format's sloth-runner wrote it."""
    with sqlite3.connect(path) as database:
        database.executescript((FORMATS / f"state-{version}.sql").read_text())
    database.close()
    return path


def test_every_format_has_a_file_that_was_written_then() -> None:
    assert sorted(path.name for path in FORMATS.glob("state-*.sql")) == [f"state-{n}.sql" for n in range(1, VERSION)]


@pytest.mark.parametrize("version", range(1, VERSION))
@pytest.mark.parametrize("readonly", [True, False])
def test_a_file_of_every_format_is_read_and_migrated(tmp_path: Path, version: int, readonly: bool) -> None:
    path = made_by(version, tmp_path / "x.db")
    before = path.read_bytes()
    store = Store(str(path), readonly=readonly)
    keys = [row.key for row in store.records.select()]
    assert keys == ["file:copy:/etc/motd", "file:lineinfile:/etc/hosts:10.0.0.1 db", "user:create:deploy"]
    assert store.records.get("user:create:deploy").desired == {"a": 1}
    assert [change.reason for change in store.history.select()] == ["new"] * 4
    assert [run.run for run in store.runs.newest()] == ["r2", "r1"]
    assert store.records.get("file:copy:/etc/motd").calls is None
    assert store.handlers.pending() == []
    store.close()
    assert (path.read_bytes() == before) is readonly, "a look migrates a copy"
    if not readonly:
        again = Store(str(path))
        record(again, "m:t:i", "c", {}, {}, True, "r3", "s", "t", "p", [{"name": "m.t", "args": {}}], (None,))
        again.commit()
        assert again.records.get("m:t:i").is_created


def test_what_format_2_recorded_keeps_its_meaning(tmp_path: Path) -> None:
    store = Store(str(made_by(2, tmp_path / "x.db")))
    key = "file:lineinfile:/etc/hosts:10.0.0.1 db"
    record = store.records.get(key)
    assert record is not None
    assert record.is_sensitive
    assert record.is_created
    assert record.calls is not None
    assert record.calls[0].args == {"path": "/etc/hosts", "line": "10.0.0.1 db"}
    (change,) = store.history.select(key)
    assert change.call == record.calls[0]
    store.records.restore(key, change.was)
    restored = store.records.get(key)
    assert restored is not None
    assert restored.is_created
    assert restored.is_sensitive
    assert restored.checksum == "aa"
    content = Content.of_bytes(b"127.0.0.1 localhost\n")
    kept = store.blobs.get(content.sha256)
    assert kept is not None
    assert kept.data() == content.data()
    # A replica that an older controller wrote asks for what is newer, and hears of what was removed.
    assert store.changes_since(ReplicaPosition(id=store.meta("id") or "", seq=4)).removed == ["pkg:install:nginx"]


@pytest.mark.parametrize("version", range(1, VERSION))
def test_a_new_file_has_the_tables_of_a_migrated_one(tmp_path: Path, version: int) -> None:
    def tables(path: Path) -> dict[str, tuple[list[object], list[object]]]:
        Store(str(path)).close()
        found = {}
        with sqlite3.connect(path) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
                columns = sorted(row[1:] for row in database.execute(f"PRAGMA table_info({table})"))
                indexes = [
                    (unique, origin, database.execute(f"PRAGMA index_info('{name}')").fetchall())
                    for _, name, unique, origin, _ in database.execute(f"PRAGMA index_list({table})").fetchall()
                ]
                names = [row[1] for row in database.execute(f"PRAGMA index_list({table})") if row[3] == "c"]
                found[table] = (columns, sorted(indexes, key=repr) + sorted(names))
        database.close()
        return found

    assert tables(tmp_path / "new.db") == tables(made_by(version, tmp_path / "old.db"))


@pytest.mark.parametrize("version", [0, 1])
def test_a_migration_that_is_killed_is_done_by_the_next(tmp_path: Path, version: int) -> None:
    """Version 0: a new file, which a look takes for an empty one until it is whole."""
    path = made_by(version, tmp_path / "x.db") if version else tmp_path / "x.db"
    script = """
import sys
import sqlite3
from sloth.payload.state import database
seen = []
class Killer(sqlite3.Connection):
    def execute(self, statement, *more):
        seen.append(statement)
        if len(seen) == int(sys.argv[2]):
            import os
            os.kill(os.getpid(), 9)
        return sqlite3.Connection.execute(self, statement, *more)
real = sqlite3.connect
database.sqlite3.connect = lambda *args, **named: real(*args, factory=Killer, **named)
from sloth.payload.state.store import Store
Store(sys.argv[1])
print("done")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for statement in range(1, 60):
        done = subprocess.run(
            [sys.executable, "-c", script, str(path), str(statement)], env=environment, capture_output=True, text=True
        )
        looked = Store(str(path), readonly=True)
        assert len(looked.records.select()) == (3 if version else 0), f"after statement {statement}"
        looked.close()
        if done.stdout:
            break
    assert done.stdout == "done\n", done.stderr
    assert statement > 10


WORK = """
import sys
from sloth.payload.state.store import Store
from sloth.payload.kernel.content import Content
from tests.support.paths import ROOT
from tests.support.stores import CONTEXT, record, remember
store = Store(sys.argv[1])
begin = int(sys.argv[2])
for number in range(begin, begin + 100000):
    key = "m:t:%d" % number
    store.blobs.keep(Content.of_bytes(b"%d" % number * 300))
    store.handlers.notify(["h%d" % number], CONTEXT, key)
    record(store, key, "c", {"n": number}, {"n": number}, True, "r", "s")
    remember(store, key, "new", None, {"n": number}, {})
    store.handlers.settle("s", ["h%d" % number])
    store.commit()
    print(number, flush=True)
"""


def _told(path: Path, begin: int, lines: int) -> list[int]:
    """The numbers that a worker said are committed before it was killed, or could not go on."""
    child = subprocess.Popen(
        [sys.executable, "-c", WORK, str(path), str(begin)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    told = [int(line) for line in (child.stdout.readline() for _ in range(lines)) if line.endswith("\n")]
    if lines:
        child.send_signal(signal.SIGKILL)
    told += [int(line) for line in child.stdout if line.endswith("\n")]
    child.wait()
    said = child.stderr.read()
    child.stdout.close()
    child.stderr.close()
    assert lines or "no space left" in said, said
    return told


def _check(path: Path, told: list[int]) -> None:
    store = Store(str(path))
    assert store.aside is None
    assert store.integrity() == []
    assert {f"m:t:{number}" for number in told} <= {row.key for row in store.records.select()}
    assert {f"m:t:{number}" for number in told} <= {row.key for row in store.history.select(limit=-1)}
    assert store.blobs.damaged() == []
    store.close()


def test_a_kill_at_any_moment_loses_no_committed_row(tmp_path: Path) -> None:
    told: list[int] = []
    for lines in (1, 3, 7, 15, 40):
        told += _told(tmp_path / "x.db", len(told) + 1000 * lines, lines)
        _check(tmp_path / "x.db", told)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_loses_no_committed_row_and_heals(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        told = _told(place / "x.db", 0, 0)
        assert told, "it was full before anything was written"
        subprocess.run(["mount", "-o", "remount,size=4m", str(place)], check=True)
        _check(place / "x.db", told)
        store = Store(str(place / "x.db"))
        record(store, "m:t:after")
        store.close()
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("spoil", [b"no database at all" * 400, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside_never_deleted(tmp_path: Path, spoil: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(spoil)
    with pytest.raises(StoreError, match=r"damaged.*"):
        Store(str(path), readonly=True)
    assert path.read_bytes() == spoil
    store = Store(str(path))
    assert Path(store.aside).read_bytes() == spoil
    assert store.records.select() == []
    store.close()
    path.write_bytes(spoil)
    assert Store(str(path)).aside != store.aside


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    Store(str(path)).close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={VERSION + 1}")
    database.close()
    before = path.read_bytes()
    for readonly in (True, False):
        with pytest.raises(StoreError, match=f"format {VERSION + 1}") as caught:
            Store(str(path), readonly=readonly)
        assert "upgrade" in caught.value.hint
    assert path.read_bytes() == before


# Contents


def test_contents_are_kept_once_within_a_limit_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents_module, "LIMIT", 4000)
    monkeypatch.setattr(contents_module, "LARGEST", 2000)
    store = Store(str(tmp_path / "x.db"))
    kept = [Content.of_bytes(os.urandom(1500)) for _ in range(4)]
    for content in kept:
        assert store.blobs.keep(content)
    assert store.stats()["contents_size"] <= 4000
    assert [store.blobs.get(content.sha256) is not None for content in kept] == [False, False, True, True]
    assert store.blobs.get(kept[3].sha256).data() == kept[3].data()
    assert not store.blobs.keep(Content.of_bytes(b"x" * 2001))
    changing = Content(kept[0].sha256, 5, lambda: iter([b"other"]))
    assert not store.blobs.keep(changing), "what changes while it is read is not kept under a wrong hash"
    store.write("UPDATE pieces SET data=x'00'")
    assert store.blobs.damaged() == sorted(content.sha256 for content in kept[2:])


@given(st.binary(max_size=600_000))
def test_a_kept_content_is_what_it_was(data: bytes) -> None:
    store = Store(None)
    content = Content.of_bytes(data)
    assert store.blobs.keep(content)
    assert b"".join(store.blobs.get(content.sha256).chunks()) == data


# What is remembered


def test_what_became_different_between_two_runs() -> None:
    store = Store(None)
    for run, key, before, after in (
        ("r1", "a", None, {"x": 1}), ("r2", "a", {"x": 1}, {"x": 2}), ("r2", "b", None, {"y": 1}),
        ("r3", "b", {"y": 1}, None), ("r3", "a", {"x": 2}, {"x": 3}),
    ):  # fmt: skip
        store.runs.begin(run, "s", "w", "o")
        remember(store, key, "updated", before, after, {}, CONTEXT.replace(run=run))
    assert store.history.between("r1", "r3") == [{"key": "a", "before": {"x": 1}, "after": {"x": 3}}]
    assert [row["key"] for row in store.history.between("r2", "r1")] == ["a", "b"]
    with pytest.raises(StoreError, match="run r9 not found"):
        store.history.between("r1", "r9")
    with pytest.raises(StoreError, match="ambiguous"):
        store.runs.find("r")
    assert store.runs.find("last") == "r3"
    assert store.history.drop(2**40) == 5


def test_orphans_are_what_a_whole_run_did_not_touch() -> None:
    store = Store(None)
    for key, site, task in (("m:t:a", "s", "x"), ("m:t:b", "s", "x"), ("m:t:c", "s", "spared"), ("m:t:d", "o", "x")):
        record(store, key, "c", {}, {}, True, "r", site, task)
    assert [row.key for row in store.records.untouched("s", {"m:t:a"}, ["spared"])] == ["m:t:b"]
    assert store.records.select(orphaned=True) == []
    for found in store.records.untouched("s", {"m:t:a"}, ["spared"]):
        store.records.mark_orphaned(found)
    assert [row.key for row in store.records.select(orphaned=True)] == ["m:t:b"]
    record(store, "m:t:b", "c", {}, {}, False, "r", "s", "x")
    assert store.records.select(orphaned=True) == [], "a site names it again"


_rows = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.sampled_from(["record", "remember", "run", "notify"])),
    max_size=20,
)


def _filled(rows: list[tuple[str, int, str]]) -> Any:
    store = Store(None)
    for name, value, what in rows:
        if what == "record":
            record(
                store, f"m:t:{name}", str(value), {"v": value}, {}, True, "r", "s", "t", "p", [{"a": value}], (None,)
            )
        elif what == "remember":
            remember(store, f"m:t:{name}", "new", None, {"v": value}, {}, CONTEXT, {"a": value}, None)
        elif what == "run":
            store.runs.begin(f"run{name}", "s", "w", str(value))
        else:
            store.handlers.notify([name], CONTEXT, str(value))
    return store


def _all(store: Any) -> dict[str, list[Any]]:
    hidden = ("_at", "seq", "id", "changed_at", "checked_at")
    return {
        table: sorted(str({k: v for k, v in row.items() if k not in hidden}) for row in dump(store, table))
        for table in TABLES
        if table != "meta"
    }


@given(_rows, _rows)
def test_an_import_that_replaces_is_the_export_and_one_that_merges_adds(
    there: list[tuple[str, int, str]], coming: list[tuple[str, int, str]]
) -> None:
    source, target = _filled(coming), _filled(there)
    kept = _all(target)
    for table in TABLES:
        load(target, table, dump(source, table), False)
    merged = _all(target)
    assert all(row in merged[table] for table in kept for row in kept[table])
    for table in TABLES:
        assert load(target, table, dump(source, table), False) == (0, 0), "a second import adds nothing"
    fresh = _filled([])
    for table in TABLES:
        load(fresh, table, dump(source, table), True)
    assert {table: set(rows) for table, rows in _all(fresh).items()} == {
        table: set(rows) for table, rows in _all(source).items()
    }


def test_records_come_back_as_they_were() -> None:
    store = Store(None)
    call = {"name": "m.t", "args": {"a": 1}}
    record(store, "m:t:a", "one", {"v": 1}, {"v": 1}, True, "r", "s", "t", "p", [call], ({"v": 0},))
    was = store.records.get("m:t:a")
    record(store, "m:t:a", "two", {"v": 2}, {"v": 2}, True, "r2", "s2", "t2", "p2", [{"name": "m.t", "args": {}}])
    remember(store, "m:t:a", "updated", {"v": 1}, {"v": 2}, {}, CONTEXT, call, was)
    store.records.restore("m:t:a", store.history.select("m:t:a")[0].was)
    now = store.records.get("m:t:a")
    assert was is not None
    assert now is not None
    moving = {"changed_at", "checked_at", "run", "seq"}
    assert {name: value for name, value in zip(Record.COLUMNS, now.row(), strict=True) if name not in moving} == {
        name: value for name, value in zip(Record.COLUMNS, was.row(), strict=True) if name not in moving
    }
    store.records.restore("m:t:a", None)
    assert store.records.select() == []


# Secrets

_text = st.text(min_size=4, max_size=30)


@given(_text, _text, _text)
def test_no_text_keeps_a_secret(secret: str, before: str, after: str) -> None:
    mask = Redactor([secret])
    assert secret not in mask.text(before + secret + after).replace(MASK, "")
    value = {before: [before + secret, {"x": secret}], "n": 1}
    assert mask.contains(value)
    hidden = mask.plain(value)
    ((name, items),) = [(name, items) for name, items in hidden.items() if name != "n"] or [("", [])]
    for text in (name, *[text for item in items for text in (item.values() if isinstance(item, dict) else [item])]):
        assert secret not in text.replace(MASK, "")


def test_a_short_secret_is_hidden_where_it_stands_alone() -> None:
    mask = Redactor(["ab", ""])
    assert mask.text("ab") == MASK
    assert mask.text("about cabs") == "about cabs"
    assert not Redactor([""])
