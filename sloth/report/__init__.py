"""Reports of runs, from their events: for people and for machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TextIO

from sloth.engine.events import Event


class Reporter(Protocol):
    """Reports the events of a run. close() is called at the end, also after an interrupt."""

    def emit(self, event: Event) -> None: ...

    def close(self) -> None: ...


def make(
    kind: str,
    *,
    diff: bool,
    verbosity: int,
    stdout: TextIO,
    stderr: TextIO,
    usual: Callable[[], float | None] | None = None,
) -> Reporter:
    """Return the reporter for `kind`: rich, plain, json or ndjson.

    usual: returns how many seconds such a run usually takes, for the live view.
    """
    if kind in ("json", "ndjson"):
        from sloth.report.document import Document, Lines

        if kind == "ndjson":
            return Lines(stdout)
        from sloth.report.plain import Plain

        return Document(stdout, Plain(stderr, diff=False, verbosity=verbosity))
    if kind == "rich":
        from sloth.report.live import Live

        return Live(stdout, diff=diff, verbosity=verbosity, usual=usual)
    from sloth.report.plain import Plain

    return Plain(stdout, diff=diff, verbosity=verbosity)
