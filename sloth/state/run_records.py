"""The controller's record of its runs: when, which site, by whom, what changed or failed, and how each run ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple

from sloth.errors import StateError
from sloth.frozen import field_names
from sloth.state.database import Database, Transaction
from sloth.state.outbox import Outbox
from sloth.state.run_values import (
    Progress,
    RunCounts,
    RunHost,
    RunKind,
    RunRecord,
    RunResult,
    StoredRun,
    storable,
)

__all__ = ["Progress", "RunCounts", "RunHost", "RunKind", "RunRecord", "RunRecords", "RunResult", "StoredRun"]
AMBIGUOUS_SHOWN = 5  # candidates that an error lists
_COUNTS = field_names(RunCounts)
_RESULT = ",".join(field_names(RunResult))
_HOST = ",".join(field_names(RunHost))
_RECORD = ",".join(field_names(RunRecord))
_IS_RUN = "coalesce(kind, 'run')='run'"
# Our own runs are in the order in which they were written, whatever the clock was, and those that were fetched from a
# backend are between them by their time.
_RUNS = (
    "(SELECT *, rowid AS number, CASE WHEN source IS NULL THEN max(CASE WHEN source IS NULL THEN started END)"
    " OVER (ORDER BY rowid) ELSE started END AS placed FROM runs)"
)
_NEWEST = "ORDER BY placed DESC, number DESC"


def _plain(value: object) -> object:
    return storable(value) if isinstance(value, str) else value


def _marks(columns: str) -> str:
    return "?" + ", ?" * (columns.count(",") + 1)  # one more, for the run


class RunRecords:
    """The tables `runs` and `run_results` of the controller's database."""

    def __init__(self, database: Database, outbox: Outbox | None = None) -> None:
        """outbox: is told of every change, for a backend."""
        self._database = database
        self._outbox = outbox

    def begin(
        self,
        run: str,
        site: str,
        who: str,
        hosts: int,
        given: str | None = None,
        kind: RunKind = RunKind.RUN,
        about: str | None = None,
    ) -> None:
        """Record that a run has begun.

        given: JSON of what it is of, for `run --resume` (see engine/resume.py); about: JSON of how it was called.
        """
        values = (run, site, who, hosts, time.time(), given, kind.value, about)
        with Transaction(self._database):
            self._database.execute(
                "INSERT INTO runs (run, site, who, hosts, started, given, kind, about) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            self._has_changed(run)

    def _has_changed(self, run: str) -> None:
        if self._outbox is not None:
            self._outbox.add_run(run)

    def add(
        self,
        run: str,
        *,
        results: Sequence[RunResult] = (),
        hosts: Sequence[RunHost] = (),
        progress: Sequence[Progress] = (),
    ) -> None:
        """Record what a run has done by now; end() gets the rest."""
        with Transaction(self._database):
            self._add_rows(run, results, progress, hosts)
            self._has_changed(run)

    def progress(self, run: str) -> list[Progress]:
        """Return how far each host of a run has come."""
        found = self._database.execute("SELECT host, task, status FROM run_progress WHERE run=? ORDER BY rowid", (run,))
        return [(host, task, status) for host, task, status in found]

    def given(self, run: str) -> str | None:
        """Return what begin() was given for a run."""
        row = self._database.execute("SELECT given FROM runs WHERE run=?", (run,)).fetchone()
        return row[0] if row else None

    def durations(self, site: str, hosts: int, limit: int) -> list[tuple[float, str]]:
        """Return the seconds of the newest runs of a site on so many hosts that ended well, each with its `given`."""
        rows = self._database.execute(
            "SELECT seconds, given FROM runs WHERE site=? AND hosts=? AND status=0 AND given IS NOT NULL"
            " ORDER BY rowid DESC LIMIT ?",
            (site, hosts, limit),
        )
        return [(float(seconds), given) for seconds, given in rows]

    def end(
        self,
        run: str,
        *,
        counts: RunCounts,
        seconds: float,
        status: int,
        results: Sequence[RunResult] = (),
        progress: Sequence[Progress] = (),
        hosts: Sequence[RunHost] = (),
        about: str | None = None,
    ) -> None:
        """Record how a run ended; `status` is its exit status, the rest what add() has not been given yet.

        about: replaces what begin() was given, unless it is None.
        """
        with Transaction(self._database):
            self._add_rows(run, results, progress, hosts)
            columns = "".join(f"{name}=?, " for name in _COUNTS)
            self._database.execute(
                f"UPDATE runs SET {columns}seconds=?, status=?, about=coalesce(?, about) WHERE run=?",
                (*(getattr(counts, name) for name in _COUNTS), seconds, status, about, run),
            )
            self._has_changed(run)

    def _add_rows(
        self, run: str, results: Sequence[RunResult], progress: Sequence[Progress], hosts: Sequence[RunHost]
    ) -> None:
        rows = [(run, *result.row()) for result in results]
        self._database.executemany(f"INSERT INTO run_results (run,{_RESULT}) VALUES ({_marks(_RESULT)})", rows)
        ends = [(run, *host.row()) for host in hosts]
        self._database.executemany(f"INSERT OR REPLACE INTO run_hosts (run,{_HOST}) VALUES ({_marks(_HOST)})", ends)
        steps = [(run, *map(storable, row)) for row in progress]
        self._database.executemany("INSERT OR REPLACE INTO run_progress VALUES (?, ?, ?, ?)", steps)

    def stored(self, run: str) -> StoredRun | None:
        """Return all that is recorded of the run with this id; None if there is no such run."""
        found = self._select("run=?", run)
        if not found:
            return None
        return StoredRun(found[0], self.given(run), self.progress(run), self.results(run), self.hosts(run))

    def keep(self, runs: Sequence[StoredRun]) -> None:
        """Keep runs of other controllers, which replace what was known of them. A run of this one is left alone."""
        with Transaction(self._database):
            for one in runs:
                run = one.record.run
                mine = self._database.execute("SELECT 1 FROM runs WHERE run=? AND source IS NULL", (run,)).fetchone()
                if mine:
                    continue
                for table in ("runs", "run_results", "run_hosts", "run_progress"):
                    self._database.execute(f"DELETE FROM {table} WHERE run=?", (run,))
                self._database.execute(
                    f"INSERT INTO runs ({_RECORD},given) VALUES ({_marks(_RECORD)})",
                    (*map(_plain, astuple(one.record)), one.given),
                )
                self._add_rows(run, one.results, one.progress, one.hosts)

    def ends(self) -> dict[str, tuple[bool, str | None]]:
        """Return of each run whether it has ended, and its source."""
        rows = self._database.execute("SELECT run, status, source FROM runs")
        return {run: (status is not None, source) for run, status, source in rows}

    def last_of_others(self) -> dict[str, float]:
        """Return of each host that runs of other controllers have reached when the newest of them began."""
        rows = self._database.execute(
            "SELECT host, max(runs.started) FROM runs JOIN run_hosts USING (run)"
            " WHERE source IS NOT NULL AND runs.status IS NOT NULL AND run_hosts.status<>'unreachable' GROUP BY host"
        )
        return dict(rows.fetchall())

    def newest(self, limit: int = 50, checks: bool = False) -> list[RunRecord]:
        """Return the newest runs, newest first; all of them when `limit` is negative. checks: whatever their kind."""
        where = "" if checks else f" WHERE {_IS_RUN}"
        rows = self._database.execute(f"SELECT {_RECORD} FROM {_RUNS}{where} {_NEWEST} LIMIT ?", (limit,))
        return [RunRecord(*row) for row in rows]

    def find(self, name: str) -> RunRecord:
        """Return the run with this id, with an id that begins so, or the newest for "last". Raises StateError.

        A check is found by its id only.
        """
        if name == "last":
            found = self.newest(1)
        else:
            found = self._select("run=?", name) or self._select("substr(run, 1, length(?1))=?1", name)
        if not found:
            raise StateError(f"run {name} not found", hint="see sloth-runner runs list")
        if len(found) > 1:
            names = ", ".join(one.run for one in found[:AMBIGUOUS_SHOWN])
            raise StateError(f"run {name} is ambiguous: {names}", hint="use a longer prefix")
        return found[0]

    def changes(self, host: str, since: float, until: float) -> list[tuple[str, str]]:
        """Return each resource that runs of this time have changed on a host: the run, and the key."""
        rows = self._database.execute(
            "SELECT run, key FROM run_results JOIN runs USING (run) WHERE host=? AND started BETWEEN ? AND ?"
            f" AND run_results.status='changed' AND reason<>'run' AND {_IS_RUN}",  # an action changes no resource
            (host, since, until),
        )
        return rows.fetchall()

    def newest_own(self) -> RunRecord:
        """Return the newest run of this controller, or else the newest of all. Raises StateError."""
        rows = self._database.execute(
            f"SELECT {_RECORD} FROM {_RUNS} WHERE {_IS_RUN} AND source IS NULL {_NEWEST} LIMIT 1"
        ).fetchall()
        return RunRecord(*rows[0]) if rows else self.find("last")

    def newest_of(self, host: str) -> RunRecord | None:
        """Return the newest run that has reached a host."""
        rows = self._database.execute(
            f"SELECT {_RECORD} FROM {_RUNS} WHERE {_IS_RUN} AND EXISTS (SELECT 1 FROM run_hosts WHERE"
            f" run_hosts.run=run AND host=? AND run_hosts.status<>'unreachable') {_NEWEST} LIMIT 1",
            (host,),
        ).fetchall()
        return RunRecord(*rows[0]) if rows else None

    def _select(self, condition: str, value: str) -> list[RunRecord]:
        rows = self._database.execute(f"SELECT {_RECORD} FROM runs WHERE {condition} ORDER BY started DESC", (value,))
        return [RunRecord(*row) for row in rows]

    def hosts(self, run: str) -> list[RunHost]:
        """Return how the run with this id went on each host; none before format 7."""
        rows = self._database.execute(f"SELECT {_HOST} FROM run_hosts WHERE run=? ORDER BY host", (run,))
        return [RunHost(*row) for row in rows]

    def results(self, run: str) -> list[RunResult]:
        """Return what changed or failed in the run with this id, host by host."""
        rows = self._database.execute(f"SELECT {_RESULT} FROM run_results WHERE run=? ORDER BY host, rowid", (run,))
        return [RunResult(*row) for row in rows]
