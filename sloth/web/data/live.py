"""A run that goes on: how far it is, what each host does, and the newest results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sloth.errors import StateNotFound
from sloth.frozen import frozen
from sloth.web.data.run import RESULT, ResultRow, read_result, require_run
from sloth.web.data.runs import End, RunRow, read_run
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.web.view import Query

NEWEST = 30  # results that are shown
HOSTS = 300  # hosts that are shown
_RANK = ("failed", "unreachable", "running", "waiting", "changed", "unknown", "unchanged", "skipped")


@frozen
class LiveHost:
    """One host: "waiting", "running", or how it ended; task: the last one that it has ended; tasks: how many."""

    host: str
    status: str
    task: str
    tasks: int


@frozen
class Live:
    """How far a run is.

    Attributes:
        mark: another one whenever anything of it has changed.
        has_ended: whether its end is recorded.
        ended: hosts that have ended; total: all of them.
        changed, failed: results so far.
        hosts: those that failed first, then those that still work.
        more_hosts: how many are not among `hosts`.
        newest: results, the newest first.
    """

    run: RunRow
    mark: str
    has_ended: bool
    total: int
    ended: int
    running: int
    tasks: int
    changed: int
    failed: int
    hosts: tuple[LiveHost, ...]
    more_hosts: int
    newest: tuple[ResultRow, ...]


def find_mark(source: Source, run: str) -> str:
    """Return what changes whenever anything of a run has: it is cheap to ask for. Raises StateNotFound."""
    row = source.database.row(
        "SELECT (SELECT max(rowid) FROM run_results WHERE run=?1), (SELECT max(rowid) FROM run_hosts WHERE run=?1),"
        " (SELECT max(rowid) FROM run_progress WHERE run=?1), status FROM runs WHERE run=?1",
        (run,),
    )
    if row is None:
        raise StateNotFound(f"run {run} not found", hint="see the list of runs")
    return ".".join("" if value is None else str(value) for value in row)


def is_over(source: Source, run: str) -> bool:
    """Return whether a run does not go on. Raises StateNotFound."""
    return read_run(require_run(source, run)).end is not End.RUNNING


def find_live(source: Source, run: str) -> Live:
    """Return how far a run is, by its id. Raises StateNotFound."""
    mark = find_mark(source, run)  # first: what comes in between is shown once more
    database = source.database
    head = require_run(source, run)
    row = read_run(head)
    given = database.row("SELECT given FROM runs WHERE run=?", (run,))
    statuses = dict.fromkeys(planned_hosts(given[0] if given else None), "waiting")
    tasks: dict[str, tuple[int, str]] = {}
    for host, task, status in database.rows(
        "SELECT host, task, status FROM run_progress WHERE run=? ORDER BY rowid", (run,)
    ):
        if task:
            number, _ = tasks.get(host, (0, ""))
            tasks[host] = (number + 1, task)
            if statuses.get(host, "waiting") == "waiting":
                statuses[host] = "running"
        else:
            statuses[host] = status
    for host, status in database.rows("SELECT host, status FROM run_hosts WHERE run=?", (run,)):
        statuses[host] = status
    results = database.rows("SELECT host, status, count(*) FROM run_results WHERE run=? GROUP BY 1, 2", (run,))
    for host, _, _ in results:
        statuses[host] = "running" if statuses.get(host, "waiting") == "waiting" else statuses[host]
    ended = sum(status not in ("waiting", "running") for status in statuses.values())
    hosts = []
    for name, status in statuses.items():
        number, task = tasks.get(name, (0, ""))
        hosts.append(LiveHost(name, status, task, number))
    hosts.sort(key=lambda one: (_RANK.index(one.status) if one.status in _RANK else len(_RANK), one.host))
    newest = database.rows(f"SELECT {RESULT} FROM run_results WHERE run=? ORDER BY rowid DESC LIMIT ?", (run, NEWEST))
    return Live(
        run=row,
        mark=mark,
        has_ended=row.status is not None,
        total=max(row.hosts, len(statuses)),
        ended=ended,
        running=sum(status == "running" for status in statuses.values()),
        tasks=sum(number for number, _ in tasks.values()),
        changed=sum(row[2] for row in results if row[1] in ("changed", "drift")),
        failed=sum(row[2] for row in results if row[1] in ("failed", "unreachable")),
        hosts=tuple(hosts[:HOSTS]),
        more_hosts=max(0, len(hosts) - HOSTS),
        newest=tuple(map(read_result, newest)),
    )


def read_live(source: Source, query: Query) -> Live:
    """Return the same for the API: of a run by its id, the beginning of it, or `last`. Raises StateNotFound."""
    return find_live(source, str(require_run(source, query.text("run"))["run"]))


def ended_hosts(source: Source, run: str) -> set[str]:
    """Return the hosts that a run has done with."""
    rows = source.database.rows(
        "SELECT host FROM run_progress WHERE run=?1 AND task='' UNION SELECT host FROM run_hosts WHERE run=?1", (run,)
    )
    return {str(row[0]) for row in rows}


def planned_hosts(given: str | None) -> list[str]:
    """Return the hosts that a run is over, as far as its record names them."""
    try:
        found = json.loads(given) if given else {}
    except ValueError:
        return []
    names = found.get("hosts") if isinstance(found, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []
