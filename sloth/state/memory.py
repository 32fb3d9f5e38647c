"""What the controller remembers between runs: of hosts, of its runs, and of its own files."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import StateError
from sloth.frozen import frozen
from sloth.payload.kernel.record import ReplicaChange
from sloth.state import outbox, replicas
from sloth.state.database import Transaction, open_database, sloth_home
from sloth.state.outbox import Outbox
from sloth.state.replicas import Position
from sloth.state.run_records import RunRecords
from sloth.state.run_values import storable

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

# MIGRATIONS[n] leads from format n to n + 1. Never change one that was released: tests/formats has a file of each.
MIGRATIONS = (
    (
        "CREATE TABLE agents (name TEXT PRIMARY KEY, payload TEXT NOT NULL, store TEXT NOT NULL, seq INTEGER NOT NULL,"
        " seen_at INTEGER NOT NULL)",
        "CREATE TABLE assets (name TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (name, sha256))",
        "CREATE TABLE runs (run TEXT PRIMARY KEY, site TEXT NOT NULL, who TEXT NOT NULL, hosts INTEGER NOT NULL,"
        " started REAL NOT NULL, seconds REAL, changed INTEGER, failed INTEGER, status INTEGER)",
    ),
    (
        "CREATE TABLE told (run TEXT NOT NULL, host TEXT NOT NULL, task TEXT, key TEXT, status TEXT, reason TEXT,"
        " place TEXT, error TEXT)",
        "CREATE INDEX told_by_run ON told (run)",
    ),
    (
        "CREATE TABLE hashes (path TEXT PRIMARY KEY, device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER,"
        " ctime_ns INTEGER, sha256 TEXT NOT NULL)",
    ),
    (
        "DROP INDEX told_by_run",
        "ALTER TABLE told RENAME TO run_results",
        "CREATE INDEX run_results_by_run ON run_results (run)",
    ),
    tuple(
        f"ALTER TABLE runs ADD COLUMN {name} INTEGER"
        for name in ("unchanged", "skipped", "unknown", "unreachable", "ignored", "rescued", "retried")
    ),
    (
        # What `run --resume` needs: what the run was of, and how far each host has come.
        "ALTER TABLE runs ADD COLUMN frozen INTEGER",
        "ALTER TABLE runs ADD COLUMN given TEXT",
        "CREATE TABLE run_progress (run TEXT NOT NULL, host TEXT NOT NULL, task TEXT NOT NULL, status TEXT NOT NULL,"
        " PRIMARY KEY (run, host, task))",
    ),
    (
        # What the web UI shows of runs: checks and drift runs too, how each was called, diffs, and where time went.
        "ALTER TABLE runs ADD COLUMN kind TEXT",
        "ALTER TABLE runs ADD COLUMN about TEXT",
        "ALTER TABLE run_results ADD COLUMN diff TEXT",
        "ALTER TABLE run_results ADD COLUMN seconds REAL",
        "ALTER TABLE run_results ADD COLUMN at REAL",
        "CREATE INDEX run_results_by_host ON run_results (host)",
        "CREATE INDEX run_results_by_key ON run_results (key, host)",
        "CREATE TABLE run_hosts (run TEXT NOT NULL, host TEXT NOT NULL, status TEXT NOT NULL, started REAL,"
        " seconds REAL, error TEXT, spans TEXT, PRIMARY KEY (run, host))",
        "CREATE INDEX run_hosts_by_host ON run_hosts (host)",
        "CREATE TABLE facts (host TEXT PRIMARY KEY, at REAL NOT NULL, facts TEXT NOT NULL)",
    ),
    outbox.MIGRATION,
    outbox.RUN_MIGRATION,
)
FACTS_SECONDS = 300  # within which facts are not written again
SETTLED_NS = 2 * 10**9  # a file that changed less than this ago may change again within one tick of its timestamp


@frozen
class Known:
    """What the controller remembers of one agent.

    Attributes:
        payload: the hash of the payload that the host keeps.
        store_id: the id of the state file that the replica copies.
        seq: the sequence number up to which the replica has it.
        assets: the hashes of the content that the host keeps.
    """

    payload: str = ""
    store_id: str = ""
    seq: int = 0
    assets: frozenset[str] = frozenset()


@frozen
class Seen:
    """What a session showed of an agent.

    Attributes:
        payload, assets: what the host keeps, see Known.
        replica, rows: what the replica lacks of the host's state. Without `replica` nothing is known of that.
        since: the sequence number from which on `replica` has all; None: where the replica is.
    """

    name: str
    payload: str
    assets: frozenset[str]
    replica: ReplicaChange | None
    rows: tuple[JsonObject, ...] | None = None
    since: int | None = None


@frozen
class Replicated:
    """What a session showed, when the replica has it. position: where the replica is."""

    name: str
    payload: str
    assets: frozenset[str]
    replica: ReplicaChange | None
    position: Position | None


class Memory:
    """The controller's database `controller.db`, and its `replicas` of hosts' state files.

    Attributes:
        runs: the record of its runs.
        outbox: what a backend has not yet got of it; None: there is no backend.
    """

    def __init__(self, directory: Path | None = None, backend: str | None = None) -> None:
        """Open or create it; backend: the address of the backend that gets a copy. Raises StateError."""
        self.directory = directory or sloth_home()
        self._database = open_database(self.directory / "controller.db", MIGRATIONS)
        self.outbox = Outbox(self._database, backend) if backend is not None else None
        self.runs = RunRecords(self._database, self.outbox)

    def close(self) -> None:
        self._database.close()

    def do_not_block(self) -> None:
        """Raise StateBusy at once when another process holds the file: the caller tries again by itself."""
        self._database.patience = 0.0

    # Hosts

    def known(self, names: Iterable[str]) -> dict[str, Known]:
        """Return what is remembered of these hosts, and of their other accounts (as "host@account")."""
        wanted = set(names)
        assets: dict[str, set[str]] = {}
        where = ""
        values: tuple[str, ...] = ()
        if len(wanted) == 1:  # as when thousands of hosts are queried, one by one
            (one,) = wanted
            where, values = " WHERE name=? OR name BETWEEN ? AND ?", (one, f"{one}@", f"{one}A")  # "A" follows "@"
        for name, sha256 in self._database.execute(f"SELECT name, sha256 FROM assets{where}", values):
            assets.setdefault(name, set()).add(sha256)
        rows = self._database.execute(f"SELECT name, payload, store, seq FROM agents{where}", values)
        return {
            name: Known(payload, store, seq, frozenset(assets.get(name, ())))
            for name, payload, store, seq in rows
            if name.partition("@")[0] in wanted
        }

    def accounts(self, host: str) -> list[str]:
        """Return the accounts of a host, besides that of the login, of which there is a state."""
        rows = self._database.execute("SELECT name FROM agents WHERE substr(name, 1, ?)=?", (len(host) + 1, host + "@"))
        return sorted(row[0].partition("@")[2] for row in rows)

    def remember(self, seen: Seen) -> None:
        """Keep what a session showed. Raises StateError."""
        self.keep([self.replicate(seen)])

    def replicate(self, seen: Seen) -> Replicated:
        """Bring the replica up to date; return what is to be kept besides. Raises StateError."""
        position = self._replicate(seen.name, seen.replica, seen.rows, seen.since) if seen.replica else None
        return Replicated(seen.name, seen.payload, seen.assets, seen.replica, position)

    def keep(self, several: Iterable[Replicated]) -> None:
        """Keep what sessions showed, in one transaction. Raises StateError: then none of it is kept."""
        with Transaction(self._database):
            for one in several:
                if one.replica:
                    self._keep_position(one.name, one.replica, one.position, one.payload)
                self._database.execute("DELETE FROM assets WHERE name=?", (one.name,))
                held = [(one.name, sha256) for sha256 in one.assets]
                self._database.executemany("INSERT INTO assets VALUES (?, ?)", held)

    def absorb(self, name: str, replica: ReplicaChange, rows: Iterable[JsonObject] | None = None) -> None:
        """Bring the replica up to date after a state was edited outside of a run. Raises StateError."""
        position = self._replicate(name, replica, rows, None)
        with Transaction(self._database):
            if self._database.execute("SELECT 1 FROM agents WHERE name=?", (name,)).fetchone():
                self._keep_position(name, replica, position)

    def take_over(
        self, name: str, replica: ReplicaChange, rows: Iterable[JsonObject], since: int | None, seen_at: float
    ) -> Position | None:
        """Bring the replica up to what a backend has, of when the host was last seen; return where it is now.

        Returns None when it lacks what is before. Raises StateError.
        """
        position = replicas.absorb(self.replica_path(name), replica, rows, since)
        if position is not None:
            with Transaction(self._database):
                self._set_position(name, position, seen_at)
                if self.outbox is not None:
                    self.outbox.set_delivered(name, position)
        return position

    def seen(self) -> dict[str, tuple[Position, float]]:
        """Return where each agent's replica is, and when its host was last seen (epoch seconds)."""
        rows = self._database.execute("SELECT name, store, seq, seen_at FROM agents")
        return {name: (Position(store, seq), seen_at) for name, store, seq, seen_at in rows}

    def replica_path(self, name: str) -> Path:
        """Return the path of the replica of an agent's state file, whether or not there is one."""
        return self.directory / "replicas" / f"{name}.db"

    def _replicate(
        self, name: str, replica: ReplicaChange, rows: Iterable[JsonObject] | None, since: int | None
    ) -> Position | None:
        """Bring the replica up to date; return where it is, None when the host must send all of its state."""
        path = self.replica_path(name)
        if rows is None and not replica.removed and not replica.whole and path.exists():
            return Position(replica.id, replica.seq)
        return replicas.absorb(path, replica, rows or (), since)

    def _keep_position(
        self, name: str, replica: ReplicaChange, position: Position | None, payload: str | None = None
    ) -> None:
        row = self._database.execute("SELECT store, seq FROM agents WHERE name=?", (name,)).fetchone()
        # The host's file is older than it was: somebody has restored it, or the whole machine, from a backup.
        is_older = replica.whole and row is not None and row[0] == replica.id and row[1] > replica.seq
        # A host sends all to whom knows another file than its own.
        self._set_position(name, position or Position("", 0), time.time(), payload)
        if self.outbox is not None and position is not None:
            self.outbox.add_replica(name, position, is_older)

    def _set_position(self, name: str, position: Position, seen_at: float, payload: str | None = None) -> None:
        values = (name, payload or "", position.store, position.seq, int(seen_at), payload)
        self._database.execute(
            "INSERT INTO agents VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
            " store=excluded.store, seq=excluded.seq, seen_at=excluded.seen_at, payload=coalesce(?, payload)",
            values,
        )

    def keep_facts(self, facts: Mapping[str, JsonObject]) -> None:
        """Keep the facts of hosts, unless those that are kept were gathered a few minutes ago."""
        now = time.time()
        rows = [(storable(host), now, json.dumps(found, sort_keys=True)) for host, found in facts.items()]
        with Transaction(self._database):
            self._database.executemany(
                "INSERT INTO facts VALUES (?, ?, ?) ON CONFLICT (host) DO UPDATE SET at=excluded.at,"
                f" facts=excluded.facts WHERE at<excluded.at-{FACTS_SECONDS}",
                rows,
            )

    # Hashes of this machine's own files

    def hash_of(self, path: str, info: os.stat_result) -> str | None:
        """Return the SHA-256 of a file as it was last hashed, or None if it may have changed since."""
        statement = "SELECT sha256, device, inode, size, mtime_ns, ctime_ns FROM hashes WHERE path=?"
        try:
            row = self._database.execute(statement, (path,)).fetchone()
        except StateError:  # it is only quicker
            return None
        return str(row[0]) if row and tuple(row[1:]) == signature(info) else None

    def keep_hash(self, path: str, info: os.stat_result, sha256: str) -> None:
        """Remember the hash of a file that had settled when `info` was taken, before it was read."""
        if has_settled(info):
            values = (path, *signature(info), sha256)
            with contextlib.suppress(StateError):
                self._database.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?, ?)", values)


def has_settled(info: os.stat_result) -> bool:
    """Return whether no further change of a file can leave its times as they are; info: of this moment."""
    return time.time_ns() - info.st_ctime_ns > SETTLED_NS


def signature(info: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return what tells one state of a file from another."""
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
