"""Counts what happens in a run, once for every report and record."""

from __future__ import annotations

from collections import Counter

from sloth.engine.events import (
    CHANGED,
    FAILED,
    SKIPPED,
    UNCHANGED,
    UNKNOWN,
    UNREACHABLE,
    CallFinished,
    Event,
    Handled,
    HostFinished,
    Summary,
    TaskFinished,
)


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
            if result.status in (CHANGED, UNCHANGED):
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
