"""The report for machines: one JSON document at the end, or one JSON line an event; schemas are beside it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any, TextIO

from sloth.engine.events import (
    CHANGED,
    FAILED,
    CallFinished,
    CallOutput,
    Event,
    HostFinished,
    HostPhase,
    Log,
    OrphansFound,
    Result,
    RunFinished,
    RunStarted,
    TaskFinished,
)
from sloth.report import Reporter

VERSION = 1


def _masked(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: _masked(item, mask) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item, mask) for item in value]
    return value


def _result(result: Result) -> dict[str, Any]:
    return {
        **dataclasses.asdict(result),
        "changed": result.status == CHANGED,
        "failed": result.status == FAILED,
        "warnings": list(result.warnings),
    }


class Lines:
    """NDJSON: every event as it comes."""

    def __init__(self, out: TextIO, mask: Callable[[str], str]) -> None:
        self._out = out
        self._mask = mask
        self._dead = False

    def emit(self, event: Event) -> None:
        if self._dead:
            return
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
        line: dict[str, Any] = {"event": name, **dataclasses.asdict(event)}
        if isinstance(event, RunStarted):
            line["version"] = VERSION
        if isinstance(event, CallFinished):
            line["result"] = _result(event.result)
        try:
            self._out.write(json.dumps(_masked(line, self._mask), ensure_ascii=True) + "\n")
            self._out.flush()
        except BrokenPipeError:
            self._dead = True

    def close(self) -> None:
        """Nothing is held back."""


class Document:
    """One JSON document on stdout; what people want to see meanwhile goes to `aside`."""

    def __init__(self, out: TextIO, mask: Callable[[str], str], aside: Reporter) -> None:
        self._out = out
        self._mask = mask
        self._aside = aside
        self._head: RunStarted | None = None
        self._hosts: dict[str, dict[str, Any]] = {}
        self._results: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def emit(self, event: Event) -> None:
        if isinstance(event, (Log, CallOutput, HostPhase)):
            self._aside.emit(event)
        match event:
            case RunStarted():
                self._head = event
            case CallFinished():
                self._results.setdefault((event.host, event.task), []).append(_result(event.result))
            case TaskFinished():
                self._host(event.host)["tasks"].append(
                    {
                        "name": event.task,
                        "status": event.status,
                        "seconds": event.seconds,
                        "error": event.error,
                        "ignored": event.ignored,
                        "handler": event.handler,
                        "reason": event.reason,
                        "results": self._results.pop((event.host, event.task), []),
                    }
                )
            case OrphansFound():
                self._host(event.host)["orphans"] += list(event.orphans)
            case HostFinished():
                self._host(event.host).update(status=event.status, seconds=event.seconds, error=event.error)
            case RunFinished():
                self._write(event)

    def _host(self, name: str) -> dict[str, Any]:
        empty: dict[str, Any] = {"status": "skipped", "seconds": 0.0, "error": None, "tasks": [], "orphans": []}
        return self._hosts.setdefault(name, empty)

    def _write(self, event: RunFinished) -> None:
        assert self._head is not None
        document = {
            "version": VERSION,
            "run_id": event.run_id,
            "site": self._head.site,
            "check": self._head.check,
            "started": self._head.time,
            "seconds": event.seconds,
            "interrupted": event.interrupted,
            "summary": event.summary,
            "hosts": {name: self._hosts[name] for name in self._head.hosts if name in self._hosts},
        }
        try:
            self._out.write(json.dumps(_masked(document, self._mask), ensure_ascii=True, indent=2) + "\n")
            self._out.flush()
        except BrokenPipeError:
            pass

    def close(self) -> None:
        self._aside.close()
