"""The host's memory: reasons, replicas, refusals, and what survives a kill."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sloth.errors import StateError
from sloth.payload.kernel.converge import NotConverged, converge
from sloth.payload.kernel.record import Context, ReplicaPosition
from sloth.payload.kernel.resource import REQUIRED, Args, Field, Resource
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Signatures, Store, StoreError
from sloth.state.local import query_replica
from sloth.state.queries import list_records
from sloth.state.replicas import absorb
from tests.support.paths import ROOT
from tests.support.stores import record


class Note(Resource):
    """A dict that stands for a host."""

    name = "test.note"
    fields = (
        Field("id", "str", REQUIRED),
        Field("text", "str"),
        Field("token", "str", secret=True),
        Field("settle", "int", how=True),
    )
    world: dict[str, dict[str, Any]] = {}
    works = True

    def identity(self) -> str:
        return str(self.args.id)

    def observe(self) -> Any:
        found = self.world.get(self.args.id)
        return dict(found) if found is not None else None

    def desired(self, now: Any) -> Any:
        return {"text": self.args.text, **({"token": self.args.token} if self.args.token else {})}

    def apply(self, change: Any) -> None:
        if self.works:
            self.world[self.args.id] = dict(change.after)


@pytest.fixture(autouse=True)
def fresh_world() -> None:
    Note.world = {}
    Note.works = True


def go(store: Any, check: bool = False, **given_args: Any) -> tuple[str, str]:
    outcome = converge(Note(Args(Note.check(given_args)), Host(None)), store, check, Context())
    store.commit()
    return outcome.status, outcome.reason


def test_why_a_resource_changed() -> None:
    store = Store(None)
    assert go(store, id="a", text="1", check=True) == ("changed", "new")
    assert go(store, id="a", text="1") == ("changed", "new")
    assert go(store, id="a", text="1") == ("unchanged", "")
    assert go(store, id="a", text="2") == ("changed", "updated")
    Note.world["a"]["text"] = "by hand"
    assert go(store, id="a", text="2", check=True) == ("changed", "drift")
    assert go(store, id="a", text="2") == ("changed", "drift")
    Note.world["a"]["text"] = "by hand"
    assert go(store, id="a", text="2", settle=5) == ("changed", "drift"), "how it is done is not what is asked for"
    Note.world["b"] = {"text": "there"}
    assert go(store, id="b", text="there") == ("unchanged", "adopted")
    assert [change.reason for change in store.history.select("test:note:a")] == ["drift", "drift", "updated", "new"]


def test_a_change_that_does_not_hold_is_an_error_and_not_recorded() -> None:
    store = Store(None)
    Note.works = False
    with pytest.raises(NotConverged):
        go(store, id="a", text="1")
    assert store.records.select() == []


class Other(Note):
    """Manages the same things under another key."""

    name = "test.other"


def first_of(store: Store, key: str) -> str | None:
    record = store.records.get(key)
    assert record is not None
    return record.first_json


def test_what_another_call_knew_to_be_secret_stays_hidden(tmp_path: Path) -> None:
    """A later run that does not read the secret finds it on the host, and would show it as what was there before."""
    path, secret = str(tmp_path / "state.db"), "hunter22-of-the-first-run"
    first = Store(path)
    first.redactor.add([secret])
    note = Note(Args(Note.check({"id": "a", "text": f"password {secret}"})), Host(None))  # type: ignore[arg-type]
    converge(note, first, False, Context(sensitive=True))
    first.commit()
    first.close()
    second = Store(path)
    call = Other(Args(Other.check({"id": "a", "text": "none"})), Host(None))  # type: ignore[arg-type]
    outcome = converge(call, second, False, Context())
    second.commit()
    assert outcome.status == "changed"
    assert secret not in json.dumps([outcome.before, outcome.after, outcome.diff])
    assert secret not in json.dumps([change.shown() for change in second.history.select("test:other:a")])
    second.close()
    assert secret.encode() not in Path(path).read_bytes()


def test_what_was_there_before_our_first_change_stays_known() -> None:
    store = Store(None)
    Note.world["a"] = {"text": "old"}
    go(store, id="a", text="1")
    assert first_of(store, "test:note:a") == '{"text":"old"}'
    go(store, id="a", text="2")
    assert first_of(store, "test:note:a") == '{"text":"old"}'
    go(store, id="b", text="1")
    assert first_of(store, "test:note:b") == "null", "there was nothing"
    Note.world["c"] = {"text": "1"}
    go(store, id="c", text="1")
    assert first_of(store, "test:note:c") is None, "we have changed nothing"
    converge(Other(Args(Other.check({"id": "a", "text": "3"})), Host(None)), store, False, Context())  # type: ignore[arg-type]
    assert first_of(store, "test:other:a") == '{"text":"old"}', "the record of the same thing knew it"
    former = store.records.get("test:note:a")
    assert former is not None
    assert not former.is_active


def test_a_secret_is_stored_as_a_keyed_hash_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "x.db"
    store = Store(str(path))
    assert go(store, id="a", text="1", token="hunter2") == ("changed", "new")
    store.close()
    assert not any(b"hunter2" in file.read_bytes() for file in path.parent.iterdir())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


_operation = st.tuples(
    st.sampled_from(("record", "forget", "clear", "sync")), st.sampled_from("abc"), st.integers(0, 2)
)


@settings(deadline=None)
@given(st.lists(_operation, max_size=25))
def test_a_replica_equals_its_original(operations: list[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        _compare_replica(Path(directory) / "replica.db", operations)


@pytest.mark.parametrize("name", ["desired", "observed", "before_first_change", "calls", "other_sites"])
@pytest.mark.parametrize("text", ["", "{", "7", '"x"', 7])
def test_a_replica_takes_no_record_that_could_not_be_read(tmp_path: Path, name: str, text: object) -> None:
    store = Store(None)
    record(store, "m:t:a", "1", {"v": 1}, {"v": 1}, True)
    changes = store.changes_since(None)
    path = tmp_path / "replica.db"
    absorb(path, changes, changes.rows)
    bad = [{**row, name: text} for row in changes.rows]
    with pytest.raises(StateError, match="cannot write the replica"):
        absorb(path, changes, bad)
    (kept,) = query_replica(path, list_records())
    assert kept.key == "m:t:a"


def test_a_damaged_record_of_a_replica_is_an_error_in_words(tmp_path: Path) -> None:
    store = Store(None)
    record(store, "m:t:a", "1", {"v": 1}, {"v": 1}, True)
    changes = store.changes_since(None)
    path = tmp_path / "replica.db"
    absorb(path, changes, changes.rows)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE resources SET desired=''")
    database.close()
    with pytest.raises(StateError, match="has a damaged record"):
        query_replica(path, list_records())


def _compare_replica(path: Path, operations: list[tuple[str, str, int]]) -> None:
    store = Store(None)
    seen: ReplicaPosition | None = None
    for operation, name, value in [*operations, ("sync", "a", 0)]:
        key = f"m:t:{name}"
        if operation == "record":
            record(store, key, str(value), {"v": value}, {"v": value}, value > 0)
        elif operation == "forget":
            store.records.forget(key)
        elif operation == "clear":
            store.records.clear()
        else:
            changes = store.changes_since(seen)
            absorb(path, changes, changes.rows)
            seen = ReplicaPosition(id=changes.id, seq=changes.seq)
        store.commit()
    hidden = ("checked_at",)

    def rows(of: Any) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.shown().items() if k not in hidden} for row in of.records.select()]

    assert rows(Store(str(path), readonly=True)) == rows(store)


def test_a_newer_file_is_refused_politely_and_a_damaged_one_clearly(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")
    Store(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StoreError, match="format 99"):
        Store(path)
    Path(path).write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="damaged"):
        Store(path, readonly=True)


def test_looking_creates_nothing(tmp_path: Path) -> None:
    assert Store(str(tmp_path / "none" / "x.db"), readonly=True).records.select() == []
    assert list(tmp_path.iterdir()) == []


def test_a_kill_loses_no_committed_row(tmp_path: Path) -> None:
    script = """
import sys
import tempfile
from sloth.payload.state.store import Store
from sloth.state.replicas import absorb
from tests.support.paths import ROOT
from tests.support.stores import record
store = Store(sys.argv[1])
for number in range(100000):
    record(store, "m:t:%d" % number)
    store.commit()
    print(number, flush=True)
"""
    for _ in range(3):
        path = str(tmp_path / "x.db")
        child = subprocess.Popen(
            [sys.executable, "-c", script, path],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(20)]
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.stdout if line.endswith("\n")]
        child.wait()
        child.stdout.close()
        store = Store(path)
        assert {f"m:t:{number}" for number in told} <= {row.key for row in store.records.select()}
        store.close()


def test_a_changed_file_is_never_taken_for_unchanged(tmp_path: Path) -> None:
    store = Store(None)
    host = Host(None, Signatures(store, store.redactor))
    path = tmp_path / "f"
    for number in range(200):
        path.write_text(f"{number:04d}")
        first = host.content(str(path)).sha256
        assert host.content(str(path)).sha256 == first
        path.write_text(f"{number + 5000:04d}")
        assert host.content(str(path)).sha256 != first
