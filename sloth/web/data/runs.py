"""The list of runs, newest first."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.state.run_records import RunKind
from sloth.web.data.database import Row
from sloth.web.data.paging import Page, Where, like, select
from sloth.web.data.source import Source
from sloth.web.data.times import DAY

if TYPE_CHECKING:
    from sloth.web.view import Query


class End(StrEnum):
    """How a run ended, in one word. One that failed anywhere is FAILED, whatever else it did."""

    RUNNING = "running"
    LOST = "lost"  # it was killed: nobody recorded an end
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    INTERRUPTED = "interrupted"
    DRIFT = "drift"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


# The same as SQL, for filters; exit statuses are the contract of `run` (0, 1, 2, 3, 4, 130).
END_SQL = (
    "CASE WHEN status IS NULL THEN CASE WHEN is_lost(about, started) THEN 'lost' ELSE 'running' END"
    " WHEN status=130 THEN 'interrupted'"
    " WHEN status=1 OR coalesce(failed, 0)>0 OR status=2 THEN 'failed'"
    " WHEN status=4 OR coalesce(unreachable, 0)>0 THEN 'unreachable'"
    " WHEN kind='drift' AND coalesce(changed, 0)>0 THEN 'drift'"
    " WHEN coalesce(changed, 0)>0 THEN 'changed' ELSE 'unchanged' END"
)


@frozen
class About:
    """How a run was called.

    Attributes:
        command: the words of the command line; values of variables are masked in it.
        values: the names of the variables that it set.
        used: their values, as JSON, without secrets; none in records of older versions.
        origin: the machine that it ran on.
        plan: the id of the saved plan that it applied, "" for none.
    """

    command: tuple[str, ...] = ()
    inventory: tuple[str, ...] = ()
    limit: str = ""
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    used: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    plan: str = ""


@frozen
class RunRow:
    """A run in a list. Times are epoch seconds; of a drift run, `changed` counts what has drifted."""

    run: str
    kind: RunKind
    end: End
    site: str
    who: str
    origin: str
    started: float
    seconds: float | None
    hosts: int
    changed: int
    unchanged: int
    failed: int
    unreachable: int
    skipped: int
    unknown: int
    ignored: int
    rescued: int
    retried: int
    frozen: int
    status: int | None
    limit: str


_COUNTS = "changed, unchanged, failed, unreachable, skipped, unknown, ignored, rescued, retried, frozen"
COLUMNS = f"run, kind, {END_SQL} AS ended, site, who, about, started, seconds, hosts, {_COUNTS}, status"
ABOUT = "CASE WHEN json_valid(about) THEN json_extract(about, '$.{}') END"
SORTABLE = {
    "started": "started",
    "seconds": "seconds",
    "hosts": "hosts",
    "changed": "coalesce(changed, 0)",
    "failed": "coalesce(failed, 0)",
    "site": "site",
    "who": "who",
    "end": END_SQL,
}


def list_runs(source: Source, query: Query) -> Page[RunRow]:
    """Return a page of the runs that match."""
    where = Where()
    where.add_if("coalesce(kind, 'run')=?", query.text("kind"))
    where.add_if(f"{END_SQL}=?", query.text("end"))
    where.add_if("who=?", query.text("who"))
    where.add_if("site=?", query.text("site"))
    where.add_if(f"{ABOUT.format('origin')}=?", query.text("origin"))
    where.add_if(f"{ABOUT.format('plan')}=?", query.text("plan"))
    host = query.text("host")
    if host:
        where.add("run IN (SELECT run FROM run_hosts WHERE host=?)", host)
    if query.number("days"):
        where.add("started>=?", time.time() - query.number("days") * DAY)
    if query.text("q"):
        text = like(query.text("q"))
        where.add(r"run LIKE ? ESCAPE '\' OR site LIKE ? ESCAPE '\' OR who LIKE ? ESCAPE '\'", text, text, text)
    return select(
        source.database, COLUMNS, "runs", where, query.window, "-started", SORTABLE, read_run, "runs.rowid DESC",
        identity="runs.rowid",
    )  # fmt: skip


def read_run(row: Row) -> RunRow:
    """Return a row of COLUMNS as a value."""
    about = read_about(row["about"])
    counts = {name: row[name] or 0 for name in _COUNTS.split(", ")}
    return RunRow(
        run=row["run"],
        kind=RunKind(row["kind"] or "run"),
        end=End(row["ended"]),
        site=row["site"],
        who=row["who"],
        origin=about.origin,
        started=row["started"],
        seconds=row["seconds"],
        hosts=row["hosts"],
        status=row["status"],
        limit=about.limit,
        **counts,
    )


def read_about(text: str | None) -> About:
    """Return how a run was called; runs before format 7 did not record it."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = {}

    def words(name: str) -> tuple[str, ...]:
        value = found.get(name)
        return tuple(map(str, value)) if isinstance(value, list) else ()

    def word(name: str) -> str:
        return str(found.get(name) or "")

    if not isinstance(found, dict):
        return About()
    return About(
        command=words("command"),
        inventory=words("inventory"),
        limit=word("limit"),
        tags=words("tags"),
        skip_tags=words("skip_tags"),
        values=words("values"),
        used=_used(found.get("used")),
        origin=word("origin"),
        plan=word("plan"),
    )


def _used(values: object) -> dict[str, str]:
    if not isinstance(values, dict):
        return {}
    return {
        str(name): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
    }
