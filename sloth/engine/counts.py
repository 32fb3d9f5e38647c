"""Counts what happens in a run, once for every report and record."""

from __future__ import annotations

from collections import Counter

from sloth.engine.events import (
    CHANGED,
    FAILED,
    FROZEN,
    SKIPPED,
    UNCHANGED,
    UNKNOWN,
    UNREACHABLE,
    CallFinished,
    Event,
    Handled,
    HostFinished,
    Result,
    Summary,
    TaskFinished,
)
from sloth.engine.kept_diffs import KeptDiffs
from sloth.state.run_records import RunResult

DETAIL = 20  # lines of what a command printed that are kept with its error
LONGEST = 500  # characters of such a line


class Counts(Counter[str]):
    """The counts of a run by their names in Summary, which says what each counts.

    failed_tasks: how many tasks failed on each host, those that are ignored not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed_tasks: Counter[str] = Counter()

    def add(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, CallFinished):
            result = event.result
            if result.status in (CHANGED, UNCHANGED) or result.status in (UNKNOWN, FROZEN):
                self[result.status.value] += 1
            elif result.handled is Handled.RESCUED:
                self[Handled.RESCUED.value] += 1
        elif isinstance(event, TaskFinished):
            self[Handled.RETRIED.value] += event.retried
            if event.status is FAILED and event.ignored:
                self[Handled.IGNORED.value] += 1
            elif event.status is FAILED:
                self[FAILED.value] += 1
                self.failed_tasks[event.host] += 1
            elif event.status in (SKIPPED, UNKNOWN):
                self[event.status.value] += 1
        elif isinstance(event, HostFinished) and self.is_host_failure(event):
            self[event.status.value] += 1

    def is_host_failure(self, event: HostFinished) -> bool:
        """Return whether a host was unreachable, or failed without a task that did."""
        return event.status is UNREACHABLE or (event.status is FAILED and not self.failed_tasks[event.host])

    def summary(self, hosts: int) -> Summary:
        """Return all counts of a run over this many hosts."""
        return Summary(hosts=hosts, **self)


class Results:
    """What the controller remembers of a run: calls that changed something or failed, and other failures (`rows`).

    Of a check, that is what would change, and what cannot be known; what is frozen is among it.
    """

    def __init__(self, counts: Counts) -> None:
        """counts: what was counted of the same events, each before it is remembered here."""
        self.rows: list[RunResult] = []
        self._diffs = KeptDiffs()
        self._failures: set[tuple[str, str, str]] = set()  # host, task and status of those that are failures
        self._counts = counts

    def add(self, event: Event) -> None:
        """Remember what an event tells."""
        if isinstance(event, CallFinished) and event.result.status in _KEPT:
            self._append(_call_result(event, self._diffs))
        elif isinstance(event, TaskFinished) and event.status is FAILED:
            word = Handled.IGNORED.value if event.ignored else FAILED.value
            if (event.host, event.task, word) not in self._failures:  # no call of it has failed
                error, seconds, at = event.error or "", event.seconds, event.time
                self._append(RunResult(event.host, event.task, "", word, "", "", error, None, seconds, at))
        elif isinstance(event, HostFinished) and self._counts.is_host_failure(event):
            status, error = event.status.value, event.error or ""
            self._append(RunResult(event.host, None, "", status, "", "", error, None, event.seconds, event.time))

    def take(self) -> list[RunResult]:
        """Return what was remembered since this was called last."""
        taken, self.rows = self.rows, []
        return taken

    def _append(self, result: RunResult) -> None:
        self.rows.append(result)
        if result.status in _FAILURES:
            self._failures.add((result.host, result.task or "", result.status))


_KEPT = (CHANGED, FAILED, UNKNOWN, FROZEN)
_FAILURES = (FAILED.value, UNREACHABLE.value, Handled.IGNORED.value, Handled.RESCUED.value, Handled.RETRIED.value)


def _error(result: Result) -> str:
    """Return the error of a call with the last lines of what its command printed, which say why."""
    lines = [f"| {line[:LONGEST]}" for line in result.detail.splitlines()[-DETAIL:]] if result.error else []
    return "\n".join([result.error, *lines])


def _call_result(event: CallFinished, diffs: KeptDiffs) -> RunResult:
    result = event.result
    return RunResult(
        host=event.host,
        task=event.task,
        key=result.key,
        status=(result.handled or result.status).value,
        reason=result.reason.value,
        place=result.where,
        error=_error(result) or (result.msg if result.status in (FROZEN, UNKNOWN) else ""),
        diff=diffs.keep(result.diff),
        seconds=result.seconds,
        at=event.time,
    )
