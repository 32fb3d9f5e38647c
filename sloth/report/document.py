"""Reports for programs: one JSON document, or one event per line (schema_json.json and schema_ndjson.json)."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, TextIO

from sloth.engine.events import (
    CHANGED,
    FAILED,
    UNKNOWN,
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
from sloth.payload.kernel.findings import Restored
from sloth.report.sentences import phase_sentence, task_reason

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject
    from sloth.report import Reporter

VERSION = 1


def _result(result: Result) -> JsonObject:
    return {
        **dataclasses.asdict(result),
        "changed": result.status is CHANGED,
        "failed": result.status is FAILED,
        "warnings": list(result.warnings),
    }


def _orphan(orphan: Restored) -> JsonObject:
    return {"key": orphan.key, "task": orphan.task, "status": orphan.status, "msg": orphan.msg}


def event_line(event: Event) -> JsonObject:
    """Return an event in the form of a line of NDJSON."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    line: JsonObject = {"event": name, **fields}
    match event:
        case RunStarted():
            line["version"] = VERSION
        case CallFinished():
            line["result"] = _result(event.result)
        case HostPhase():
            line["phase"] = phase_sentence(event.phase)
        case OrphansFound():
            line["orphans"] = [_orphan(orphan) for orphan in event.orphans]
        case TaskFinished():
            del line["skip"], line["unknown"]
            line["reason"] = task_reason(event)
        case RunFinished():
            line["summary"] = dataclasses.asdict(event.summary)
    return line


class Lines:
    """Writes NDJSON: one line for each event, as it happens."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._broken = False

    def emit(self, event: Event) -> None:
        """Write one event."""
        if self._broken:
            return
        try:
            self._out.write(json.dumps(event_line(event), ensure_ascii=True) + "\n")
            self._out.flush()
        except BrokenPipeError:  # the reader is gone; the run goes on
            self._broken = True

    def close(self) -> None:
        """Do nothing: every event has been written."""


class Document:
    """Writes one JSON document at the end. Meanwhile output and logs go to the reporter `aside`."""

    def __init__(self, out: TextIO, aside: Reporter) -> None:
        self._out = out
        self._aside = aside
        self._head: RunStarted | None = None
        self._hosts: dict[str, JsonObject] = {}
        self._results: dict[tuple[str, str], list[JsonObject]] = {}

    def emit(self, event: Event) -> None:
        """Take one event; after the last one, write the document."""
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
                        "retried": event.retried,
                        "reason": task_reason(event),
                        "results": self._results.pop((event.host, event.task), []),
                    }
                )
            case OrphansFound():
                self._host(event.host)["orphans"] += [_orphan(orphan) for orphan in event.orphans]
            case HostFinished():
                self._add_cut_off(event.host)
                self._host(event.host).update(status=event.status, seconds=event.seconds, error=event.error)
            case RunFinished():
                self._write(event)

    def _add_cut_off(self, host: str) -> None:
        """Add the calls of a task that did not end, since the host was lost or the run interrupted."""
        for task in [task for of, task in self._results if of == host]:
            results = self._results.pop((host, task))
            self._host(host)["tasks"].append(
                {
                    "name": task,
                    "status": UNKNOWN,
                    "seconds": sum(result["seconds"] for result in results),
                    "error": None,
                    "ignored": False,
                    "handler": False,
                    "retried": 0,
                    "reason": "it did not end",
                    "results": results,
                }
            )

    def _host(self, name: str) -> JsonObject:
        empty: JsonObject = {"status": "skipped", "seconds": 0.0, "error": None, "tasks": [], "orphans": []}
        return self._hosts.setdefault(name, empty)

    def _write(self, event: RunFinished) -> None:
        assert self._head is not None
        document = {
            "version": VERSION,
            "run_id": event.run_id,
            "site": self._head.site,
            "inventory": list(self._head.inventory),
            "check": self._head.check,
            "started": self._head.time,
            "seconds": event.seconds,
            "interrupted": event.interrupted,
            "summary": dataclasses.asdict(event.summary),
            "hosts": {name: self._hosts[name] for name in self._head.hosts if name in self._hosts},
        }
        try:
            self._out.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")
            self._out.flush()
        except BrokenPipeError:
            pass

    def close(self) -> None:
        """Close the other reporter."""
        self._aside.close()
