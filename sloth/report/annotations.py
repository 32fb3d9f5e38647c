"""Failures as annotations of GitHub's workflows: they appear beside the line of the site that failed.

The commands are those of GitHub's documentation, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from sloth.engine.events import (
    FAILED,
    UNREACHABLE,
    CallFinished,
    Event,
    Handled,
    HostFinished,
    Log,
    TaskFinished,
)

MOST = 10  # of each kind, as GitHub shows no more of a step


class Annotations:
    """Writes a line for each failure, and for each warning, as it happens."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._written = {"error": 0, "warning": 0}
        self._failed: set[str] = set()  # hosts with an error that has a line

    def emit(self, event: Event) -> None:
        match event:
            case CallFinished() if event.result.status is FAILED and event.result.handled is Handled.NONE:
                self._failed.add(event.host)
                title = f"{event.task} on {event.host}" if event.task else event.host
                self._write("error", title, event.result.error or event.result.msg, event.result.where)
            case TaskFinished() if event.status is FAILED and not event.ignored and event.host not in self._failed:
                self._failed.add(event.host)
                self._write("error", f"{event.task} on {event.host}", event.error or "failed", _place(event.error))
            case HostFinished() if event.status in (FAILED, UNREACHABLE) and event.host not in self._failed:
                self._write("error", event.host, event.error or event.status, _place(event.error))
            case Log() if event.level == "warn":
                self._write("warning", event.host or "sloth-runner", event.text, event.where)

    def _write(self, kind: str, title: str, text: str, where: str) -> None:
        self._written[kind] += 1
        if self._written[kind] > MOST:
            return
        path, _, line = where.rpartition(":")
        text = text.removeprefix(f"{where}: ")
        at = f"file={_property(_relative(path))},line={line}," if path and line.isdigit() else ""
        self._out.write(f"::{kind} {at}title={_property(title)}::{_data(text)}\n")
        self._out.flush()

    def close(self) -> None:
        """Do nothing: everything has been written."""


def _place(error: str | None) -> str:
    """Return the position that an error's text begins with, "site.sloth:12", if it does."""
    head, separator, _ = (error or "").partition(": ")
    return head if separator and head.rpartition(":")[2].isdigit() else ""


def _relative(path: str) -> str:
    """Return a path as GitHub wants it: from the top of the repository, in which the command was started."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return path


def _data(text: str) -> str:
    """Return a message without what ends it, or begins another command."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
