"""Failures that do not count as such (ignored, rescued, retried), kept until they are shown, folded."""

from __future__ import annotations

from collections.abc import Iterator

from sloth.engine.events import Handled
from sloth.report.folding import Folding


class HandledFailures:
    """The handled failures of all hosts; a host's retries that fail alike are one."""

    def __init__(self) -> None:
        self._folding: Folding[tuple[Handled, str]] = Folding()
        self._known: set[tuple[str, str]] = set()  # hosts and errors

    def add(self, handled: Handled, what: str, host: str, error: str) -> None:
        """Add the failure of a call or task (`what`), unless the same error of the host is known."""
        if (host, error) not in self._known:
            self._known.add((host, error))
            self._folding.add((handled, what), host, error)

    def take(self) -> Iterator[tuple[Handled, str, str, list[str]]]:
        """Yield what was added since the last time: how it was handled, what failed, the error, the hosts."""
        folding, self._folding = self._folding, Folding()
        for (handled, what), text, names in folding.groups():
            yield handled, what, text, names
