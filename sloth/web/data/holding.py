"""Who holds hosts, as far as is recorded: the runs that go on. The lock itself is on the host, which can be asked."""

from __future__ import annotations

from sloth.frozen import frozen
from sloth.web.data.live import ended_hosts, planned_hosts
from sloth.web.data.runs import COLUMNS, End, read_run
from sloth.web.data.source import Source


@frozen
class Holder:
    """A run that goes on and has a host still to do.

    Attributes:
        who, origin: whose it is, and from where.
        since: when it began.
        is_at_work: whether it has done something there, so that it has the host's run lock; else it is to come there.
    """

    run: str
    who: str
    origin: str
    since: float
    is_at_work: bool


def find_holders(source: Source) -> dict[str, Holder]:
    """Return the run that holds each host; of several, the one that is at work, or else the oldest."""
    found: dict[str, Holder] = {}
    rows = source.database.rows(
        f"SELECT {COLUMNS}, given FROM runs WHERE status IS NULL AND coalesce(kind, 'run')='run' ORDER BY started"
    )
    for row in rows:
        run = read_run(row)
        if run.end is not End.RUNNING:
            continue
        ended = ended_hosts(source, run.run)
        begun = {
            str(one[0])
            for one in source.database.rows(
                "SELECT host FROM run_progress WHERE run=?1 UNION SELECT host FROM run_results WHERE run=?1", (run.run,)
            )
        }
        for host in {*begun, *planned_hosts(row["given"])} - ended:
            holder = Holder(run.run, run.who, run.origin, run.started, host in begun)
            if host not in found or (holder.is_at_work and not found[host].is_at_work):
                found[host] = holder
    return found
