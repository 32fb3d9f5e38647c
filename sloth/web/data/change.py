"""One change of a run, with its diff."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.errors import StateNotFound
from sloth.frozen import frozen
from sloth.web.data.run import ResultRow, read_diff, read_result, require_run, result_columns
from sloth.web.data.runs import RunRow, read_run
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.web.view import Query

LARGEST_DIFF = 8 * 1024 * 1024  # characters of JSON; run records keep far less
LARGEST_ERROR = 200_000


@frozen
class ChangePage:
    """One result of a run, and how what it is about differs."""

    run: RunRow
    result: ResultRow
    diff: dict[str, object]
    is_too_large: bool


def find_change(source: Source, query: Query) -> ChangePage:
    """Return one result of a run. Raises StateNotFound."""
    run = read_run(require_run(source, query.text("run")))
    row = source.database.row(
        f"SELECT {result_columns(LARGEST_ERROR)}, CASE WHEN length(diff)<=? THEN diff END AS text,"
        " length(diff)>? AS large FROM run_results WHERE rowid=? AND run=?",
        (LARGEST_DIFF, LARGEST_DIFF, query.number("number"), run.run),
    )
    if row is None:
        raise StateNotFound(f"run {run.run} has no such result")
    return ChangePage(run, read_result(row), read_diff(row["text"]), bool(row["large"]))
