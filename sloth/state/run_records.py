"""The controller's record of its runs: when, which site, by whom, what changed or failed, and how each run ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple, fields
from enum import StrEnum

from sloth.errors import StateError
from sloth.frozen import frozen
from sloth.payload.kernel.hashing import as_utf8
from sloth.state.database import Database, Transaction
from sloth.state.outbox import Outbox

AMBIGUOUS_SHOWN = 5  # candidates that an error lists


class RunKind(StrEnum):
    """What a record is of."""

    RUN = "run"
    CHECK = "check"
    DRIFT = "drift"


@frozen
class RunResult:
    """What changed or failed in a run: a call, or a task or host without a call that is the cause.

    Secrets are already redacted.

    Attributes:
        task: None for a host.
        key: "" without a call.
        status: "changed", "failed", "unreachable", or what became of a failure: "ignored", "rescued", "retried"; of a
            drift run "drift", "unknown" or "frozen".
        place: the line of the site, "site.sloth:12".
        diff: as JSON, cut to a limit; in the form of Result.diff in engine/events.py.
        at: when it ended, in epoch seconds. diff, seconds and at are None before format 7.
    """

    host: str
    task: str | None
    key: str
    status: str
    reason: str
    place: str
    error: str
    diff: str | None = None
    seconds: float | None = None
    at: float | None = None

    def row(self) -> tuple[str | float | None, ...]:
        """Return the values of its columns."""
        return tuple(_storable(value) if isinstance(value, str) else value for value in astuple(self))


@frozen
class RunHost:
    """How a run went on one host.

    Attributes:
        status: as that of HostFinished.
        started: in epoch seconds.
        spans: where its time went, as JSON: see engine/timings.py.
    """

    host: str
    status: str
    started: float | None = None
    seconds: float | None = None
    error: str = ""
    spans: str | None = None

    def row(self) -> tuple[str | float | None, ...]:
        """Return the values of its columns."""
        return tuple(_storable(value) if isinstance(value, str) else value for value in astuple(self))


@frozen
class RunCounts:
    """The counts of a run.

    Attributes:
        changed, unchanged: calls.
        failed: tasks that failed on a host, and hosts that failed without one. The run fails if it is above 0.
        skipped: tasks on a host.
        unknown: tasks on a host, and calls, of which a check cannot know what they would do.
        unreachable: hosts.
        ignored: tasks that failed on a host, and have ignore_errors.
        rescued: calls whose failure pcall caught.
        retried: how often tasks were tried again.
        frozen: calls that were left alone because somebody has frozen what they are about.
    """

    changed: int = 0
    failed: int = 0
    unchanged: int = 0
    skipped: int = 0
    unknown: int = 0
    unreachable: int = 0
    ignored: int = 0
    rescued: int = 0
    retried: int = 0
    frozen: int = 0


@frozen
class RunRecord:
    """A run of this controller. What is only known at its end is None until then.

    Attributes:
        hosts: how many there were.
        started: in epoch seconds.
        seconds: how long it took.
        changed, failed, unchanged, ...: as RunCounts; formats before 5 had the first two.
        status: the exit status.
        kind: a RunKind; None before format 7, when only runs were recorded.
        about: how it was called, as JSON: see engine/recording.py.
        source: the backend that it was fetched from; None: it is a run of this controller.
    """

    run: str
    site: str
    who: str
    hosts: int
    started: float
    seconds: float | None = None
    changed: int | None = None
    failed: int | None = None
    status: int | None = None
    unchanged: int | None = None
    skipped: int | None = None
    unknown: int | None = None
    unreachable: int | None = None
    ignored: int | None = None
    rescued: int | None = None
    retried: int | None = None
    frozen: int | None = None
    kind: str | None = None
    about: str | None = None
    source: str | None = None


Progress = tuple[str, str, str]  # host, task ("": the host itself), status: see engine/resume.py
_COUNTS = [field.name for field in fields(RunCounts)]
_RESULT = ",".join(field.name for field in fields(RunResult))
_HOST = ",".join(field.name for field in fields(RunHost))
_RECORD = ",".join(field.name for field in fields(RunRecord))
_IS_RUN = "coalesce(kind, 'run')='run'"
_NEWEST = "ORDER BY started DESC, rowid DESC"  # those that were fetched from a backend came later than they began


def _storable(value: str | None) -> str | None:
    return None if value is None else as_utf8(value)


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
            self._add(run, results, hosts, progress)
            self._has_changed(run)

    def _add(
        self, run: str, results: Sequence[RunResult], hosts: Sequence[RunHost], progress: Sequence[Progress]
    ) -> None:
        rows = [(run, *result.row()) for result in results]
        ends = [(run, *host.row()) for host in hosts]
        steps = [(run, *map(_storable, row)) for row in progress]
        self._database.executemany(
            f"INSERT INTO run_results (run,{_RESULT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
        )
        self._database.executemany(f"INSERT OR REPLACE INTO run_hosts (run,{_HOST}) VALUES (?, ?, ?, ?, ?, ?, ?)", ends)
        self._database.executemany("INSERT OR REPLACE INTO run_progress VALUES (?, ?, ?, ?)", steps)

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
            f" {_NEWEST} LIMIT ?",
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
    ) -> None:
        """Record how a run ended; `status` is its exit status, the rest what add() has not been given yet."""
        with Transaction(self._database):
            self._add(run, results, hosts, progress)
            columns = "".join(f"{name}=?, " for name in _COUNTS)
            self._database.execute(
                f"UPDATE runs SET {columns}seconds=?, status=? WHERE run=?",
                (*(getattr(counts, name) for name in _COUNTS), seconds, status, run),
            )
            self._has_changed(run)

    def newest(self, limit: int = 50, checks: bool = False) -> list[RunRecord]:
        """Return the newest runs, newest first; all of them when `limit` is negative. checks: whatever their kind."""
        where = "" if checks else f" WHERE {_IS_RUN}"
        rows = self._database.execute(f"SELECT {_RECORD} FROM runs{where} {_NEWEST} LIMIT ?", (limit,))
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

    def _select(self, condition: str, value: str) -> list[RunRecord]:
        rows = self._database.execute(f"SELECT {_RECORD} FROM runs WHERE {condition} {_NEWEST}", (value,))
        return [RunRecord(*row) for row in rows]

    def hosts(self, run: str) -> list[RunHost]:
        """Return how the run with this id went on each host; none before format 7."""
        rows = self._database.execute(f"SELECT {_HOST} FROM run_hosts WHERE run=? ORDER BY host", (run,))
        return [RunHost(*row) for row in rows]

    def results(self, run: str) -> list[RunResult]:
        """Return what changed or failed in the run with this id, host by host."""
        rows = self._database.execute(f"SELECT {_RESULT} FROM run_results WHERE run=? ORDER BY host, rowid", (run,))
        return [RunResult(*row) for row in rows]
