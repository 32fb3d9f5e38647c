"""Drift: what hosts had that was not as applied, who changed it as far as that is known, and whether it still is so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.web.data.database import ReadOnly, Row
from sloth.web.data.hosts import all_hosts
from sloth.web.data.paging import Page, Where, like, select
from sloth.web.data.run import read_diff
from sloth.web.data.source import Source
from sloth.web.data.times import DAY

if TYPE_CHECKING:
    from sloth.web.view import Query

STATES = ("open", "corrected", "over")
GROUPS = ("finding", "host", "resource")
# The table `drifts` of the index has one row for each finding, and for each correction of one.
TABLE = "cache.drifts d LEFT JOIN run_results r ON r.rowid=d.result LEFT JOIN runs u ON u.run=d.run"
COLUMNS = (
    "d.result, d.run, d.kind, d.host, d.key, d.at, d.first_at, d.state, coalesce(r.task, '') AS task,"
    " coalesce(r.place, '') AS place, coalesce(r.error, '') AS error, r.diff, coalesce(u.who, '') AS who"
)
SORTABLE = {"at": "d.first_at", "host": "d.host", "key": "d.key", "state": "d.state"}


@frozen
class DriftRow:
    """Something that was not as it was applied.

    Attributes:
        number: of the result, for its address.
        kind: of the run that found it: a drift run, a check, or a run, which has put it back.
        state: "open": it is so as far as is known; "corrected": this run has put it back; "over": it is no longer so.
        who: whose run found it.
        by: "hand", or "us" when another call of ours has changed the same thing since it was applied.
        by_run: the run that did, "" by hand.
        since: when it was last known to be as applied; None: that is not known; since_run: the run that knew it.
        at: when it was found first; seen: when last.
    """

    number: int
    run: str
    kind: str
    host: str
    key: str
    task: str
    place: str
    text: str
    state: str
    who: str
    by: str
    by_run: str
    since: float | None
    since_run: str
    at: float
    seen: float
    diff: dict[str, object]


@frozen
class DriftGroup:
    """The findings of one host, or of one resource: how many there are, on how many others, and the newest."""

    name: str
    open: int
    corrected: int
    findings: int
    others: int
    newest: float


@frozen
class Drift:
    """What has drifted.

    Attributes:
        open: findings that still are so, and hosts that have them.
        asked: hosts on which a drift run has looked.
        oldest, newest: when hosts were last looked at: of the one that was longest ago, and of the newest.
        rows: a page of findings, when they are not grouped.
        groups: a page of hosts or of resources.
    """

    open: int
    open_hosts: int
    hosts: int
    asked: int
    oldest: float | None
    newest: float | None
    rows: Page[DriftRow] | None
    groups: Page[DriftGroup] | None


def find_drift(source: Source, query: Query) -> Drift:
    """Return what has drifted, newest first, or by host, or by resource."""
    database = source.database
    where = Where()
    where.add_if("d.host=?", query.text("host"))
    where.add_if("d.key=?", query.text("key"))
    where.add_if("d.state=?", query.text("state"))
    if query.number("days"):
        where.add("d.first_at>=?", time.time() - query.number("days") * DAY)
    if query.text("q"):
        text = like(query.text("q"))
        where.add(r"d.host LIKE ? ESCAPE '\' OR d.key LIKE ? ESCAPE '\'", text, text)
    by = query.text("by") or "finding"
    rows, groups = None, None
    if by == "finding":
        rows = select(
            database, COLUMNS, TABLE, where, query.window, "-at", SORTABLE, lambda row: _row(database, row),
            "d.result DESC", identity="d.result", listed="cache.drifts d",
        )  # fmt: skip
    else:
        groups = _groups(database, where, query, "host" if by == "host" else "key")
    seen = database.rows(
        "SELECT count(drift_at), min(drift_at), max(drift_at) FROM cache.hosts WHERE drift_at IS NOT NULL"
    )[0]
    return Drift(*count_open(database), len(all_hosts(source)), seen[0], seen[1], seen[2], rows, groups)


def count_open(database: ReadOnly) -> tuple[int, int]:
    """Return how many findings still are so, and how many hosts have them."""
    findings, hosts = database.rows("SELECT count(*), count(DISTINCT host) FROM cache.drifts WHERE state='open'")[0]
    return findings, hosts


def _groups(database: ReadOnly, where: Where, query: Query, name: str) -> Page[DriftGroup]:
    other = "key" if name == "host" else "host"
    table = (
        f"(SELECT d.{name} AS name, sum(d.state='open') AS open, sum(d.state='corrected') AS corrected,"
        f" count(*) AS findings, count(DISTINCT d.{other}) AS others, max(d.first_at) AS newest"
        f" FROM cache.drifts d{where.sql} GROUP BY 1)"
    )
    grouped = Where(values=list(where.values))
    columns = "name, open, corrected, findings, others, newest"
    sortable = {one: one for one in columns.split(", ")}
    return select(
        database, columns, table, grouped, query.window, "-newest", sortable, lambda row: DriftGroup(*row), "name",
        counted=f"SELECT count(DISTINCT d.{name}) FROM cache.drifts d{where.sql}",
    )  # fmt: skip


def _row(database: ReadOnly, row: Row) -> DriftRow:
    by_run = _own_change(database, row)
    since, since_run = last_good(database, row["host"], row["first_at"], row["run"])
    return DriftRow(
        number=row["result"], run=row["run"], kind=row["kind"], host=row["host"], key=row["key"], task=row["task"],
        place=row["place"], text=row["error"], state=row["state"], who=row["who"], by="us" if by_run else "hand",
        by_run=by_run, since=since, since_run=since_run, at=row["first_at"], seen=row["at"],
        diff=read_diff(row["diff"]),
    )  # fmt: skip


def _own_change(database: ReadOnly, row: Row) -> str:
    """Return the run in which another call of ours changed the same thing after it was applied, "" for none."""
    thing = row["key"].split(":", 2)[-1]
    found = database.row(
        "SELECT o.run FROM run_results o WHERE o.host=? AND o.status='changed' AND o.rowid<? AND o.key<>?"
        " AND substr(o.key, -length(?)-1)=':'||? AND o.rowid>coalesce((SELECT max(b.rowid) FROM run_results b"
        " WHERE b.host=? AND b.key=? AND b.rowid<? AND b.status='changed'), 0)"
        " AND coalesce((SELECT kind FROM runs WHERE runs.run=o.run), 'run')='run' ORDER BY o.rowid DESC LIMIT 1",
        (row["host"], row["result"], row["key"], thing, thing, row["host"], row["key"], row["result"]),
    )
    return str(found[0]) if found else ""


def last_good(database: ReadOnly, host: str, at: float, run: str) -> tuple[float | None, str]:
    """Return when a host was last as applied before a time: the end of the newest run that ended well on it; and it."""
    found = database.row(
        "SELECT max(coalesce(h.started, u.started)+coalesce(h.seconds, u.seconds, 0)), h.run FROM run_hosts h"
        " JOIN runs u ON u.run=h.run WHERE h.host=? AND h.run<>? AND h.status IN ('changed', 'unchanged', 'clean')"
        " AND coalesce(u.kind, 'run')<>'check' AND coalesce(h.started, u.started)<?",
        (host, run, at),
    )
    return (float(found[0]), str(found[1])) if found and found[0] is not None else (None, "")
