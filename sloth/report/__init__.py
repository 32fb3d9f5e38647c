"""Turns a run's events into what people and machines read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TextIO

from sloth.engine.events import Event


class Reporter(Protocol):
    """Takes events as they come; close() also after an interrupt."""

    def emit(self, event: Event) -> None: ...

    def close(self) -> None: ...


def make(
    kind: str,
    *,
    diff: bool,
    verbosity: int,
    stdout: TextIO,
    stderr: TextIO,
    secrets: Callable[[str], str] | None = None,
) -> Reporter:
    """Return the reporter for `kind`: rich, plain, json or ndjson. secrets masks every text that is shown."""
    mask: Any = secrets or (lambda text: text)
    if kind in ("json", "ndjson"):
        from sloth.report.machine import Document, Lines

        if kind == "ndjson":
            return Lines(stdout, mask)
        from sloth.report.plain import Plain

        return Document(stdout, mask, Plain(stderr, diff=False, verbosity=0, mask=mask))
    if kind == "rich":
        from sloth.report.live import Live

        return Live(stdout, diff=diff, verbosity=verbosity, mask=mask)
    from sloth.report.plain import Plain

    return Plain(stdout, diff=diff, verbosity=verbosity, mask=mask)
