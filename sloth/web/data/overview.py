"""The overview: how many hosts failed, changed, drifted, and have not been seen; and the newest runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.web.data.drift import count_open
from sloth.web.data.paging import Where
from sloth.web.data.runs import COLUMNS, RunRow, read_run
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.web.view import Query

NEWEST = 10
DAY = 86400
UNSEEN = 7  # days after which a host counts as not seen


@frozen
class Overview:
    """Numbers of hosts, by their newest run; and of records.

    Attributes:
        never_run: hosts of the inventory that no run has reached yet.
        unseen: hosts that nothing has reached for `unseen_days`.
        drifted: hosts that are known not to be as applied, as the page of drift has them.
        orphaned: records that their site no longer names.
        frozen: hosts with something that runs leave alone.
        inventory_problem: why the inventory cannot be read.
    """

    hosts: int
    failed: int
    unreachable: int
    changed: int
    unchanged: int
    drifted: int
    never_run: int
    unseen: int
    unseen_days: int
    records: int
    orphaned: int
    frozen: int
    newest: tuple[RunRow, ...]
    failures: tuple[RunRow, ...]
    inventory_problem: str


def find_overview(source: Source, query: Query) -> Overview:
    """Return the overview."""
    database = source.database
    by_status = {
        str(row[0]): int(row[1])
        for row in database.rows("SELECT status, count(*) FROM cache.hosts WHERE status IS NOT NULL GROUP BY 1")
    }
    inventory = source.inventory
    seen = {str(row[0]) for row in database.rows("SELECT host FROM cache.hosts WHERE reached_at IS NOT NULL")}
    names = set(inventory.hosts) if inventory is not None else set()
    days = query.number("unseen") or UNSEEN
    old = database.number(
        "SELECT count(*) FROM cache.hosts WHERE coalesce(reached_at, 0)<?", (time.time() - days * DAY,)
    )
    where = Where()
    where.add("status=1 OR failed>0 OR unreachable>0")
    return Overview(
        hosts=source.count_hosts(),
        failed=by_status.get("failed", 0),
        unreachable=by_status.get("unreachable", 0),
        changed=by_status.get("changed", 0),
        unchanged=by_status.get("unchanged", 0),
        drifted=count_open(database)[1],
        never_run=len(names - seen),
        unseen=old,
        unseen_days=days,
        records=database.number("SELECT sum(resources) FROM cache.agents"),
        orphaned=database.number("SELECT sum(orphaned) FROM cache.agents"),
        frozen=database.number("SELECT count(*) FROM cache.hosts WHERE frozen>0"),
        newest=tuple(map(read_run, database.rows(f"SELECT {COLUMNS} FROM runs ORDER BY started DESC LIMIT {NEWEST}"))),
        failures=tuple(
            map(read_run, database.rows(f"SELECT {COLUMNS} FROM runs{where.sql} ORDER BY started DESC LIMIT 5"))
        ),
        inventory_problem=source.problem,
    )
