"""Where the time of each host went, as run records keep it: sessions, tasks, and calls that took long."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sloth.engine.events import (
    SKIPPED,
    UNCHANGED,
    CallFinished,
    Event,
    HostFinished,
    HostStarted,
    SessionOpened,
    TaskFinished,
)
from sloth.state.run_records import RunHost

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

LONG = 0.1  # seconds of a call that is kept although it changed nothing
MOST = 200  # spans of a host
LIMIT = 16 * 1024 * 1024  # characters of all spans of a run
NAME = 200  # characters of a name


class Timings:
    """The ends of a run's hosts (`hosts`).

    A span is [kind, name, begin, seconds, status]: kind is "connect", "authenticate", "start", "task" or "call", and
    begin is in seconds from the start of the host.
    """

    def __init__(self) -> None:
        self.hosts: list[RunHost] = []
        self._started: dict[str, float] = {}
        self._spans: dict[str, list[list[Json]]] = {}
        self._left = LIMIT

    def add(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, CallFinished):
            result = event.result
            if result.seconds >= LONG or result.status not in (UNCHANGED, SKIPPED):
                end = event.time
                self._span(event.host, "call", result.key or result.module, end, result.seconds, result.status.value)
        elif isinstance(event, TaskFinished):
            if event.seconds:
                self._span(event.host, "task", event.task, event.time, event.seconds, event.status.value)
        elif isinstance(event, SessionOpened):
            started = event.time - event.start
            if event.connect or event.authenticate:
                self._span(event.host, "connect", "", started - event.authenticate, event.connect)
                self._span(event.host, "authenticate", "", started, event.authenticate)
            self._span(event.host, "start", event.account, event.time, event.start)
        elif isinstance(event, HostStarted):
            self._started[event.host] = event.time
            self._spans[event.host] = []
        elif isinstance(event, HostFinished):
            self._end(event)

    def take(self) -> list[RunHost]:
        """Return the hosts that have ended since this was called last."""
        taken, self.hosts = self.hosts, []
        return taken

    def _span(self, host: str, kind: str, name: str, end: float, seconds: float, status: str = "") -> None:
        spans = self._spans.get(host)
        if spans is not None and len(spans) < MOST:
            begin = max(0.0, end - seconds - self._started[host])
            spans.append([kind, name[:NAME], round(begin, 4), round(seconds, 4), status])

    def _end(self, event: HostFinished) -> None:
        spans = self._spans.pop(event.host, None)
        text = json.dumps(spans, separators=(",", ":")) if spans else None
        if text is not None:
            self._left -= len(text)
        self.hosts.append(
            RunHost(
                host=event.host,
                status=event.status.value,
                started=self._started.pop(event.host, event.time - event.seconds),
                seconds=event.seconds,
                error=event.error or "",
                spans=text if self._left > 0 else None,
            )
        )
