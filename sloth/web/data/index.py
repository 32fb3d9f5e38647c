"""The index `web.db`: what is spread over thousands of replicas and runs, in one file that can be made anew.

Pages only read it. refresh() brings it up to date: it reads replicas that have changed since, and new ends of hosts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sloth.errors import StateError
from sloth.state.database import Database, Transaction, open_database
from sloth.web.data.database import open_read_only, read_only_uri

FORMAT = 2  # it is made anew when this differs
SCHEMA = (
    "CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    # One row a host: its newest ends in runs and in drift runs, and since when a run has not changed anything.
    "CREATE TABLE hosts (host TEXT PRIMARY KEY, run TEXT, status TEXT, started REAL, seconds REAL, error TEXT,"
    " changed_at REAL, reached_at REAL, drift_run TEXT, drift_status TEXT, drift_at REAL)",
    "CREATE INDEX hosts_by_status ON hosts (status)",
    # One row an agent: its replica, and what is in it.
    "CREATE TABLE agents (agent TEXT PRIMARY KEY, host TEXT NOT NULL, store TEXT NOT NULL, seq INTEGER NOT NULL,"
    " seen_at REAL, size INTEGER NOT NULL, resources INTEGER NOT NULL, orphaned INTEGER NOT NULL)",
    "CREATE INDEX agents_by_host ON agents (host)",
    "CREATE TABLE resources (agent TEXT NOT NULL, key TEXT NOT NULL, host TEXT NOT NULL, module TEXT NOT NULL,"
    " type TEXT NOT NULL, checksum TEXT NOT NULL, site TEXT, task TEXT, place TEXT, run TEXT, created_at INTEGER,"
    " changed_at INTEGER, checked_at INTEGER, orphaned INTEGER, superseded_by TEXT, PRIMARY KEY (agent, key))"
    " WITHOUT ROWID",
    "CREATE INDEX resources_by_key ON resources (key, host)",
    "CREATE INDEX resources_by_host ON resources (host, key)",
    "CREATE INDEX resources_orphaned ON resources (orphaned) WHERE orphaned IS NOT NULL",
    # One row for each time that a host was found not to be as applied, and for each time that a run put that back.
    "CREATE TABLE drifts (result INTEGER PRIMARY KEY, run TEXT NOT NULL, kind TEXT NOT NULL, host TEXT NOT NULL,"
    " key TEXT NOT NULL, word TEXT NOT NULL, at REAL NOT NULL, first_at REAL NOT NULL)",
    "CREATE INDEX drifts_by_host ON drifts (host, key, result)",
    "CREATE INDEX drifts_by_time ON drifts (at)",
    f"PRAGMA user_version={FORMAT}",
)
BATCH = 200  # replicas of a transaction
ENDS = 20_000  # ends of hosts of a transaction


class Index:
    """Keeps web.db up to date. It is used by one thread."""

    def __init__(self, directory: Path) -> None:
        """directory: the controller's, whose database exists. Raises StateError."""
        self._directory = directory
        path = directory / "web.db"
        self._remove_other_format(path)
        self._database: Database = open_database(path, (SCHEMA,))
        self._database.execute("ATTACH ? AS controller", (read_only_uri(directory / "controller.db"),))

    def close(self) -> None:
        self._database.close()

    def refresh(self) -> bool:
        """Read what is new; return whether anything was. Raises StateError."""
        return any([self._read_ends(), self._read_drifts(), self._read_replicas()])

    @staticmethod
    def _remove_other_format(path: Path) -> None:
        if not path.exists():
            return
        try:
            database = sqlite3.connect(path)
            version = database.execute("PRAGMA user_version").fetchone()[0]
            database.close()
        except sqlite3.Error:
            version = -1
        if version != FORMAT:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)

    # Ends of hosts in runs

    def _read_ends(self) -> bool:
        is_new = False
        while True:
            found = self._database.execute("SELECT value FROM marks WHERE name='ends'").fetchone()
            mark = int(found[0]) if found else 0
            rows = self._database.execute(
                "SELECT h.rowid, h.run, h.host, h.status, coalesce(h.started, r.started), h.seconds, h.error, r.kind"
                " FROM controller.run_hosts h LEFT JOIN controller.runs r ON r.run=h.run"
                " WHERE h.rowid>? ORDER BY h.rowid LIMIT ?",
                (mark, ENDS),
            ).fetchall()
            if not rows:
                return is_new
            is_new = True
            with Transaction(self._database):
                self._database.executemany(
                    "INSERT INTO hosts (host, run, status, started, seconds, error, changed_at, reached_at)"
                    " VALUES (:host, :run, :status, :started, :seconds, :error, :changed_at, :reached_at)"
                    " ON CONFLICT (host) DO UPDATE SET"
                    " run=CASE WHEN excluded.started>=coalesce(started, 0) THEN excluded.run ELSE run END,"
                    " status=CASE WHEN excluded.started>=coalesce(started, 0) THEN excluded.status ELSE status END,"
                    " seconds=CASE WHEN excluded.started>=coalesce(started, 0) THEN excluded.seconds ELSE seconds END,"
                    " error=CASE WHEN excluded.started>=coalesce(started, 0) THEN excluded.error ELSE error END,"
                    " started=max(excluded.started, coalesce(started, 0)),"
                    " changed_at=nullif(max(coalesce(excluded.changed_at, 0), coalesce(changed_at, 0)), 0),"
                    " reached_at=nullif(max(coalesce(excluded.reached_at, 0), coalesce(reached_at, 0)), 0)",
                    [_end(row) for row in rows if row[7] in (None, "run")],
                )
                self._database.executemany(
                    "INSERT INTO hosts (host, drift_run, drift_status, drift_at, reached_at)"
                    " VALUES (:host, :run, :status, :started, :reached_at)"
                    " ON CONFLICT (host) DO UPDATE SET"
                    " drift_run=CASE WHEN excluded.drift_at>=coalesce(drift_at, 0) THEN excluded.drift_run"
                    " ELSE drift_run END,"
                    " drift_status=CASE WHEN excluded.drift_at>=coalesce(drift_at, 0) THEN excluded.drift_status"
                    " ELSE drift_status END,"
                    " drift_at=max(excluded.drift_at, coalesce(drift_at, 0)),"
                    " reached_at=nullif(max(coalesce(excluded.reached_at, 0), coalesce(reached_at, 0)), 0)",
                    [_end(row) for row in rows if row[7] == "drift"],
                )
                self._database.execute("INSERT OR REPLACE INTO marks VALUES ('ends', ?)", (rows[-1][0],))

    # Drift

    def _read_drifts(self) -> bool:
        found = self._database.execute("SELECT value FROM marks WHERE name='results'").fetchone()
        mark = int(found[0]) if found else 0
        newest = self._database.execute("SELECT max(rowid) FROM controller.run_results").fetchone()[0] or 0
        if newest <= mark:
            return False
        rows = self._database.execute(
            "SELECT r.rowid, r.run, coalesce(u.kind, 'run'), r.host, r.key,"
            " CASE WHEN r.status='changed' AND coalesce(u.kind, 'run')='run' THEN 'corrected' ELSE 'found' END,"
            " coalesce(r.at, u.started) FROM controller.run_results r JOIN controller.runs u ON u.run=r.run"
            " WHERE r.rowid>? AND r.rowid<=? AND r.key<>''"
            " AND ((u.kind='drift' AND r.status='drift') OR (r.reason='drift' AND r.status IN ('changed', 'failed')))"
            " ORDER BY r.rowid",
            (mark, newest),
        ).fetchall()
        with Transaction(self._database):
            for row in rows:
                self._add_drift(*row)
            self._database.execute("INSERT OR REPLACE INTO marks VALUES ('results', ?)", (newest,))
        return True

    def _add_drift(self, result: int, run: str, kind: str, host: str, key: str, word: str, at: float) -> None:
        """Add a finding, or that it was put back; one that was found before, and not put back since, is the same."""
        first_at = at
        last = self._database.execute(
            "SELECT result, word, at, first_at FROM drifts WHERE host=? AND key=? ORDER BY result DESC LIMIT 1",
            (host, key),
        ).fetchone()
        if (
            last is not None
            and last[1] == "found"
            and (word == "corrected" or not self._was_over(host, run, last[2], at))
        ):
            first_at = last[3]
            self._database.execute("DELETE FROM drifts WHERE result=?", (last[0],))
        values = (result, run, kind, host, key, word, at, first_at)
        self._database.execute("INSERT OR REPLACE INTO drifts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _was_over(self, host: str, run: str, begin: float, end: float) -> bool:
        """Return whether another drift run has looked at a host in between, and not found what was found before."""
        return bool(
            self._database.execute(
                "SELECT 1 FROM controller.run_hosts h JOIN controller.runs u ON u.run=h.run WHERE h.host=? AND h.run<>?"
                " AND u.kind='drift' AND h.status IN ('clean', 'drift') AND u.started>? AND u.started<?",
                (host, run, begin, end),
            ).fetchone()
        )

    # Replicas

    def _read_replicas(self) -> bool:
        stale = self._database.execute(
            "SELECT c.name, c.store, c.seq, c.seen_at FROM controller.agents c LEFT JOIN agents a ON a.agent=c.name"
            " WHERE a.agent IS NULL OR a.store<>c.store OR a.seq<>c.seq ORDER BY c.name"
        ).fetchall()
        self._database.execute(
            "UPDATE agents SET seen_at=(SELECT seen_at FROM controller.agents WHERE name=agent)"
            " WHERE seen_at IS NOT (SELECT seen_at FROM controller.agents WHERE name=agent)"
        )
        for start in range(0, len(stale), BATCH):
            with Transaction(self._database):
                for name, store, seq, seen_at in stale[start : start + BATCH]:
                    self._read_replica(name, store, seq, seen_at)
        return bool(stale)

    def _read_replica(self, agent: str, store: str, seq: int, seen_at: float) -> None:
        path = self._directory / "replicas" / f"{agent}.db"
        host = agent.partition("@")[0]
        rows = list(_records(path))
        self._database.execute("DELETE FROM resources WHERE agent=?", (agent,))
        self._database.executemany(
            f"INSERT OR REPLACE INTO resources (agent, host, {_COLUMNS}) VALUES ({', '.join('?' * 15)})",
            [(agent, host, *row) for row in rows],
        )
        orphaned = sum(row[11] is not None for row in rows)
        size = path.stat().st_size if path.exists() else 0
        self._database.execute(
            "INSERT OR REPLACE INTO agents VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (agent, host, store, seq, seen_at, size, len(rows), orphaned),
        )


_COLUMNS = (
    "key, module, type, checksum, site, task, place, run, created_at, changed_at, checked_at, orphaned, superseded_by"
)


def _records(path: Path) -> Iterator[tuple[object, ...]]:
    """Yield the records of a replica, none when it cannot be read."""
    if not path.exists():
        return
    try:
        replica = open_read_only(path)
    except StateError:
        return
    try:
        for row in replica.execute(f"SELECT {_COLUMNS} FROM resources"):
            yield tuple(row)
    except sqlite3.Error:  # damaged, or of an older format: the next run replaces it
        return
    finally:
        replica.close()


def _end(row: tuple[object, ...]) -> dict[str, object]:
    _, run, host, status, started, seconds, error, _ = row
    is_reached = status not in ("unreachable", "skipped")
    return {
        "run": run,
        "host": host,
        "status": status,
        "started": started or 0.0,
        "seconds": seconds,
        "error": error,
        "changed_at": started if status == "changed" else None,
        "reached_at": started if is_reached else None,
    }
