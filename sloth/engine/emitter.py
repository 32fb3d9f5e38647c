"""The one way by which events leave a run: redacted, counted, passed on; and what they make of the exit status."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sloth.engine.counts import Counts, Results
from sloth.engine.events import FAILED, Event, HostFinished, Log
from sloth.engine.resume import progress_of
from sloth.engine.secrets import Secrets
from sloth.engine.timings import Timings
from sloth.playbook import LogLevel
from sloth.state.run_records import Progress

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject


class Emitter:
    """Passes events on to a sink.

    Attributes:
        counts, results, timings: of what was emitted.
        ended: the hosts that have their HostFinished.
        failed: whether a host has failed, or an event could not be passed on.
    """

    def __init__(
        self, secrets: Secrets, sink: Callable[[Event], None], check: bool, watch: Callable[[Event], None] | None = None
    ) -> None:
        """watch: is called for every event before it is redacted."""
        self._secrets = secrets
        self._sink = sink
        self._watch = watch
        self._check = check
        self._is_broken = False
        self.counts = Counts()
        self.results = Results(self.counts)
        self.timings = Timings()
        self.facts: dict[str, JsonObject] = {}  # of the hosts whose facts were gathered
        self.progress: list[Progress] = []
        self.complete: set[str] = set()  # hosts that have come to the end of their tasks and handlers
        self.ended: set[str] = set()
        self.failed = False
        self.refused: set[str] = set()  # hosts that a saved plan does not fit: that is no failure

    def emit(self, event: Event) -> None:
        """Redact, count and pass on one event. It does not raise: hosts must be brought to their ends."""
        if self._watch is not None:
            self._watch(event)
        for shown in self._secrets.events(event):
            self._count(shown)
            try:
                self._sink(shown)
            except Exception as error:
                self.failed = True
                if not self._is_broken:
                    self._is_broken = True
                    self.error("", f"an event cannot be reported: {type(error).__name__}: {error}")

    def redact(self, value: JsonObject) -> JsonObject:
        """Return plain data without secrets."""
        return self._secrets.redact(value)

    def note_facts(self, host: str, facts: JsonObject) -> None:
        """Keep the facts of a host for the record."""
        self.facts[host] = self.redact(facts)

    def error(self, host: str, text: str) -> None:
        """Report an error, of a host or ("") of the run."""
        self.emit(Log(time.time(), host, "", LogLevel.ERROR, text))

    def warn(self, text: str) -> None:
        """Report a warning of the run."""
        self.emit(Log(time.time(), "", "", LogLevel.WARN, text))

    def _count(self, event: Event) -> None:
        if isinstance(event, HostFinished):
            self.ended.add(event.host)
            self.failed = self.failed or (event.status is FAILED and event.host not in self.refused)
        self.counts.add(event)
        self.results.add(event)
        self.timings.add(event)
        if not self._check:
            step = progress_of(event, self.complete)
            if step is not None:
                self.progress.append(step)

    def take_progress(self) -> list[Progress]:
        """Return how far hosts have come since this was called last."""
        taken, self.progress = self.progress, []
        return taken
