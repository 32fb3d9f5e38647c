"""Controllers that visit a host and deliver to a backend, without any session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sloth.errors import StateError
from sloth.payload.kernel.record import ReplicaPosition
from sloth.payload.state.store import Store
from sloth.state.backends.sqlite import SQLite
from sloth.state.memory import Memory, Seen
from sloth.state.run_values import RunCounts, RunHost, RunResult
from sloth.state.sync.deliver import Delivery
from sloth.state.sync.fetch import Fetching
from tests.support.stores import record


class Controller:
    """A controller with a home of its own."""

    def __init__(self, home: Path, backend: SQLite) -> None:
        self.memory = Memory(home, backend.url)
        self.backend = backend

    def visit(self, host: Store, run: str = "", agent: str = "web1") -> None:
        """Do what the end of a session of a run does; "": it is no run."""
        assert self.memory.outbox is not None
        self.memory.outbox.run = run
        known = self.memory.known(["web1"]).get(agent)
        position = ReplicaPosition(id=known.store_id, seq=known.seq) if known and known.store_id else None
        change = host.changes_since(position)
        rows = tuple(change.rows) or None
        since = known.seq if known else 0
        self.memory.remember(Seen(agent, "p", frozenset(), change, rows, since))

    def run(
        self,
        run: str,
        host: Store,
        work: Callable[[], object] = lambda: None,
        agent: str = "web1",
        results: Sequence[RunResult] | None = None,
    ) -> bool:
        """Let a run do some work on a host, and record it; return whether it has changed anything there.

        results: what is recorded of it; None: what it has changed.
        """
        self.memory.runs.begin(run, "site", "ann", 1)
        before = {row["key"]: row for row in rows_of(host)}
        seq = host.meta("seq")
        work()
        self.visit(host, run, agent)
        after = {row["key"]: row for row in rows_of(host)}
        keys = [key for key in {*before, *after} if before.get(key) != after.get(key)]
        rows = [changed(key) for key in keys] if results is None else results
        counts, hosts = RunCounts(changed=len(rows)), [RunHost("web1", "ok")]
        self.memory.runs.end(run, counts=counts, seconds=1.0, status=0, results=rows, hosts=hosts)
        return host.meta("seq") != seq

    async def deliver(self) -> None:
        await Delivery(self.memory, self.backend).flush()

    async def fetch(self) -> list[StateError]:
        fetching = Fetching(self.memory, self.backend)
        await fetching.replicas(["web1"])
        return fetching.problems

    def rows(self) -> list[dict[str, Any]]:
        return rows_of(Store(str(self.memory.replica_path("web1")), readonly=True))


def changed(key: str) -> RunResult:
    """Return the row of a run that says that it has changed a resource of web1."""
    return RunResult("web1", "t", key, "changed", "new", "", "")


def rows_of(store: Store) -> list[dict[str, Any]]:
    return [record.shown() for record in store.records.select()]


def record_on(host: Store, name: str, value: int) -> None:
    record(host, f"m:t:{name}", str(value), {"v": value}, {"v": value}, True)
    host.commit()
