"""What the controller remembers of hosts between runs: their payload, contents and state."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sloth.errors import StateError
from sloth.payload.kernel.errors import StoreError
from sloth.payload.kernel.record import ReplicaChange
from sloth.payload.state.store import Store

VERSION = 4
BUSY_SECONDS = 30.0  # how long another process may hold a file of ours
SCHEMA = (
    "CREATE TABLE agents (name TEXT PRIMARY KEY, payload TEXT NOT NULL, store TEXT NOT NULL, seq INTEGER NOT NULL,"
    " seen_at INTEGER NOT NULL)",
    "CREATE TABLE assets (name TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (name, sha256))",
    "CREATE TABLE runs (run TEXT PRIMARY KEY, site TEXT NOT NULL, who TEXT NOT NULL, hosts INTEGER NOT NULL,"
    " started REAL NOT NULL, seconds REAL, changed INTEGER, failed INTEGER, status INTEGER)",
)
# What changed or failed in a run; format 2.
TOLD = (
    "CREATE TABLE told (run TEXT NOT NULL, host TEXT NOT NULL, task TEXT, key TEXT, status TEXT, reason TEXT,"
    " place TEXT, error TEXT)",
    "CREATE INDEX told_by_run ON told (run)",
)


def sloth_home() -> Path:
    """The controller's directory: $SLOTH_HOME, else ~/.sloth-runner."""
    return Path(os.environ.get("SLOTH_HOME") or Path.home() / ".sloth-runner")


def open_database(path: Path, schema: Sequence[Sequence[str]], version: int) -> sqlite3.Connection:
    """Open (or create, mode 0600) one of the controller's SQLite files; schema[n] leads from format n to n + 1.

    Raises StateError.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        _use_wal(database)
        database.execute("BEGIN IMMEDIATE")
        have = database.execute("PRAGMA user_version").fetchone()[0]
        if have < version:
            for statements in schema[have:]:
                for statement in statements:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version={version}")
        database.execute("COMMIT")
    except OSError as error:
        raise StateError(f"{path} cannot be opened: {error.strerror}") from error
    except sqlite3.Error as error:
        raise StateError(f"{path} cannot be used: {error}", hint="move it away: it is only a memory") from error
    if have > version:
        database.close()
        raise StateError(f"{path} has format {have}, this sloth-runner knows up to {version}", hint="upgrade it")
    return database


def _use_wal(database: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; SQLite's busy timeout does not cover the switch, so we wait ourselves."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


# Hashes of this machine's own files, which are large; format 3.
HASHES = (
    "CREATE TABLE hashes (path TEXT PRIMARY KEY, device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER,"
    " ctime_ns INTEGER, sha256 TEXT NOT NULL)",
)
# A plainer name; format 4.
RENAMED = ("ALTER TABLE told RENAME TO run_results",)
SETTLED_NS = 2 * 10**9  # a file that was changed so lately may change again without a new time
RESULT = ("host", "task", "key", "status", "reason", "place", "error")


@dataclass(frozen=True, slots=True)
class RunResult:
    """What is remembered of a call that changed something, or failed; place: the line of the site."""

    host: str
    task: str
    key: str
    status: str
    reason: str
    place: str
    error: str


@dataclass(frozen=True)
class Known:
    """What is known of one agent; `payload` and `assets` are hashes, `store_id` and `seq` name its replica."""

    payload: str = ""
    store_id: str = ""
    seq: int = 0
    assets: frozenset[str] = frozenset()


class Memory:
    """The controller's `controller.db` and `replicas/`."""

    def __init__(self, directory: Path | None = None) -> None:
        """Raises StateError."""
        self.directory = directory or sloth_home()
        self._database = open_database(self.directory / "controller.db", (SCHEMA, TOLD, HASHES, RENAMED), VERSION)

    def replica_path(self, name: str) -> Path:
        """The replica of an agent's state file."""
        return self.directory / "replicas" / f"{name}.db"

    def known(self, names: Iterable[str]) -> dict[str, Known]:
        """What is known of all agents, and of their other accounts (as "agent@account")."""
        wanted = set(names)
        assets: dict[str, set[str]] = {}
        for name, sha256 in self._database.execute("SELECT name, sha256 FROM assets"):
            assets.setdefault(name, set()).add(sha256)
        rows = self._database.execute("SELECT name, payload, store, seq FROM agents")
        return {
            name: Known(payload, store, seq, frozenset(assets.get(name, ())))
            for name, payload, store, seq in rows
            if name.partition("@")[0] in wanted
        }

    def remember(self, name: str, *, payload: str, assets: frozenset[str], replica: ReplicaChange | None) -> None:
        """Keep what a session taught us. Raises StateError."""
        if replica:
            self._replicate(name, replica)
        store, seq = (replica.id, replica.seq) if replica else ("", 0)
        with self._transaction():
            if replica:
                values = (name, payload, store, seq, int(time.time()))
                self._database.execute("INSERT OR REPLACE INTO agents VALUES (?, ?, ?, ?, ?)", values)
            self._database.execute("DELETE FROM assets WHERE name=?", (name,))
            rows = [(name, sha256) for sha256 in assets]
            self._database.executemany("INSERT INTO assets VALUES (?, ?)", rows)

    def absorb(self, name: str, replica: ReplicaChange) -> None:
        """Keep what was done to a state outside of a run. Raises StateError."""
        self._replicate(name, replica)
        values = (replica.id, replica.seq, name)
        self._database.execute("UPDATE agents SET store=?, seq=? WHERE name=?", values)

    def _replicate(self, name: str, replica: ReplicaChange) -> None:
        path = self.replica_path(name)
        if not (replica.rows or replica.removed or replica.whole or not path.exists()):
            return
        try:
            copy = Store(str(path))
            copy.absorb(replica)
            copy.close()
        except (StoreError, KeyError, TypeError, ValueError) as error:
            raise StateError(f"the replica {path} cannot be written: {error}") from error

    def hash_of(self, path: str, info: os.stat_result) -> str | None:
        """The SHA-256 that a file of this machine had when it was last hashed, if it was not changed since."""
        statement = "SELECT sha256, device, inode, size, mtime_ns, ctime_ns FROM hashes WHERE path=?"
        row = self._database.execute(statement, (path,)).fetchone()
        return str(row[0]) if row and tuple(row[1:]) == _signature(info) else None

    def keep_hash(self, path: str, info: os.stat_result, sha256: str) -> None:
        """Remember it; info was taken before the file was read."""
        if time.time_ns() - info.st_ctime_ns > SETTLED_NS:
            values = (path, *_signature(info), sha256)
            self._database.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def begin_run(self, run: str, site: str, who: str, hosts: int) -> None:
        """Record that a run began."""
        values = (run, site, who, hosts, time.time())
        self._database.execute("INSERT INTO runs (run, site, who, hosts, started) VALUES (?, ?, ?, ?, ?)", values)

    def end_run(
        self, run: str, changed: int, failed: int, seconds: float, status: int, results: Sequence[RunResult] = ()
    ) -> None:
        """Record how it ended; `status` is the exit status, `results` what changed or failed."""
        rows = [(run, *(getattr(result, name) for name in RESULT)) for result in results]
        with self._transaction():
            self._database.executemany("INSERT INTO run_results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._end_run(run, changed, failed, seconds, status)

    def _end_run(self, run: str, changed: int, failed: int, seconds: float, status: int) -> None:
        values = (changed, failed, seconds, status, run)
        self._database.execute("UPDATE runs SET changed=?, failed=?, seconds=?, status=? WHERE run=?", values)

    def runs(self, limit: int = 50) -> list[dict[str, Any]]:
        """The newest runs of this controller, newest first."""
        names = ("run", "site", "who", "hosts", "started", "seconds", "changed", "failed", "status")
        rows = self._database.execute(
            f"SELECT {','.join(names)} FROM runs ORDER BY started DESC, rowid DESC LIMIT ?", (limit,)
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def run(self, name: str) -> dict[str, Any]:
        """One run, by its id, the beginning of it, or "last", with `results` (dicts of RESULT). Raises StateError."""
        runs = self.runs(-1)
        found = [row for row in runs if row["run"] == name] or [row for row in runs if row["run"].startswith(name)]
        if name == "last":
            found = runs[:1]
        if not found:
            raise StateError(f"there is no run {name}", hint="see sloth-runner runs list")
        if len(found) > 1:
            names = ", ".join(row["run"] for row in found[:5])
            raise StateError(f"{name} is ambiguous: {names}", hint="use a longer prefix")
        rows = self._database.execute(
            f"SELECT {','.join(RESULT)} FROM run_results WHERE run=? ORDER BY host, rowid", (found[0]["run"],)
        )
        return {**found[0], "results": [dict(zip(RESULT, row, strict=True)) for row in rows]}

    def accounts(self, host: str) -> list[str]:
        """The further accounts of a host of which there is a state (besides the one we log in as)."""
        rows = self._database.execute("SELECT name FROM agents WHERE substr(name, 1, ?)=?", (len(host) + 1, host + "@"))
        return sorted(row[0].partition("@")[2] for row in rows)

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)

    def close(self) -> None:
        self._database.close()


def _signature(info: os.stat_result) -> tuple[int, int, int, int, int]:
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK on an error."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._database.execute("ROLLBACK" if kind else "COMMIT")
