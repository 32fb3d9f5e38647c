"""One host: its records, its history, its facts, and its variables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sloth.errors import StateNotFound
from sloth.frozen import frozen
from sloth.web.data.database import Row
from sloth.web.data.hosts import HostRow, read_hosts
from sloth.web.data.paging import Page, Where, cut, like, select
from sloth.web.data.source import Source
from sloth.web.data.traits import flat, shown_variable

if TYPE_CHECKING:
    from sloth.web.view import Query


@frozen
class RecordRow:
    """What is managed on a host. Times are epoch seconds.

    Attributes:
        agent: the host, with the account if that is not the one of the login.
        reason: why it changed last, as far as this controller knows.
    """

    agent: str
    key: str
    module: str
    task: str
    site: str
    place: str
    run: str
    changed_at: int | None
    checked_at: int | None
    is_orphaned: bool
    superseded_by: str
    reason: str


@frozen
class Place:
    """How many records a module or a task has on a host."""

    name: str
    count: int


@frozen
class HostPage:
    """One host, and a page of its records."""

    host: HostRow
    address: str
    modules: tuple[Place, ...]
    tasks: tuple[Place, ...]
    records: Page[RecordRow]


@frozen
class HistoryRow:
    """A change on a host, in a run of this controller or one that shares its backend."""

    number: int
    at: float
    key: str
    status: str
    reason: str
    kind: str
    run: str
    site: str
    who: str
    origin: str
    task: str
    place: str
    error: str
    has_diff: bool


@frozen
class HistoryPage:
    """The changes on a host, the newest first."""

    host: HostRow
    changes: Page[HistoryRow]


@frozen
class Named:
    """A fact, or a variable and where its value comes from."""

    name: str
    value: str
    origin: str


@frozen
class FactsPage:
    """The facts of a host, as a run gathered them last; at: when, None if none has."""

    host: HostRow
    at: float | None
    facts: Page[Named]


@frozen
class VariablesPage:
    """The variables and settings of a host in the inventory, with their origins."""

    host: HostRow
    variables: Page[Named]


_REASON = (
    "(SELECT reason FROM run_results r WHERE r.key=cache.resources.key AND r.host=cache.resources.host"
    " AND r.status='changed' ORDER BY r.rowid DESC LIMIT 1)"
)
RECORDS = {
    "key": "key",
    "module": "module",
    "task": "task",
    "changed": "changed_at",
    "checked": "checked_at",
    "reason": "reason",
}


def find_host(source: Source, query: Query) -> HostPage:
    """Return one host, and a page of its records. Raises StateNotFound."""
    host = require_host(source, query.text("host"))
    where = Where()
    where.add("host=?", host.host)
    where.add_if("module=?", query.text("module"))
    where.add_if("task=?", query.text("task"))
    where.add_if(f"{_REASON}=?", query.text("reason"))
    if query.text("orphaned"):
        where.add("orphaned IS NOT NULL")
    if query.text("q"):
        where.add(r"key LIKE ? ESCAPE '\'", like(query.text("q")))
    records = select(
        source.database, f"*, {_REASON} AS reason", "cache.resources", where, query.window, "key", RECORDS,
        _record, "key, agent",
    )  # fmt: skip
    inventory = source.inventory
    address = inventory.hosts[host.host].address if inventory is not None and host.is_in_inventory else ""
    return HostPage(host, address, _places(source, host, "module"), _places(source, host, "task"), records)


def _places(source: Source, host: HostRow, column: str) -> tuple[Place, ...]:
    rows = source.database.rows(
        f"SELECT coalesce({column}, ''), count(*) FROM cache.resources WHERE host=? GROUP BY 1 ORDER BY 1", (host.host,)
    )
    return tuple(Place(*row) for row in rows)


def require_host(source: Source, name: str) -> HostRow:
    """Return a host. Raises StateNotFound."""
    found = read_hosts(source, name)
    if not found:
        raise StateNotFound(f"host {name} not found", hint="neither the inventory nor a run has it")
    return found[0]


def find_history(source: Source, query: Query) -> HistoryPage:
    """Return a page of the changes on a host. Raises StateNotFound."""
    host = require_host(source, query.text("host"))
    where = Where()
    where.add("r.host=?", host.host)
    where.add_if("r.key=?", query.text("key"))
    where.add_if("r.reason=?", query.text("reason"))
    where.add_if("r.status=?", query.text("status"))
    if query.text("q"):
        text = like(query.text("q"))
        where.add(r"r.key LIKE ? ESCAPE '\' OR r.error LIKE ? ESCAPE '\'", text, text)
    changes = select(
        source.database,
        "r.rowid AS number, coalesce(r.at, runs.started) AS moment, r.run, r.host, r.task, r.key, r.status, r.reason,"
        " r.place, substr(r.error, 1, 4000) AS error,"
        " r.diff IS NOT NULL AND r.diff<>'{}' AS has_diff, runs.kind, runs.site, runs.who, runs.about",
        "run_results r JOIN runs ON runs.run=r.run",
        where,
        query.window,
        "-at",
        {"at": "runs.started", "key": "r.key", "reason": "r.reason", "status": "r.status"},
        read_history,
        "r.rowid DESC",
        identity="r.rowid",
    )
    return HistoryPage(host, changes)


def find_facts(source: Source, query: Query) -> FactsPage:
    """Return a page of the facts of a host. Raises StateNotFound."""
    host = require_host(source, query.text("host"))
    row = source.database.row("SELECT at, facts FROM facts WHERE host=?", (host.host,))
    facts = [Named(name, text, "") for name, text in flat(json.loads(row["facts"]), depth=-3)] if row else []
    return FactsPage(host, row["at"] if row else None, _named(facts, query))


def find_variables(source: Source, query: Query) -> VariablesPage:
    """Return a page of the variables of a host. Raises StateNotFound."""
    host = require_host(source, query.text("host"))
    inventory = source.inventory
    found = inventory.hosts[host.host] if inventory is not None and host.is_in_inventory else None
    variables = []
    if found is not None:
        for name, value in found.vars.items():
            variables.append(Named(name, shown_variable(name, value), found.origins.get(f"vars.{name}", "")))
    return VariablesPage(host, _named(variables, query))


def _named(rows: list[Named], query: Query) -> Page[Named]:
    text = query.text("q").lower()
    found = [row for row in rows if text in row.name.lower() or text in row.value.lower()]
    return cut(sorted(found, key=lambda row: row.name), query.window, "name")


def _record(row: Row) -> RecordRow:
    return RecordRow(
        agent=row["agent"],
        key=row["key"],
        module=f"{row['module']}.{row['type']}",
        task=row["task"] or "",
        site=row["site"] or "",
        place=row["place"] or "",
        run=row["run"] or "",
        changed_at=row["changed_at"],
        checked_at=row["checked_at"],
        is_orphaned=row["orphaned"] is not None,
        superseded_by=row["superseded_by"] or "",
        reason=row["reason"] or "",
    )


def read_history(row: Row) -> HistoryRow:
    """Return a result of a run, with what its run says, as a value."""
    try:
        about = json.loads(row["about"] or "{}")
    except (ValueError, RecursionError):
        about = {}
    return HistoryRow(
        number=row["number"],
        at=row["moment"],
        key=row["key"] or "",
        status=row["status"] or "",
        reason=row["reason"] or "",
        kind=row["kind"] or "run",
        run=row["run"],
        site=row["site"],
        who=row["who"],
        origin=str(about.get("origin") or "") if isinstance(about, dict) else "",
        task=row["task"] or "",
        place=row["place"] or "",
        error=row["error"] or "",
        has_diff=bool(row["has_diff"]),
    )
