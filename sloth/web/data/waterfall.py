"""The hosts of a run: how each ended, and where its time went."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.web.data.database import Row
from sloth.web.data.paging import Page, Where, like, select
from sloth.web.data.run import require_run
from sloth.web.data.runs import RunRow, read_run
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.web.view import Query

KINDS = ("connect", "authenticate", "start", "task", "call")


@frozen
class Span:
    """What took a host's time; begin: seconds from the start of the run."""

    kind: str
    name: str
    begin: float
    seconds: float
    status: str


@frozen
class HostEnd:
    """How a run went on a host; begin: seconds from the start of the run."""

    host: str
    status: str
    begin: float
    seconds: float | None
    error: str
    spans: tuple[Span, ...]


@frozen
class RunHosts:
    """The hosts of a run, the slowest first; seconds: how long the picture is."""

    run: RunRow
    seconds: float
    hosts: Page[HostEnd]


SORTABLE = {"seconds": "coalesce(seconds, 0)", "host": "host", "status": "status", "started": "started"}


def find_run_hosts(source: Source, query: Query) -> RunHosts:
    """Return a page of the hosts of a run. Raises StateNotFound."""
    run = read_run(require_run(source, query.text("run")))
    where = Where()
    where.add("run=?", run.run)
    where.add_if("status=?", query.text("status"))
    if query.text("q"):
        where.add(r"host LIKE ? ESCAPE '\'", like(query.text("q")))
    hosts = select(
        source.database,
        "host, status, started, seconds, substr(error, 1, 4000) AS error, spans",
        "run_hosts",
        where,
        query.window,
        "-seconds",
        SORTABLE,
        lambda row: _end(row, run.started),
        "host",
    )
    longest = max((one.begin + (one.seconds or 0.0) for one in hosts.rows), default=0.0)
    return RunHosts(run, max(run.seconds or 0.0, longest, 0.001), hosts)


def _end(row: Row, begun: float) -> HostEnd:
    begin = max(0.0, (row["started"] or begun) - begun)
    return HostEnd(
        host=row["host"],
        status=row["status"],
        begin=begin,
        seconds=row["seconds"],
        error=row["error"] or "",
        spans=tuple(_spans(row["spans"], begin)),
    )


def _spans(text: str | None, begin: float) -> list[Span]:
    """Return recorded spans; those that are none are left out, since other controllers may have sent them."""
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    spans = []
    for entry in found if isinstance(found, list) else []:
        if isinstance(entry, list) and len(entry) == 5:
            kind, name, at, seconds, status = entry
            is_time = isinstance(at, int | float) and isinstance(seconds, int | float)
            if kind in KINDS and is_time and 0 <= at < 1e7 and 0 <= seconds < 1e7:
                spans.append(Span(kind, str(name), begin + at, float(seconds), str(status)))
    return spans
