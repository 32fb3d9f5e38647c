"""The overview: how many hosts failed, changed, drifted, and have not been seen; and the newest runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.web.data.drift import count_open
from sloth.web.data.hosts import NEVER, all_hosts, is_unseen
from sloth.web.data.paging import Where
from sloth.web.data.runs import COLUMNS, RunRow, read_run
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.web.view import Query

NEWEST = 10
UNSEEN = 7  # days after which a host counts as not seen


@frozen
class Overview:
    """Numbers of hosts, by their newest run; and of records.

    Attributes:
        hosts: those of the inventory, and others that runs have reached.
        never_run: hosts of which no run is recorded.
        unseen: hosts that nothing has reached for `unseen_days`.
        drifted: hosts that are known not to be as applied, as the page of drift has them.
        records, orphaned: records on all hosts, and those of them that their site no longer names; resources: different
            ones among them, each once, however many hosts have it.
        frozen: hosts with something that runs leave alone.
        inventory_problem: why the inventory cannot be read.
        fetch_problem: why what other controllers have delivered cannot be fetched.
        index_problem: why what is new cannot be read.
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
    resources: int
    orphaned_resources: int
    frozen: int
    newest: tuple[RunRow, ...]
    failures: tuple[RunRow, ...]
    inventory_problem: str
    fetch_problem: str
    index_problem: str


def find_overview(source: Source, query: Query) -> Overview:
    """Return the overview."""
    database = source.database
    hosts = all_hosts(source)
    by_status = Counter(row.status for row in hosts)
    days = query.number("unseen") or UNSEEN
    where = Where()
    where.add("status=1 OR failed>0 OR unreachable>0")
    return Overview(
        hosts=len(hosts),
        failed=by_status.get("failed", 0),
        unreachable=by_status.get("unreachable", 0),
        changed=by_status.get("changed", 0),
        unchanged=by_status.get("unchanged", 0),
        drifted=count_open(database)[1],
        never_run=by_status.get(NEVER, 0),
        unseen=sum(is_unseen(row, days) for row in hosts),
        unseen_days=days,
        records=sum(row.records for row in hosts),
        orphaned=sum(row.orphaned for row in hosts),
        resources=database.number("SELECT count(*) FROM cache.keys WHERE scope=''"),
        orphaned_resources=database.number("SELECT count(*) FROM cache.keys WHERE scope='' AND orphaned>0"),
        frozen=sum(row.frozen > 0 for row in hosts),
        newest=tuple(map(read_run, database.rows(f"SELECT {COLUMNS} FROM runs ORDER BY started DESC LIMIT {NEWEST}"))),
        failures=tuple(
            map(read_run, database.rows(f"SELECT {COLUMNS} FROM runs{where.sql} ORDER BY started DESC LIMIT 5"))
        ),
        inventory_problem=source.problem,
        fetch_problem=source.fetch_problem,
        index_problem=source.index_problem,
    )
