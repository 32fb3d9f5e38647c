"""All hosts: those of the inventory, and those that runs have reached; and how many share a fact or a variable."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sloth.errors import UsageError
from sloth.frozen import frozen
from sloth.suggest import did_you_mean
from sloth.web.data.holding import Holder, find_holders
from sloth.web.data.paging import Page, cut
from sloth.web.data.source import Source
from sloth.web.data.times import DAY
from sloth.web.data.traits import GROUP, traits

if TYPE_CHECKING:
    from sloth.web.view import Query

NEVER = "never"  # the status of a host that no run has reached


@frozen
class HostRow:
    """A host in a list. Times are epoch seconds.

    Attributes:
        status: how its newest run ended; "never" without one.
        seen: when it was last reached; None: never.
        drift: what its newest drift run found: "drift", "clean", ..., "" without one.
        frozen: how many states its newest run has left alone.
        size: bytes of its replicas.
        is_in_inventory: whether the inventory has it; true when there is none.
        value: that of the trait that is asked for.
        lock: the run that goes on and holds it, or is to come to it.
    """

    host: str
    groups: tuple[str, ...]
    status: str
    run: str
    started: float | None
    seen: float | None
    changed: float | None
    drift: str
    drift_at: float | None
    records: int
    orphaned: int
    frozen: int
    size: int
    is_in_inventory: bool
    error: str
    value: str
    lock: Holder | None


@frozen
class Share:
    """How many hosts have a value."""

    value: str
    hosts: int


@frozen
class Hosts:
    """A page of hosts.

    Attributes:
        groups: the names of all groups.
        traits: what hosts can be grouped by: "group", "var:NAME", "fact:NAME".
        shares: with `by`: how many hosts have each value.
    """

    hosts: Page[HostRow]
    groups: tuple[str, ...]
    traits: tuple[str, ...]
    shares: tuple[Share, ...]


MOST_SHARES = 200


def list_hosts(source: Source, query: Query) -> Hosts:
    """Return a page of the hosts that match."""
    rows = all_hosts(source)
    by = query.text("by")
    known = traits(source)
    values: Mapping[str, str] = {}
    if by:
        if by not in known.names:
            hint = did_you_mean(by, known.names) or "by is group, var:NAME or fact:NAME"
            raise UsageError(f"hosts have no {by}", hint=hint)
        values = known.of(by)
        rows = [_with_value(row, values.get(row.host, "")) for row in rows] if by != GROUP else rows
    rows = [row for row in rows if _matches(row, query)]
    shares = _shares(rows, by)
    if by and query.text("value"):
        wanted = query.text("value")
        rows = [row for row in rows if (wanted in row.groups if by == GROUP else row.value == wanted)]
    name = query.window.sort or "host"
    column = name.removeprefix("-")
    if column not in _SORTABLE:
        raise UsageError(f"there is no column {column!r} to sort by", hint=did_you_mean(column, _SORTABLE))
    rows.sort(key=_SORTABLE[column], reverse=name.startswith("-"))
    inventory = source.inventory
    groups = tuple(sorted(inventory.groups)) if inventory is not None else ()
    return Hosts(cut(rows, query.window, name), groups, known.names, shares)


def _shares(rows: list[HostRow], by: str) -> tuple[Share, ...]:
    if not by:
        return ()
    counted = Counter(name for row in rows for name in (row.groups if by == GROUP else (row.value,)))
    return tuple(Share(value, count) for value, count in counted.most_common(MOST_SHARES))


def _matches(row: HostRow, query: Query) -> bool:
    text, status, group = query.text("q"), query.text("status"), query.text("group")
    unseen = query.number("unseen")
    return (
        (not text or text.lower() in row.host.lower())
        and (not status or row.status == status)
        and (not group or group in row.groups)
        and (not query.text("drift") or row.drift == query.text("drift"))
        and (not query.text("frozen") or row.frozen > 0)
        and (not query.text("orphaned") or row.orphaned > 0)
        and (not unseen or is_unseen(row, unseen))
    )


def is_unseen(row: HostRow, days: int) -> bool:
    """Return whether nothing has reached a host for so many days, although a run has tried to."""
    return row.status != NEVER and (row.seen or 0) < time.time() - days * DAY


_SORTABLE = {
    "host": lambda row: row.host,
    "status": lambda row: (row.status, row.host),
    "started": lambda row: (row.started or 0, row.host),
    "seen": lambda row: (row.seen or 0, row.host),
    "changed": lambda row: (row.changed or 0, row.host),
    "records": lambda row: (row.records, row.host),
    "orphaned": lambda row: (row.orphaned, row.host),
    "size": lambda row: (row.size, row.host),
    "drift": lambda row: (row.drift, row.host),
    "value": lambda row: (row.value, row.host),
}


_lock = threading.Lock()
_kept: tuple[object, list[HostRow]] | None = None


def all_hosts(source: Source) -> list[HostRow]:
    """Return all hosts, in a list of its own. They are kept until the index or the inventory changes."""
    global _kept
    marks = source.database.rows("SELECT name, value FROM cache.marks ORDER BY name")
    stamp = (source.directory, id(source.inventory), tuple(map(tuple, marks)))
    with _lock:
        if _kept is None or _kept[0] != stamp:
            _kept = (stamp, read_hosts(source))
        return list(_kept[1])


def read_hosts(source: Source, only: str = "") -> list[HostRow]:
    """Return all hosts; only: that one, if there is such a host."""
    inventory = source.inventory
    groups: dict[str, list[str]] = {}
    if inventory is not None:
        for name, group in inventory.groups.items():
            for host in group.hosts:
                groups.setdefault(host, []).append(name)
    names = dict.fromkeys(inventory.hosts if inventory is not None else ())
    where, values = (" WHERE host=?", (only,)) if only else ("", ())
    ends = {row["host"]: row for row in source.database.rows(f"SELECT * FROM cache.hosts{where}", values)}
    agents = {
        row["host"]: row
        for row in source.database.rows(
            "SELECT host, sum(resources) AS records, sum(orphaned) AS orphaned, sum(size) AS size,"
            f" max(seen_at) AS seen FROM cache.agents{where} GROUP BY host",
            values,
        )
    }
    holders = find_holders(source)
    found = []
    for host in [only] if only else dict.fromkeys([*names, *ends, *agents]):
        end, agent = ends.get(host), agents.get(host)
        if only and end is None and agent is None and host not in names:
            return []
        seen = max((end["reached_at"] or 0) if end else 0, (agent["seen"] or 0) if agent else 0)
        found.append(
            HostRow(
                host=host,
                groups=tuple(groups.get(host, ())),
                status=(end["status"] if end else None) or NEVER,
                run=(end["run"] if end else None) or "",
                started=end["started"] if end and end["run"] else None,
                seen=seen or None,
                changed=end["changed_at"] if end else None,
                drift=(end["drift_status"] if end else None) or "",
                drift_at=end["drift_at"] if end else None,
                records=agent["records"] if agent else 0,
                orphaned=agent["orphaned"] if agent else 0,
                frozen=end["frozen"] if end else 0,
                size=agent["size"] if agent else 0,
                is_in_inventory=inventory is None or host in names,
                error=(end["error"] if end else None) or "",
                value="",
                lock=holders.get(host),
            )
        )
    return found


def _with_value(row: HostRow, value: str) -> HostRow:
    return dataclasses.replace(row, value=value)
