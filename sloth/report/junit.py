"""The report as JUnit XML for CI systems: one suite per host, one case per task."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sloth.engine.events import (
    FAILED,
    FROZEN,
    SKIPPED,
    UNREACHABLE,
    CallFinished,
    Event,
    Handled,
    HostFinished,
    RunFinished,
    RunStarted,
    TaskFinished,
)
from sloth.errors import UsageError
from sloth.report.sentences import task_reason

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JUnit:
    """Collects a run's tasks and writes them to a file when the run is over."""

    def __init__(self, path: str) -> None:
        """Raise UsageError if the file cannot be written: before the run rather than after it."""
        self._path = Path(path)
        self._name = ""
        self._tasks: dict[str, list[TaskFinished]] = {}
        self._rescued: Counter[str] = Counter()
        self._frozen: dict[str, list[str]] = {}
        self._hosts: dict[str, HostFinished] = {}
        self._seconds = 0.0
        try:
            self._path.touch()
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}", hint="see --junit") from error

    def emit(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._name = event.site
            case CallFinished() if event.result.status is FROZEN:
                self._frozen.setdefault(event.host, []).append(event.result.msg)
            case CallFinished() if event.result.handled is Handled.RESCUED:
                self._rescued[event.host] += 1
            case TaskFinished():
                self._tasks.setdefault(event.host, []).append(event)
            case HostFinished():
                self._hosts[event.host] = event
            case RunFinished():
                self._seconds = event.seconds

    def close(self) -> None:
        root = ET.Element("testsuites", name=self._text(self._name), time=f"{self._seconds:.3f}")
        for host in self._hosts:
            root.append(self._suite(host))
        for name in ("tests", "failures", "errors", "skipped"):
            root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
        ET.indent(root)
        temporary = self._path.with_name(f".{self._path.name}.sloth")
        temporary.write_bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
        temporary.replace(self._path)

    def _suite(self, host: str) -> ET.Element:
        ended, tasks = self._hosts[host], self._tasks.get(host, [])
        suite = ET.Element("testsuite", name=self._text(host), time=f"{ended.seconds:.3f}")
        self._properties(suite, host, tasks)
        counts = {"tests": len(tasks), "failures": 0, "errors": 0, "skipped": 0}
        for task in tasks:
            case = ET.SubElement(
                suite, "testcase", classname=self._text(host), name=self._text(task.task), time=f"{task.seconds:.3f}"
            )
            if task.status == FAILED and not task.ignored:
                counts["failures"] += 1
                self._problem(case, "failure", task.error or "failed")
            elif task.status == FAILED:
                ET.SubElement(case, "system-out").text = self._text(f"ignored: {task.error or 'failed'}")
            elif task.status == SKIPPED:
                counts["skipped"] += 1
                ET.SubElement(case, "skipped", message=self._text(task_reason(task)))
        if ended.status == UNREACHABLE or (ended.status == FAILED and not counts["failures"]):
            counts["errors"] += 1
            counts["tests"] += 1
            case = ET.SubElement(suite, "testcase", classname=self._text(host), name="(host)", time="0")
            self._problem(case, "error", ended.error or ended.status)
        if self._frozen.get(host):
            ET.SubElement(suite, "system-out").text = self._text("\n".join(self._frozen[host]))
        for name, count in counts.items():
            suite.set(name, str(count))
        return suite

    def _properties(self, suite: ET.Element, host: str, tasks: Sequence[TaskFinished]) -> None:
        """Add the counts of failures that did not count as such, and of what is frozen, if there were any."""
        counts = {
            Handled.IGNORED: sum(task.status == FAILED and task.ignored for task in tasks),
            Handled.RESCUED: self._rescued[host],
            Handled.RETRIED: sum(task.retried for task in tasks),
            FROZEN: len(self._frozen.get(host, ())),
        }
        if any(counts.values()):
            properties = ET.SubElement(suite, "properties")
            for name, count in counts.items():
                ET.SubElement(properties, "property", name=name.value, value=str(count))

    def _problem(self, case: ET.Element, kind: str, text: str) -> None:
        ET.SubElement(case, kind, message=self._text(text.partition("\n")[0])).text = self._text(text)

    def _text(self, text: str) -> str:
        """Return `text` without what XML cannot hold."""
        return _ILLEGAL.sub("?", text)
