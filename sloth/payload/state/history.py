"""The history: every change, what was there before and after, why, in which run, and who ran it from where."""

import time

from sloth.payload.kernel import plain_json
from sloth.payload.kernel.status import Reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

    from sloth.payload.kernel.findings import HistoryEntry
    from sloth.payload.kernel.record import Context, Record
    from sloth.payload.kernel.redact import Redacted
    from sloth.payload.kernel.values import Column, JsonObject, Rows
    from sloth.payload.state.database import Database
    from sloth.payload.state.runs import Runs

COLUMNS = (
    "id", "key", "at", "run", "reason", "before", "after", "diff", "site", "task", "who", "origin", "call", "was",
)  # fmt: skip
_JSON = ("before", "after", "diff", "call", "was")


class History(object):
    """The table `history`."""

    def __init__(self, database: "Database", runs: "Runs") -> "None":
        self._db = database
        self._runs = runs

    def add(
        self,
        key: "str",
        reason: "Reason",
        before: "Redacted",
        after: "Redacted",
        diff: "Redacted",
        context: "Context",
        call: "str | None",
        was: "Record | None",
    ) -> "int":
        """Add a change; return its number. call: JSON of the RecordedCall; was: the record before the change."""
        cursor = self._db.write(
            "INSERT INTO history (%s) VALUES (%s)" % (",".join(COLUMNS[1:]), ",".join("?" * len(COLUMNS[1:]))),
            (
                key, int(time.time()), context.run, reason.value, before.json, after.json, diff.json,
                context.site, context.task, context.who, context.origin, call, None if was is None else was.former(),
            ),
        )  # fmt: skip
        return int(cursor.lastrowid or 0)

    def remove(self, numbers: "Iterable[int]") -> "None":
        """Remove changes that were not made."""
        for number in numbers:
            self._db.write("DELETE FROM history WHERE id=?", (number,))

    def select(
        self, key: "str | None" = None, limit: "int" = 100, run: "str | None" = None, task: "str | None" = None
    ) -> "list[HistoryEntry]":
        """Return the newest `limit` changes (of `key`, of `run`, of `task`), newest first; -1: all."""
        return [_entry(row) for row in self._rows(key, limit, run, task)]

    def shown(self, key: "str | None" = None, limit: "int" = 100, run: "str | None" = None) -> "Rows":
        """Return the same as commands print it: the form of "change" in report/schema_state.json."""
        return [_shown(row) for row in self._rows(key, limit, run, None)]

    def _rows(
        self, key: "str | None", limit: "int", run: "str | None", task: "str | None"
    ) -> "list[tuple[Column, ...]]":
        where, values = self._db.where((("key=?", key), ("run=?", run), ("task=?", task)))
        statement = "SELECT %s FROM history%s ORDER BY id DESC LIMIT ?" % (",".join(COLUMNS), where)
        return list(self._db.execute(statement, [*values, limit]).fetchall())

    def between(self, first: "str", last: "str") -> "Rows":
        """Return what changed after run `first` ended until run `last` did: dicts of key, before, after, by key.

        Raises StoreError when there is no such run.
        """
        low, high = sorted(self._runs.position(run) for run in (first, last))
        rows = self._db.execute(
            "SELECT key, before, after FROM history WHERE run IN (SELECT run FROM runs WHERE rowid>? AND rowid<=?)"
            " ORDER BY id",
            (low, high),
        )
        found: "dict[str, JsonObject]" = {}
        for key, before, after in rows:
            entry = found.setdefault(key, {"key": key, "before": plain_json.loads(before or "null")})
            entry["after"] = plain_json.loads(after or "null")
        return [found[key] for key in sorted(found) if found[key]["before"] != found[key]["after"]]

    def drop(self, older: "int") -> "int":
        """Delete history and runs from before the epoch time `older`; return how many changes were deleted."""
        count: "int" = self._db.write("DELETE FROM history WHERE at<?", (older,)).rowcount
        self._db.write("DELETE FROM runs WHERE started<?", (older,))
        return count


def _shown(row: "tuple[Column, ...]") -> "JsonObject":
    shown: "JsonObject" = dict(zip(COLUMNS, row))
    for name in _JSON:
        shown[name] = None if shown[name] is None else plain_json.loads(shown[name])
    return shown


def _entry(row: "tuple[Column, ...]") -> "HistoryEntry":
    from sloth.payload.kernel.findings import HistoryEntry, RecordedCall  # a usual run reads no history

    shown = _shown(row)
    call = None if shown["call"] is None else RecordedCall.read(shown["call"])
    return HistoryEntry(**dict(shown, reason=Reason(shown["reason"]), call=call))
