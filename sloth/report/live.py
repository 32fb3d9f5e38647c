"""The report on a terminal: the lines of the plain report in colour, above a live view of the hosts' progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.text import Text

from sloth.engine.events import (
    CallOutput,
    Event,
    HostFinished,
    HostPhase,
    HostStarted,
    RunFinished,
    RunStarted,
    TaskStarted,
)
from sloth.report.plain import Plain
from sloth.report.sentences import phase_sentence
from sloth.report.text import neutral

SLOW = 5  # running hosts that are shown
TITLE = 30  # characters of a call that are shown beside what it prints


class Live(Plain):
    """Adds colour and a view of the progress to the lines of Plain."""

    def __init__(
        self, out: TextIO, *, diff: bool, verbosity: int, usual: Callable[[], float | None] | None = None
    ) -> None:
        """usual: is called when the run begins, and returns how many seconds such a run usually takes, if known."""
        super().__init__(out, diff=diff, verbosity=verbosity)
        self._ask_usual = usual
        self._usual: float | None = None
        self._begun = 0.0
        unknown = os.environ.get("COLUMNS") == "0"  # of a terminal without a size; Rich would show nothing
        self._console = Console(file=out, highlight=False, soft_wrap=True, width=80 if unknown else None)
        self._total = 0
        self._running: dict[str, tuple[float, str]] = {}
        self._last_flush = 0.0
        self._live = RichLive(
            console=self._console, transient=True, refresh_per_second=8, get_renderable=self._view, auto_refresh=True
        )

    def line(self, text: str, style: str = "") -> None:
        try:
            self._console.print(Text(neutral(text).replace("\\x0d", ""), style=style))
        except BrokenPipeError:
            self._dead = True

    def emit(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._total = len(event.hosts)
                self._begun = time.monotonic()
                self._usual = self._ask_usual() if self._ask_usual is not None else None
                self._live.start()
            case HostStarted():
                self._busy(event.host, "starting")
            case HostPhase():
                self._busy(event.host, phase_sentence(event.phase))
            case TaskStarted():
                self._busy(event.host, f"task {event.task}")
            case CallOutput():
                self._said(event)
            case HostFinished():
                self._running.pop(event.host, None)
            case RunFinished():
                self._live.stop()
        super().emit(event)
        now = time.monotonic()
        if now - self._last_flush > 1:
            self._last_flush = now
            self._flush()

    def _busy(self, host: str, what: str) -> None:
        """Show what a host is busy with, and for how long that takes."""
        self._running[host] = (time.monotonic(), what)

    def _said(self, event: CallOutput) -> None:
        """Show the last line that a host's command has printed."""
        lines = [line for line in event.data.splitlines() if line.strip()]
        if lines and event.host in self._running:
            since, _ = self._running[event.host]
            call = (
                event.call if len(event.call) <= TITLE else event.call[: TITLE - 1] + "…"
            )  # else its output has no room
            self._running[event.host] = (since, f"task {event.task}: {call} | {lines[-1].strip()}")

    def close(self) -> None:
        self._live.stop()
        super().close()

    def _view(self) -> Group:
        done, failed = len(self._ended), len(self._failed)
        now = time.monotonic()
        head = Text.assemble(
            (f"{done}/{self._total} hosts", "bold"),
            f"  {len(self._running)} running  ",
            (f"{sum(self._changed.values())} changed  ", "yellow"),
            (f"{failed} failed  " if failed else "", "red"),
            (time_left(self._usual, now - self._begun), "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )
        slow = sorted(self._running.copy().items(), key=lambda item: item[1][0])[:SLOW]
        rows = [
            Text(neutral(f"  {host}  {now - since:.0f} s  {phase}"), style="dim", no_wrap=True, overflow="ellipsis")
            for host, (since, phase) in slow
        ]
        bar = ProgressBar(total=max(1, self._total), completed=done, width=40)
        return Group(bar, Text(), head, *rows)  # the empty text ends the bar's line


def time_left(usual: float | None, elapsed: float) -> str:
    """Return what to say about the end of a run that usually takes `usual` seconds; "" when that is not known."""
    if usual is None:
        return ""
    left = usual - elapsed
    if left < 0:
        return f"usually {_duration(usual)}"
    return f"about {_duration(left)} left"


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 100 else f"{round(seconds / 60)} min"
