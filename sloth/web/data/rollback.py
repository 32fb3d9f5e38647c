"""What a rollback of a run would do, as far as the controller knows; `rollback --check` asks the hosts."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.web.data.database import Row
from sloth.web.data.paging import Page, Where, select
from sloth.web.data.run import require_run
from sloth.web.data.runs import RunRow, read_run
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.web.view import Query


class Undo(StrEnum):
    """What would become of a change."""

    REMOVE = "remove"  # the run has created it
    RESTORE = "restore"
    CHANGED_SINCE = "changed since"  # another run has changed it: it is left alone without --force


@frozen
class UndoRow:
    """A change of the run; later: the run that has changed the same since, "" for none."""

    number: int
    host: str
    key: str
    undo: Undo
    later: str


@frozen
class RollbackPage:
    """What a rollback would do. check and command: to copy."""

    run: RunRow
    check: str
    command: str
    changes: Page[UndoRow]


_LATER = (
    "(SELECT l.run FROM run_results l JOIN runs lr ON lr.run=l.run WHERE l.key=run_results.key AND"
    " l.host=run_results.host AND l.status='changed' AND l.rowid>run_results.rowid AND l.run<>run_results.run"
    " AND coalesce(lr.kind, 'run')='run' ORDER BY l.rowid DESC LIMIT 1)"
)


def find_rollback(source: Source, query: Query) -> RollbackPage:
    """Return what a rollback of a run would do. Raises StateNotFound."""
    run = read_run(require_run(source, query.text("run")))
    where = Where()
    where.add("run=?", run.run)
    where.add("status='changed' AND key<>''")
    if run.kind != "run":
        where.add("0")  # it has changed nothing
    changes = select(
        source.database,
        f"rowid AS number, host, key, reason, {_LATER} AS later",
        "run_results",
        where,
        query.window,
        "-order",
        {"order": "rowid", "host": "host", "key": "key"},
        _undo,
        "rowid DESC",
    )
    command = f"sloth-runner rollback {run.run}"
    return RollbackPage(run, f"{command} --check --diff", command, changes)


def _undo(row: Row) -> UndoRow:
    later = row["later"] or ""
    undo = Undo.CHANGED_SINCE if later else Undo.REMOVE if row["reason"] == "new" else Undo.RESTORE
    return UndoRow(row["number"], row["host"], row["key"] or "", undo, later)
