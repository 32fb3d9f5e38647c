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
from sloth.payload.kernel.redact import MASK, Mask
from sloth.payload.state import blobs as contents_module
from sloth.payload.state.database import VERSION
from sloth.payload.state.export import TABLES, dump, load
from sloth.payload.state.store import COLUMNS, Store, StoreError

ROOT = Path(__file__).parent.parent.parent
FORMATS = ROOT / "tests" / "formats"
ABOUT = {"run": "r", "site": "s", "task": "t", "who": "w", "origin": "o"}


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
    keys = [row["key"] for row in store.list()]
    assert keys == ["file:copy:/etc/motd", "file:lineinfile:/etc/hosts:10.0.0.1 db", "user:create:deploy"]
    assert store.get("user:create:deploy")["desired"] == {"a": 1}
    assert [row["reason"] for row in store.history()] == ["new"] * 4
    assert [row["run"] for row in store.runs()] == ["r2", "r1"]
    assert store.get("file:copy:/etc/motd")["calls"] is None
    assert store.handlers() == []
    store.close()
    assert (path.read_bytes() == before) is readonly, "a look migrates a copy"
    if not readonly:
        again = Store(str(path))
        again.record("m:t:i", "c", {}, {}, True, "r3", "s", "t", "p", [{"name": "m.t"}], (None,))
        again.commit()
        assert again.get("m:t:i")["ours"]


def test_a_new_file_has_the_columns_of_a_migrated_one(tmp_path: Path) -> None:
    def columns(path: Path) -> dict[str, set[str]]:
        Store(str(path)).close()
        with sqlite3.connect(path) as database:
            tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            found = {table: {row[1] for row in database.execute(f"PRAGMA table_info({table})")} for table in tables}
        database.close()
        return found

    assert columns(tmp_path / "new.db") == columns(made_by(1, tmp_path / "old.db"))


def test_a_migration_that_is_killed_is_done_by_the_next(tmp_path: Path) -> None:
    path = made_by(1, tmp_path / "x.db")
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
        assert len(looked.list()) == 3, f"after statement {statement}"
        looked.close()
        if done.stdout:
            break
    assert done.stdout == "done\n", done.stderr
    assert statement > 10


WORK = """
import sys
from sloth.payload.state.store import Store
from sloth.payload.kernel.content import Content
store = Store(sys.argv[1])
about = {"run": "r", "site": "s", "task": "t", "who": "w", "origin": "o"}
begin = int(sys.argv[2])
for number in range(begin, begin + 100000):
    key = "m:t:%d" % number
    store.contents.keep(Content.of_bytes(b"%d" % number * 300))
    store.notify(["h%d" % number], about, key)
    store.record(key, "c", {"n": number}, {"n": number}, True, "r", "s")
    store.remember(key, "new", None, {"n": number}, {}, about)
    store.settle("s", ["h%d" % number])
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
    assert {f"m:t:{number}" for number in told} <= {row["key"] for row in store.list()}
    assert {f"m:t:{number}" for number in told} <= {row["key"] for row in store.history(limit=-1)}
    assert store.contents.damaged() == []
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
        store.record("m:t:after", "c", {}, {}, True)
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
    assert store.list() == []
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
        assert store.contents.keep(content)
    assert store.stats()["contents_size"] <= 4000
    assert [store.contents.get(content.sha256) is not None for content in kept] == [False, False, True, True]
    assert store.contents.get(kept[3].sha256).data() == kept[3].data()
    assert not store.contents.keep(Content.of_bytes(b"x" * 2001))
    changing = Content(kept[0].sha256, 5, lambda: iter([b"other"]))
    assert not store.contents.keep(changing), "what changes while it is read is not kept under a wrong hash"
    store._write("UPDATE pieces SET data=x'00'")
    assert store.contents.damaged() == sorted(content.sha256 for content in kept[2:])


@given(st.binary(max_size=600_000))
def test_a_kept_content_is_what_it_was(data: bytes) -> None:
    store = Store(None)
    content = Content.of_bytes(data)
    assert store.contents.keep(content)
    assert b"".join(store.contents.get(content.sha256).chunks()) == data


# What is remembered


def test_what_became_different_between_two_runs() -> None:
    store = Store(None)
    for run, key, before, after in (
        ("r1", "a", None, {"x": 1}), ("r2", "a", {"x": 1}, {"x": 2}), ("r2", "b", None, {"y": 1}),
        ("r3", "b", {"y": 1}, None), ("r3", "a", {"x": 2}, {"x": 3}),
    ):  # fmt: skip
        store.begin_run(run, "s", "w", "o")
        store.remember(key, "updated", before, after, {}, {**ABOUT, "run": run})
    assert store.between("r1", "r3") == [{"key": "a", "before": {"x": 1}, "after": {"x": 3}}]
    assert [row["key"] for row in store.between("r2", "r1")] == ["a", "b"]
    with pytest.raises(StoreError, match="no run r9"):
        store.between("r1", "r9")
    with pytest.raises(StoreError, match="may be any of"):
        store.find_run("r")
    assert store.find_run("last") == "r3"
    assert store.drop_history(2**40) == 5


def test_orphans_are_what_a_whole_run_did_not_touch() -> None:
    store = Store(None)
    for key, site, task in (("m:t:a", "s", "x"), ("m:t:b", "s", "x"), ("m:t:c", "s", "spared"), ("m:t:d", "o", "x")):
        store.record(key, "c", {}, {}, True, "r", site, task)
    assert [row["key"] for row in store.orphans("s", {"m:t:a"}, ["spared"], False)] == ["m:t:b"]
    assert store.list(orphaned=True) == []
    store.orphans("s", {"m:t:a"}, ["spared"], True)
    assert [row["key"] for row in store.list(orphaned=True)] == ["m:t:b"]
    store.record("m:t:b", "c", {}, {}, False, "r", "s", "x")
    assert store.list(orphaned=True) == [], "a site names it again"


_rows = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.sampled_from(["record", "remember", "run", "notify"])),
    max_size=20,
)


def _filled(rows: list[tuple[str, int, str]]) -> Any:
    store = Store(None)
    for name, value, what in rows:
        if what == "record":
            store.record(f"m:t:{name}", str(value), {"v": value}, {}, True, "r", "s", "t", "p", [{"a": value}], (None,))
        elif what == "remember":
            store.remember(f"m:t:{name}", "new", None, {"v": value}, {}, ABOUT, {"a": value}, None)
        elif what == "run":
            store.begin_run(f"run{name}", "s", "w", str(value))
        else:
            store.notify([name], ABOUT, str(value))
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
        assert load(target, table, dump(source, table), False) == [0, 0], "a second import adds nothing"
    fresh = _filled([])
    for table in TABLES:
        load(fresh, table, dump(source, table), True)
    assert {table: set(rows) for table, rows in _all(fresh).items()} == {
        table: set(rows) for table, rows in _all(source).items()
    }


def test_records_come_back_as_they_were() -> None:
    store = Store(None)
    store.record("m:t:a", "one", {"v": 1}, {"v": 1}, True, "r", "s", "t", "p", [{"a": 1}], ({"v": 0},))
    was = store.look_up("m:t:a")
    store.record("m:t:a", "two", {"v": 2}, {"v": 2}, True, "r2", "s2", "t2", "p2", [{"a": 2}])
    store.remember("m:t:a", "updated", {"v": 1}, {"v": 2}, {}, ABOUT, {"a": 2}, was)
    store.restore("m:t:a", store.history("m:t:a")[0]["was"])
    now = store.look_up("m:t:a")
    moving = {"changed_at", "checked_at", "run", "seq"}
    assert {name: now[name] for name in COLUMNS if name not in moving} == {
        name: was[name] for name in COLUMNS if name not in moving
    }
    store.restore("m:t:a", None)
    assert store.list() == []


# Secrets

_text = st.text(min_size=4, max_size=30)


@given(_text, _text, _text)
def test_no_text_keeps_a_secret(secret: str, before: str, after: str) -> None:
    mask = Mask([secret])
    assert secret not in mask.text(before + secret + after).replace(MASK, "")
    value = {before: [before + secret, {"x": secret}], "n": 1}
    assert mask.holds(value)
    hidden = mask.data(value)
    ((name, items),) = [(name, items) for name, items in hidden.items() if name != "n"] or [("", [])]
    for text in (name, *[text for item in items for text in (item.values() if isinstance(item, dict) else [item])]):
        assert secret not in text.replace(MASK, "")


def test_a_short_secret_is_hidden_where_it_stands_alone() -> None:
    mask = Mask(["ab", ""])
    assert mask.text("ab") == MASK
    assert mask.text("about cabs") == "about cabs"
    assert not Mask([""])
