"""What a backend has not yet got of this controller's run records and replicas: a list in the controller's database.

An entry is written in the transaction that makes it due, and is deleted when the backend has it: so whatever happens in
between (no network, Ctrl-C, kill -9), the next command delivers it. It names what is due and not its content, which is
read when it is delivered: many changes of one thing are one entry.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from enum import StrEnum

from sloth.frozen import frozen
from sloth.state.database import Database, Transaction
from sloth.state.replicas import Position

MIGRATION = (
    "CREATE TABLE outbox (backend TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, stamp TEXT NOT NULL,"
    " at REAL NOT NULL, store TEXT NOT NULL, whole INTEGER NOT NULL, PRIMARY KEY (backend, kind, name))",
    "CREATE TABLE delivered (backend TEXT NOT NULL, name TEXT NOT NULL, store TEXT NOT NULL, seq INTEGER NOT NULL,"
    " PRIMARY KEY (backend, name))",
    "ALTER TABLE runs ADD COLUMN source TEXT",  # NULL: a run of this controller, else the backend it was fetched from
)
RUN_MIGRATION = ("ALTER TABLE outbox ADD COLUMN run TEXT NOT NULL DEFAULT ''",)


class Kind(StrEnum):
    """What is due."""

    RUN = "run"
    REPLICA = "replica"


@frozen
class Item:
    """Something that is due.

    Attributes:
        name: a run's id, or an agent's name.
        stamp: another one whenever it became due again.
        at: when it became due, in epoch seconds; of a replica, when the host was last seen.
        store: of a replica, the id of the host's file.
        whole: of a replica, whether the backend's copy must be replaced even if it seems to be newer.
        run: of a replica, the run in which it changed last; "": it was no run.
    """

    kind: Kind
    name: str
    stamp: str
    at: float
    store: str = ""
    whole: bool = False
    run: str = ""


class Outbox:
    """What is due for one backend.

    Attributes:
        backend: its address.
        on_added: is called when something has become due.
        run: the run that this process makes, "" for none.
    """

    def __init__(self, database: Database, backend: str) -> None:
        self._database = database
        self.backend = backend
        self.on_added: Callable[[], None] = lambda: None
        self.run = ""

    def add_run(self, run: str) -> None:
        """Note that the record of a run is due."""
        self._add(Item(Kind.RUN, run, secrets.token_hex(8), time.time()))

    def add_replica(self, name: str, position: Position, whole: bool = False, at: float | None = None) -> None:
        """Note that the replica of an agent is due, unless the backend has it already.

        whole: see Item; at: when the host was last seen, now unless given.
        """
        if whole or self.delivered(name) != position:
            seen = time.time() if at is None else at
            self._add(Item(Kind.REPLICA, name, secrets.token_hex(8), seen, position.store, whole, self.run))

    def _add(self, item: Item) -> None:
        self._database.execute(
            "INSERT INTO outbox (backend, kind, name, stamp, at, store, whole, run) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (backend, kind, name) DO UPDATE SET"
            " stamp=excluded.stamp, at=excluded.at, store=excluded.store, run=excluded.run,"
            " whole=CASE WHEN store=excluded.store THEN max(whole, excluded.whole) ELSE excluded.whole END",
            (self.backend, item.kind.value, item.name, item.stamp, item.at, item.store, item.whole, item.run),
        )
        self.on_added()

    def waiting(self) -> list[Item]:
        """Return what is due, what has waited longest first."""
        rows = self._database.execute(
            "SELECT kind, name, stamp, at, store, whole, run FROM outbox WHERE backend=? ORDER BY at, name",
            (self.backend,),
        )
        return [Item(Kind(row[0]), row[1], row[2], row[3], row[4], bool(row[5]), row[6]) for row in rows]

    def done(self, items: Iterable[tuple[Item, Position | None]]) -> None:
        """Note that the backend has these, but for those that have become due again; of a replica, up to where."""
        with Transaction(self._database):
            for item, position in items:
                self._database.execute(
                    "DELETE FROM outbox WHERE backend=? AND kind=? AND name=? AND stamp=?",
                    (self.backend, item.kind.value, item.name, item.stamp),
                )
                if position is not None:
                    self.set_delivered(item.name, position)

    def delivered(self, name: str) -> Position | None:
        """Return up to where the backend has the replica of an agent, as far as this controller knows."""
        row = self._database.execute(
            "SELECT store, seq FROM delivered WHERE backend=? AND name=?", (self.backend, name)
        ).fetchone()
        return Position(row[0], row[1]) if row else None

    def forget_delivered(self) -> None:
        """Forget what the backend has."""
        self._database.execute("DELETE FROM delivered WHERE backend=?", (self.backend,))

    def set_delivered(self, name: str, position: Position) -> None:
        """Note up to where the backend has the replica of an agent."""
        values = (self.backend, name, position.store, position.seq)
        self._database.execute("INSERT OR REPLACE INTO delivered VALUES (?, ?, ?, ?)", values)
