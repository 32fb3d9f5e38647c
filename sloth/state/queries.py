"""Queries of a state as typed values: what to ask of a host, of this machine or of a replica, and what comes back.

The payload answers each by the method of the same name in payload/session/queries.py. Answers are Values, whose shown()
is the JSON that commands print; its form is in report/schema_state.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Generic, TypeVar

from sloth.errors import StateError
from sloth.frozen import frozen
from sloth.payload.kernel.findings import Drift, DriftStatus, Handler, Restored, RestoreStatus, RunEntry
from sloth.payload.kernel.status import Reason
from sloth.payload.kernel.value import InvalidValue, Value, uses_words

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Diff, Json, JsonObject, Rows
    from sloth.payload.session.messages import LockHolder

T = TypeVar("T")
__all__ = [
    "Change", "Difference", "Drift", "DriftStatus", "Handler", "RestoreStatus", "Restored", "RunEntry",
    "StateQuery", "Stats",
]  # fmt: skip
uses_words(Reason)


class StateRecord(Value):
    """The record of a resource. Times are epoch seconds.

    `made` is what was there before the first change, `ours` whether that first change created it, `superseded_by` the
    key of the record that manages the thing since, `other_sites` the sites besides `site` that name it; `frozen` is who
    has frozen it, why, and until when.
    """

    key: str
    module: str
    type: str
    id: str
    checksum: str
    desired: JsonObject | None
    observed: JsonObject | None
    site: str | None
    task: str | None
    place: str | None
    created_at: int
    changed_at: int
    checked_at: int
    run: str | None
    seq: int
    calls: Json
    orphaned: int | None
    superseded_by: str | None
    other_sites: list[str]
    made: JsonObject | None
    ours: bool
    frozen: JsonObject | None = None


class Change(Value):
    """A change in the history of a resource."""

    id: int
    key: str
    at: int
    run: str | None
    reason: Reason
    before: JsonObject | None
    after: JsonObject | None
    diff: Diff | None
    site: str | None
    task: str | None
    who: str | None
    origin: str | None
    call: JsonObject | None
    was: JsonObject | None


class Difference(Value):
    """How a resource differs between the ends of two runs."""

    key: str
    before: JsonObject | None
    after: JsonObject | None
    diff: Diff


class Stats(Value):
    """How much a state file holds; sizes in bytes, times in epoch seconds."""

    path: str
    size: int
    version: int
    resources: int
    types: JsonObject
    orphaned: int
    handlers: int
    history: int
    runs: int
    contents: int
    contents_size: int
    first_created_at: int | None
    last_changed_at: int | None
    last_checked_at: int | None


@frozen
class RecordWithHistory:
    """A record, and its newest changes, newest first."""

    record: StateRecord
    history: tuple[Change, ...]

    def shown(self) -> JsonObject:
        """Return it as commands print it."""
        return {**self.record.shown(), "history": [change.shown() for change in self.history]}


@frozen
class Freed:
    """What vacuum() did: how many changes it forgot, and how many bytes it freed."""

    changes: int
    bytes: int


@frozen
class Loaded:
    """What load_rows() did: how many rows were added, and how many altered."""

    added: int = 0
    altered: int = 0

    def __add__(self, other: Loaded) -> Loaded:
        return Loaded(self.added + other.added, self.altered + other.altered)


@frozen
class StateQuery(Generic[T]):
    """A query: its name and arguments for the payload, and how to read a row of the answer.

    Attributes:
        needs_history: whether a replica, which holds the records only, cannot answer it.
    """

    op: str
    row: Callable[[JsonObject], T] = field(repr=False)
    args: JsonObject = field(default_factory=dict)
    needs_history: bool = True

    def read(self, rows: Rows) -> list[T]:
        """Return the rows of an answer as values. Raises StateError."""
        try:
            return [self.row(row) for row in rows]
        except (InvalidValue, KeyError, TypeError, ValueError) as error:
            raise StateError(f"invalid answer to the state query {self.op}: {error}") from error


# Reading


def list_records(module: str = "", type: str = "", orphaned: bool = False) -> StateQuery[StateRecord]:
    """The records of a module and type ("": all); or of what its site no longer names."""
    args = {"module": module or None, "type": type or None, "orphaned": orphaned}
    return StateQuery("list", StateRecord.read, args, needs_history=False)


def show_record(key: str) -> StateQuery[RecordWithHistory]:
    """The records that `key` may mean: the key itself, or module:id."""
    return StateQuery("show", _record_with_history, {"key": key}, needs_history=False)


def match_keys(key: str) -> StateQuery[str]:
    """The keys of the records that `key` may mean."""
    return StateQuery("match", lambda row: str(row["key"]), {"key": key}, needs_history=False)


def list_changes(key: str = "", run: str | None = None, limit: int = 100) -> StateQuery[Change]:
    """The newest changes, newest first; of one key, or of one run."""
    return StateQuery("history", Change.read, {"key": key or None, "run": run, "limit": limit})


def compare_runs(first: str, last: str) -> StateQuery[Difference]:
    """What differs between the end of one run and the end of a later one."""
    return StateQuery("between", Difference.read, {"first": first, "last": last})


def list_runs(limit: int = 50) -> StateQuery[RunEntry]:
    """The newest runs that have worked on the host, newest first."""
    return StateQuery("runs", RunEntry.read, {"limit": limit})


def list_handlers() -> StateQuery[Handler]:
    """The handlers that an interrupted run has left to the next one."""
    return StateQuery("handlers", Handler.read)


def read_lock() -> StateQuery[LockHolder]:
    """Who holds the run lock of the host; nothing when nobody does."""
    from sloth.payload.session.messages import LockHolder

    return StateQuery("lock", LockHolder.read)


def read_stats() -> StateQuery[Stats]:
    """One row: how much there is."""
    return StateQuery("stats", Stats.read, needs_history=False)


def check_file() -> StateQuery[str]:
    """The problems of the state file itself."""
    return StateQuery("check", lambda row: str(row["problem"]))


def find_drift(keys: Sequence[str] | None = None) -> StateQuery[Drift]:
    """What the host no longer has as it was applied, and a last row with the number of all the others."""
    return StateQuery("drift", Drift.read, {"keys": None if keys is None else list(keys)})


# Editing


def delete_record(key: str) -> StateQuery[bool]:
    """Forget a record: whether there was one."""
    return StateQuery("delete", lambda row: bool(row["deleted"]), {"key": key})


def move_record(old: str, new: str) -> StateQuery[bool]:
    """Give a record, and its history, another key: whether there was one."""
    return StateQuery("move", lambda row: bool(row["moved"]), {"old": old, "new": new})


def freeze(key: str, why: str, until: int | None, seconds: float | None) -> StateQuery[int]:
    """Let runs leave a resource alone until a time, or for some seconds; the answer is the end, by the host's clock."""
    args = {"key": key, "why": why, "until": until, "seconds": seconds}
    return StateQuery("freeze", lambda row: int(row["until"]), args)


def unfreeze(key: str) -> StateQuery[bool]:
    """Let runs change the resource of a record again: whether it was frozen."""
    return StateQuery("unfreeze", lambda row: bool(row["thawed"]), {"key": key})


def clear() -> StateQuery[int]:
    """Forget all records: how many there were."""
    return StateQuery("clear", lambda row: int(row["deleted"]))


def vacuum(older: int | None = None) -> StateQuery[Freed]:
    """Make the file smaller; forget the history before `older` (epoch seconds)."""
    return StateQuery("vacuum", lambda row: Freed(int(row["changes"]), int(row["freed"])), {"older": older})


def roll_back(run: str, *, check: bool = False, force: bool = False) -> StateQuery[Restored]:
    """Take back what a run has changed, or, with `check`, show what would become of it."""
    return StateQuery("rollback", Restored.read, {"run": run, "check": check, "force": force})


# Export and import; the last two end the transaction of all those before them


def dump_rows(table: str, after: int = 0) -> StateQuery[JsonObject]:
    """The next page of a table; "_at" of its last row is `after` for the page that follows."""
    return StateQuery("dump", _dumped, {"table": table, "after": after})


def _dumped(row: JsonObject) -> JsonObject:
    if type(row["_at"]) is not int:
        raise ValueError("the position of a row is not a number")
    return dict(row)


def load_rows(table: str, rows: Iterable[JsonObject], replace: bool) -> StateQuery[Loaded]:
    """Add rows of dump_rows() to a table; replace: also where there are others with the same key."""
    args = {"table": table, "rows": list(rows), "replace": replace}
    return StateQuery("load", lambda row: Loaded(int(row["added"]), int(row["altered"])), args)


def empty() -> StateQuery[JsonObject]:
    """Delete everything that an export holds."""
    return StateQuery("empty", dict)


def commit() -> StateQuery[JsonObject]:
    """Make the changes of load_rows() and empty() durable."""
    return StateQuery("commit", dict)


def abandon() -> StateQuery[JsonObject]:
    """Undo the changes of load_rows() and empty()."""
    return StateQuery("abandon", dict)


def _record_with_history(row: JsonObject) -> RecordWithHistory:
    return RecordWithHistory(StateRecord.read(row), tuple(Change.read(change) for change in row["history"]))
