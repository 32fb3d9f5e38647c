"""One run: how it was called, what became of each host and task, what it changed, and where time went."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sloth.errors import StateNotFound
from sloth.frozen import frozen
from sloth.web.data.database import Row
from sloth.web.data.paging import Page, Where, like, select
from sloth.web.data.runs import COLUMNS, About, RunRow, read_about, read_run
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.web.view import Query

LARGEST_DIFF = 4 * 1024 * 1024  # characters of JSON that a page shows


@frozen
class ResultRow:
    """What changed or failed in a run.

    Attributes:
        number: the number of the result, for its address.
        place: the line of the site.
        has_diff: whether there is more to see of it.
    """

    number: int
    run: str
    host: str
    task: str
    key: str
    status: str
    reason: str
    place: str
    error: str
    seconds: float | None
    at: float | None
    has_diff: bool


@frozen
class Count:
    """How many results have something in common."""

    name: str
    status: str
    count: int
    hosts: int


@frozen
class Run:
    """One run.

    Attributes:
        tasks: how many results each task has, by status.
        hosts: how many hosts ended with each status.
        results: a page of what changed or failed.
        rollback: the command that takes it back, "" where there is nothing to.
    """

    run: RunRow
    about: About
    tasks: tuple[Count, ...]
    hosts: tuple[Count, ...]
    results: Page[ResultRow]
    rollback: str


LONGEST_ERROR = 4000  # characters in a list; the result's own page has more


def result_columns(longest_error: int) -> str:
    """Return the columns that read_result() takes, with so many characters of errors."""
    return (
        "rowid AS number, run, host, task, key, status, reason, place,"
        f" substr(error, 1, {longest_error}) AS error, seconds, at, diff IS NOT NULL AND diff<>'{{}}' AS has_diff"
    )


RESULT = result_columns(LONGEST_ERROR)
SORTABLE = {
    "host": "host",
    "task": "task",
    "key": "key",
    "status": "status",
    "reason": "reason",
    "seconds": "seconds",
    "order": "status IN ('changed', 'frozen', 'unknown')",  # failures first, the first of them at the top
}


def find_run(source: Source, query: Query) -> Run:
    """Return one run, with a page of its results. Raises StateNotFound."""
    row = require_run(source, query.text("run"))
    run = read_run(row)
    about = read_about(row["about"])
    where = Where()
    where.add("run=?", run.run)
    for name in ("status", "reason", "host", "task"):
        where.add_if(f"{name}=?", query.text(name))
    if query.text("q"):
        text = like(query.text("q"))
        where.add(
            r"host LIKE ? ESCAPE '\' OR key LIKE ? ESCAPE '\' OR task LIKE ? ESCAPE '\' OR error LIKE ? ESCAPE '\'",
            text, text, text, text,
        )  # fmt: skip
    results = select(
        source.database, RESULT, "run_results", where, query.window, "order", SORTABLE, read_result, "rowid"
    )
    tasks = source.database.rows(
        "SELECT coalesce(task, ''), status, count(*), count(DISTINCT host) FROM run_results WHERE run=?"
        " GROUP BY 1, 2 ORDER BY min(rowid)",
        (run.run,),
    )
    hosts = source.database.rows(
        "SELECT status, status, count(*), count(*) FROM run_hosts WHERE run=? GROUP BY 1 ORDER BY 3 DESC", (run.run,)
    )
    return Run(
        run=run,
        about=about,
        tasks=tuple(Count(*row) for row in tasks),
        hosts=tuple(Count(*row) for row in hosts),
        results=results,
        rollback=f"sloth-runner rollback {run.run}" if run.kind == "run" and run.changed else "",
    )


def require_run(source: Source, run: str) -> Row:
    """Return the row of a run, or of the only one whose id begins so. Raises StateNotFound."""
    if run == "last":
        rows = source.database.rows(f"SELECT {COLUMNS} FROM runs ORDER BY started DESC LIMIT 1")
    else:
        rows = source.database.rows(f"SELECT {COLUMNS} FROM runs WHERE run=?", (run,))
        rows = rows or source.database.rows(
            f"SELECT {COLUMNS} FROM runs WHERE substr(run, 1, length(?1))=?1 AND ?1<>'' LIMIT 2", (run,)
        )
    if len(rows) != 1:
        raise StateNotFound(f"run {run} {'is ambiguous' if rows else 'not found'}", hint="see the list of runs")
    return rows[0]


def read_result(row: Row) -> ResultRow:
    """Return a row of RESULT as a value."""
    return ResultRow(
        number=row["number"],
        run=row["run"],
        host=row["host"],
        task=row["task"] or "",
        key=row["key"] or "",
        status=row["status"] or "",
        reason=row["reason"] or "",
        place=row["place"] or "",
        error=row["error"] or "",
        seconds=row["seconds"],
        at=row["at"],
        has_diff=bool(row["has_diff"]),
    )


def read_diff(text: str | None) -> dict[str, object]:
    """Return a recorded diff: by attribute, "before" and "after", or "unified", or "cut" (bytes that were not kept)."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)} if isinstance(found, dict) else {}
