"""Controllers that visit a host and deliver to a backend, without any session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sloth.errors import StateError
from sloth.payload.kernel.record import ReplicaPosition
from sloth.payload.state.store import Store
from sloth.state.backends.sqlite import SQLite
from sloth.state.memory import Memory, Seen
from sloth.state.sync.deliver import Delivery
from sloth.state.sync.fetch import Fetching
from tests.support.stores import record


class Controller:
    """A controller with a home of its own."""

    def __init__(self, home: Path, backend: SQLite) -> None:
        self.memory = Memory(home, backend.url)
        self.backend = backend

    def visit(self, host: Store) -> None:
        """Do what the end of a session does."""
        known = self.memory.known(["web1"]).get("web1")
        position = ReplicaPosition(id=known.store_id, seq=known.seq) if known and known.store_id else None
        change = host.changes_since(position)
        rows = tuple(change.rows) or None
        since = known.seq if known else 0
        self.memory.remember(Seen("web1", "p", frozenset(), change, rows, since))

    async def deliver(self) -> None:
        await Delivery(self.memory, self.backend).flush()

    async def fetch(self) -> list[StateError]:
        fetching = Fetching(self.memory, self.backend)
        await fetching.replicas(["web1"])
        return fetching.problems

    def rows(self) -> list[dict[str, Any]]:
        return rows_of(Store(str(self.memory.replica_path("web1")), readonly=True))


def rows_of(store: Store) -> list[dict[str, Any]]:
    return [record.shown() for record in store.records.select()]


def record_on(host: Store, name: str, value: int) -> None:
    record(host, f"m:t:{name}", str(value), {"v": value}, {"v": value}, True)
    host.commit()
