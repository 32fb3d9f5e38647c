"""Where the time of a run went: for each host as a table, and as a waterfall in a picture. --profile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from html import escape
from typing import TextIO

from sloth.engine.events import (
    CallFinished,
    Event,
    HostFinished,
    HostStarted,
    RunFinished,
    RunStarted,
    SessionOpened,
)
from sloth.errors import UsageError
from sloth.frozen import mutable
from sloth.report.text import neutral, table_lines

SLOWEST = 10  # calls, and hosts, in the table
ROW = 18  # pixels
LEFT = 160
WIDTH = 1100
COLOURS = {
    "connect": "#4269d0",
    "authenticate": "#a463f2",
    "start": "#9c6b4e",
    "changed": "#efb118",
    "failed": "#ff725c",
}
OTHER = "#6cc5b0"  # a call that changed nothing


@mutable
class Span:
    """What took a host's time: from `begin` to `end`, in epoch seconds."""

    kind: str
    title: str
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@mutable
class HostTimes:
    """A host of the run, and what took its time."""

    begin: float
    end: float = 0.0
    spans: list[Span] = field(default_factory=list)

    def add(self, kind: str, title: str, seconds: float, end: float) -> None:
        """Add a span that ended at `end`; a host does one thing after the other."""
        earliest = self.spans[-1].end if self.spans else self.begin
        self.spans.append(Span(kind, title, min(end, max(earliest, end - seconds)), end))

    def seconds(self, *kinds: str) -> float:
        return sum(span.seconds for span in self.spans if span.kind in kinds)


class Profile:
    """Collects where each host's time goes, and writes it at the end."""

    def __init__(self, out: TextIO, picture: str | None) -> None:
        """out: for the table; picture: the SVG file to write. Raises UsageError when that cannot be written."""
        self._out = out
        self._picture = picture
        self._hosts: dict[str, HostTimes] = {}
        self._calls: list[tuple[float, str, str, str]] = []
        self._begin = self._end = 0.0
        if picture is not None:
            try:
                open(picture, "a").close()
            except OSError as error:
                raise UsageError(f"{picture} cannot be written: {error.strerror}", hint="see --profile") from error

    def emit(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._begin = event.time
            case HostStarted():
                self._hosts[event.host] = HostTimes(event.time)
            case SessionOpened():
                self._opened(self._hosts[event.host], event)
            case CallFinished():
                result = event.result
                kind = result.status if result.status in COLOURS else "call"
                self._hosts[event.host].add(kind, result.key or result.module, result.seconds, event.time)
                self._calls.append((result.seconds, event.host, result.key or result.module, result.where))
            case HostFinished() if event.host in self._hosts:
                self._hosts[event.host].end = event.time
            case RunFinished():
                self._end = event.time

    def _opened(self, host: HostTimes, event: SessionOpened) -> None:
        started = event.time - event.start
        account = f" as {event.account}" if event.account else ""
        if event.connect or event.authenticate:
            host.add("connect", "connect", event.connect, started - event.authenticate)
            host.add("authenticate", "authenticate", event.authenticate, started)
        host.add("start", f"start of the payload{account}", event.start, event.time)

    def close(self) -> None:
        """Write the table and the picture. Raises OSError."""
        for host in self._hosts.values():
            host.end = host.end or self._end
        for line in self._table():
            print(neutral(line), file=self._out)
        if self._picture is not None:
            with open(self._picture, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(self._waterfall())

    def _table(self) -> Iterator[str]:
        slowest = sorted(self._hosts.items(), key=lambda item: item[1].begin - item[1].end)[:SLOWEST]
        heads = ("HOST", "TOTAL", "CONNECT", "AUTHENTICATE", "START", "CALLS", "REST")
        rows = [(name, *(f"{seconds:.2f} s" for seconds in _parts(host))) for name, host in slowest]
        yield ""
        yield from table_lines(heads, rows)
        if len(self._hosts) > SLOWEST:
            yield f"the slowest {SLOWEST} of {len(self._hosts)} hosts"
        calls = sorted(self._calls, reverse=True)[:SLOWEST]
        if calls:
            yield ""
            yield from table_lines(
                ("SECONDS", "HOST", "CALL", "LINE"),
                [(f"{seconds:.3f}", host, call, where) for seconds, host, call, where in calls],
            )

    def _waterfall(self) -> Iterator[str]:
        """Yield the picture: a row for each host, and on it what it was busy with, one after the other."""
        length = max(self._end - self._begin, 0.001)
        scale = (WIDTH - LEFT - 20) / length
        height = ROW * (len(self._hosts) + 3)
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n'
        )
        at = LEFT
        for kind, colour in (*COLOURS.items(), ("unchanged", OTHER)):
            yield f'<rect x="{at}" y="5" width="10" height="10" fill="{colour}"/>'
            yield f'<text x="{at + 14}" y="14">{kind}</text>\n'
            at += 110
        for tick in range(6):
            x = LEFT + (WIDTH - LEFT - 20) * tick / 5
            yield (
                f'<line x1="{x:.1f}" y1="{ROW * 1.6:.1f}" x2="{x:.1f}" y2="{height}" stroke="#ddd"/>'
                f'<text x="{x:.1f}" y="{ROW * 1.5:.1f}" text-anchor="middle">{length * tick / 5:.2f} s</text>\n'
            )
        for number, (name, host) in enumerate(self._hosts.items()):
            y = ROW * (number + 2)
            title = _svg(name if len(name) <= 24 else name[:23] + "…")
            yield f'<text x="{LEFT - 6}" y="{y + 12}" text-anchor="end">{title}</text>\n'
            yield self._bar(y + 6, 3, "#ccc", host.begin, host.end, scale, f"{name}: {host.end - host.begin:.2f} s")
            for span in host.spans:
                text = f"{name}: {span.title}: {span.seconds:.3f} s"
                yield self._bar(y + 2, 11, COLOURS.get(span.kind, OTHER), span.begin, span.end, scale, text)
        yield "</svg>\n"

    def _bar(self, y: float, height: int, colour: str, begin: float, end: float, scale: float, title: str) -> str:
        x = LEFT + (begin - self._begin) * scale
        width = max((end - begin) * scale, 0.5)
        return (
            f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{height}" fill="{colour}">'
            f"<title>{_svg(title)}</title></rect>\n"
        )


def _parts(host: HostTimes) -> tuple[float, ...]:
    """Return the seconds of a host: in all, connect, authenticate, start, calls, and the rest of them."""
    total = host.end - host.begin
    connect, authenticate, start = (host.seconds(kind) for kind in ("connect", "authenticate", "start"))
    calls = host.seconds("changed", "failed", "call")
    return total, connect, authenticate, start, calls, max(0.0, total - connect - authenticate - start - calls)


def _svg(text: str) -> str:
    return escape(neutral(text))
