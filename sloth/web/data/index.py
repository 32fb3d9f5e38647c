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
from sloth.web.data.summaries import Counts, read_share

FORMAT = 8  # it is made anew when this differs
SCHEMA = (
    "CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    # The runs that were read: how many rows they had, and whether there will be no more.
    "CREATE TABLE runs_read (run TEXT PRIMARY KEY, size INTEGER NOT NULL, is_final INTEGER NOT NULL)",
    # One row a host: its newest ends in runs and in drift runs, and since when a run has not changed anything.
    "CREATE TABLE hosts (host TEXT PRIMARY KEY, run TEXT, status TEXT, started REAL, seconds REAL, error TEXT,"
    " changed_at REAL, reached_at REAL, frozen INTEGER NOT NULL DEFAULT 0, drift_run TEXT,"
    " drift_status TEXT, drift_at REAL)",
    "CREATE INDEX hosts_by_status ON hosts (status)",
    # One row an agent: its replica, and what is in it.
    "CREATE TABLE agents (agent TEXT PRIMARY KEY, host TEXT NOT NULL, store TEXT NOT NULL, seq INTEGER NOT NULL,"
    " seen_at REAL, size INTEGER NOT NULL, resources INTEGER NOT NULL, orphaned INTEGER NOT NULL)",
    "CREATE INDEX agents_by_host ON agents (host)",
    "CREATE TABLE resources (agent TEXT NOT NULL, key TEXT NOT NULL, host TEXT NOT NULL, module TEXT NOT NULL,"
    " type TEXT NOT NULL, checksum TEXT NOT NULL, site TEXT, task TEXT, place TEXT, run TEXT, created_at INTEGER,"
    " changed_at INTEGER, checked_at INTEGER, orphaned INTEGER, superseded_by TEXT, PRIMARY KEY (agent, key))"
    " WITHOUT ROWID",
    "CREATE INDEX resources_by_version ON resources (key, checksum, host, changed_at)",
    "CREATE INDEX resources_by_host ON resources (host, key)",
    "CREATE INDEX resources_orphaned ON resources (orphaned) WHERE orphaned IS NOT NULL",
    # One row a key: on how many hosts, in how many versions; and one row a version. scope: "" for all of them, and once
    # more for each site. See summaries.py.
    "CREATE TABLE keys (scope TEXT NOT NULL, key TEXT NOT NULL, module TEXT NOT NULL, hosts INTEGER NOT NULL,"
    " versions INTEGER NOT NULL, orphaned INTEGER NOT NULL, changed_at INTEGER, site TEXT NOT NULL,"
    " PRIMARY KEY (scope, key)) WITHOUT ROWID",
    "CREATE TABLE versions (scope TEXT NOT NULL, key TEXT NOT NULL, checksum TEXT NOT NULL, hosts INTEGER NOT NULL,"
    " PRIMARY KEY (scope, key, checksum)) WITHOUT ROWID",
    "CREATE INDEX versions_by_hosts ON versions (scope, key, hosts)",
    # One row for each time that a host was found not to be as applied, and for each time that a run put that back;
    # state: "open", "corrected" or "over" (see data/drift.py).
    "CREATE TABLE drifts (result INTEGER PRIMARY KEY, run TEXT NOT NULL, kind TEXT NOT NULL, host TEXT NOT NULL,"
    " key TEXT NOT NULL, word TEXT NOT NULL, at REAL NOT NULL, first_at REAL NOT NULL,"
    " state TEXT NOT NULL DEFAULT 'over')",
    "CREATE INDEX drifts_by_host ON drifts (host, key, result, state, first_at)",
    "CREATE INDEX drifts_by_run ON drifts (run)",
    "CREATE INDEX drifts_by_time ON drifts (first_at, result)",
    "CREATE INDEX drifts_by_state ON drifts (state, host)",
    "CREATE INDEX drifts_by_key ON drifts (key, host, state, first_at)",
)
BATCH = 200  # replicas of a transaction


class Index:
    """Keeps web.db up to date. It is used by one thread."""

    def __init__(self, directory: Path) -> None:
        """directory: the controller's, whose database exists. Raises StateError."""
        self._directory = directory
        path = directory / "web.db"
        self._remove_other_format(path)
        self._database: Database = open_database(path, ((),) * (FORMAT - 1) + (SCHEMA,))
        self._database.execute("ATTACH ? AS controller", (read_only_uri(directory / "controller.db"),))

    def close(self) -> None:
        self._database.close()

    def refresh(self) -> bool:
        """Read what is new; return whether anything was. Raises StateError."""
        return any([self._read_runs(), self._read_replicas()])

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

    # Runs. Not by row numbers: those of a run that was fetched anew may be the same as before.

    def _read_runs(self) -> bool:
        runs = self._database.execute(
            "SELECT r.run, coalesce(r.kind, 'run'), r.started, r.status IS NOT NULL, m.size FROM controller.runs r"
            " LEFT JOIN runs_read m ON m.run=r.run WHERE m.run IS NULL OR m.is_final=0 ORDER BY r.started"
        ).fetchall()
        is_new = False
        for run, kind, started, has_ended, size in runs:
            now = self._database.execute(
                "SELECT (SELECT count(*) FROM controller.run_hosts WHERE run=?1)"
                " + (SELECT count(*) FROM controller.run_results WHERE run=?1)",
                (run,),
            ).fetchone()[0]
            if now != size or has_ended:
                is_new = True
                with Transaction(self._database):
                    self._read_ends(run, kind, started)
                    self._read_drifts(run, kind, started)
                    self._database.execute(_JUDGE_DRIFTS, {"run": run})
                    values = (run, now, has_ended)
                    self._database.execute("INSERT OR REPLACE INTO runs_read VALUES (?, ?, ?)", values)
                    self._count_news()
        return is_new

    def _read_ends(self, run: str, kind: str, started: float) -> None:
        rows = self._database.execute(
            "SELECT run, host, status, coalesce(started, ?), seconds, substr(error, 1, 4000)"
            " FROM controller.run_hosts WHERE run=?",
            (started, run),
        ).fetchall()
        ends = [_end(row) for row in rows]
        if kind == "run":
            self._database.executemany(_KEEP_END, ends)
            self._count_frozen(run)
        elif kind == "drift":
            self._database.executemany(_KEEP_DRIFT, ends)

    def _count_frozen(self, run: str) -> None:
        """Count what was left alone on each host whose newest run is this one."""
        rows = self._database.execute(
            "SELECT count(*), run, host FROM controller.run_results WHERE run=? AND status='frozen' GROUP BY host",
            (run,),
        ).fetchall()
        self._database.executemany("UPDATE hosts SET frozen=? WHERE run=? AND host=?", rows)

    # Drift

    def _read_drifts(self, run: str, kind: str, started: float) -> None:
        rows = self._database.execute(
            "SELECT rowid, host, key, CASE WHEN status='changed' AND ?1='run' THEN 'corrected' ELSE 'found' END,"
            " coalesce(at, ?2) FROM controller.run_results WHERE run=?3 AND key<>''"
            " AND ((?1='drift' AND status='drift') OR (reason='drift' AND status IN ('changed', 'failed')))"
            " ORDER BY rowid",
            (kind, started, run),
        ).fetchall()
        earlier = self._database.execute("SELECT host, key, first_at FROM drifts WHERE run=?", (run,)).fetchall()
        first_at = {(host, key): at for host, key, at in earlier}
        self._database.execute("DELETE FROM drifts WHERE run=?", (run,))
        for result, host, key, word, at in rows:
            self._add_drift(result, run, kind, host, key, word, at, first_at.get((host, key), at))

    def _add_drift(
        self, result: int, run: str, kind: str, host: str, key: str, word: str, at: float, first_at: float
    ) -> None:
        """Add a finding, or that it was put back; one that was found before, and not put back since, is the same."""
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
        self._database.execute(
            "INSERT OR REPLACE INTO drifts (result, run, kind, host, key, word, at, first_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        if word == "corrected":
            self._database.execute(
                "UPDATE hosts SET drift_status='clean' WHERE host=? AND drift_status='drift' AND NOT EXISTS"
                " (SELECT 1 FROM drifts d WHERE d.host=hosts.host AND d.word='found' AND d.at>=hosts.drift_at)",
                (host,),
            )

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
        seen = self._database.execute(
            "UPDATE agents SET seen_at=(SELECT seen_at FROM controller.agents WHERE name=agent)"
            " WHERE seen_at IS NOT (SELECT seen_at FROM controller.agents WHERE name=agent)"
        ).rowcount
        for start in range(0, len(stale), BATCH):
            with Transaction(self._database):
                counts = Counts()
                for name, store, seq, seen_at in stale[start : start + BATCH]:
                    self._read_replica(name, store, seq, seen_at, counts)
                counts.write(self._database)
                self._count_news()
        if seen > 0:
            self._count_news()
        return bool(stale)

    def _count_news(self) -> None:
        """Change the marks, which tell readers whether what they have kept is still true."""
        self._database.execute(
            "INSERT INTO marks VALUES ('replicas', 1) ON CONFLICT (name) DO UPDATE SET value=value+1"
        )

    def _read_replica(self, agent: str, store: str, seq: int, seen_at: float, counts: Counts) -> None:
        path = self._directory / "replicas" / f"{agent}.db"
        host = agent.partition("@")[0]
        rows = list(_records(path))
        before = read_share(self._database, host)
        self._database.execute("DELETE FROM resources WHERE agent=?", (agent,))
        self._database.executemany(
            f"INSERT OR REPLACE INTO resources (agent, host, {_COLUMNS}) VALUES ({', '.join('?' * 15)})",
            [(agent, host, *row) for row in rows],
        )
        counts.add(before, read_share(self._database, host))
        orphaned = sum(row[11] is not None for row in rows)
        size = path.stat().st_size if path.exists() else 0
        self._database.execute(
            "INSERT OR REPLACE INTO agents VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (agent, host, store, seq, seen_at, size, len(rows), orphaned),
        )


# A finding is over when a later drift run has looked and not found it; a correction that a later run has made.
_JUDGE_DRIFTS = (
    "UPDATE drifts SET state=CASE WHEN word='corrected' THEN 'corrected' WHEN"
    " at>=coalesce((SELECT drift_at FROM hosts h WHERE h.host=drifts.host), 0)"
    " AND (kind<>'drift' OR run=(SELECT drift_run FROM hosts h WHERE h.host=drifts.host))"
    " AND NOT EXISTS (SELECT 1 FROM drifts l WHERE l.host=drifts.host AND l.key=drifts.key AND l.result>drifts.result)"
    " THEN 'open' ELSE 'over' END"
    " WHERE host IN (SELECT host FROM drifts WHERE run=:run UNION"
    " SELECT host FROM controller.run_hosts WHERE run=:run"
    " AND 'drift'=(SELECT kind FROM controller.runs WHERE run=:run))"
)
_KEEP_END = (
    "INSERT INTO hosts (host, run, status, started, seconds, error, changed_at, reached_at)"
    " VALUES (:host, :run, :status, :started, :seconds, :error, :changed_at, :reached_at)"
    " ON CONFLICT (host) DO UPDATE SET"
    " run=CASE WHEN excluded.started>=coalesce(started, 0) THEN excluded.run ELSE run END,"
    " status=CASE WHEN excluded.started>=coalesce(started, 0) THEN excluded.status ELSE status END,"
    " seconds=CASE WHEN excluded.started>=coalesce(started, 0) THEN excluded.seconds ELSE seconds END,"
    " error=CASE WHEN excluded.started>=coalesce(started, 0) THEN excluded.error ELSE error END,"
    " frozen=CASE WHEN excluded.started>=coalesce(started, 0) THEN 0 ELSE frozen END,"
    " started=max(excluded.started, coalesce(started, 0)),"
    " changed_at=nullif(max(coalesce(excluded.changed_at, 0), coalesce(changed_at, 0)), 0),"
    " reached_at=nullif(max(coalesce(excluded.reached_at, 0), coalesce(reached_at, 0)), 0)"
)
_KEEP_DRIFT = (
    "INSERT INTO hosts (host, drift_run, drift_status, drift_at, reached_at)"
    " VALUES (:host, :run, :status, :started, :reached_at)"
    " ON CONFLICT (host) DO UPDATE SET"
    " drift_run=CASE WHEN excluded.drift_at>=coalesce(drift_at, 0) THEN excluded.drift_run"
    " ELSE drift_run END,"
    " drift_status=CASE WHEN excluded.drift_at>=coalesce(drift_at, 0) THEN excluded.drift_status"
    " ELSE drift_status END,"
    " drift_at=max(excluded.drift_at, coalesce(drift_at, 0)),"
    " reached_at=nullif(max(coalesce(excluded.reached_at, 0), coalesce(reached_at, 0)), 0)"
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
    run, host, status, started, seconds, error = row
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
