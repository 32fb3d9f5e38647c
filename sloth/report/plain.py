"""The report for people: what changed or failed, one line for many hosts where they are alike, and a short recap."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, TextIO

from sloth.engine.events import (
    CHANGED,
    FAILED,
    FROZEN,
    SKIPPED,
    UNCHANGED,
    UNKNOWN,
    UNREACHABLE,
    CallFinished,
    CallOutput,
    Event,
    Handled,
    HostFinished,
    Log,
    OrphansFound,
    Result,
    RunFinished,
    RunStarted,
    TaskFinished,
)
from sloth.payload.kernel.findings import RestoreStatus
from sloth.payload.kernel.status import Reason, Status
from sloth.report.folding import Folding
from sloth.report.handled import HandledFailures
from sloth.report.sentences import recap_sentence, task_reason
from sloth.report.text import diff_lines, fold_names, hosts, neutral

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Diff

DETAIL = 12  # lines of a failed call's output that are shown
COLOURS = {
    CHANGED: "yellow",
    FAILED: "red",
    UNREACHABLE: "red",
    UNKNOWN: "magenta",
    SKIPPED: "cyan",
    UNCHANGED: "green",
    FROZEN: "cyan",
}


class Plain:
    """Writes lines without colour. A subclass can write them in another way."""

    def __init__(self, out: TextIO, *, diff: bool, verbosity: int) -> None:
        self._out = out
        self._diff = diff
        self._verbosity = verbosity
        self._check = False
        self._folded: dict[tuple[str, ...], tuple[Result, bool, list[str]]] = {}
        self._partial: dict[tuple[str, str], str] = {}
        self._ended: dict[str, HostFinished] = {}
        self._changed: dict[str, int] = {}
        self._failed: dict[str, str] = {}
        self._dead = False
        self._shown_error = ""
        self._failures: Folding[tuple[str, ...]] = Folding()
        self._handled = HandledFailures()
        self._printing: set[str] = set()  # hosts whose present call has printed something that was shown
        self._orphans: dict[tuple[str, RestoreStatus, str], list[str]] = {}
        self._pruned = False

    def line(self, text: str, style: str = "") -> None:
        """Write one line."""
        self.write(neutral(text).replace("\\x0d", "") + "\n")

    def write(self, text: str) -> None:
        if self._dead:
            return
        try:
            self._out.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
            self._out.flush()
        except BrokenPipeError:  # whoever read us has gone; the run goes on
            self._dead = True

    def emit(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._check = event.check
                if self._verbosity and event.inventory:
                    self.line(f"inventory: {', '.join(event.inventory)}", "dim")
            case CallFinished():
                self._call(event.host, event.task, event.result)
                self._printing.discard(event.host)
            case CallOutput():
                self._output(event)
            case Log():
                if event.level != "debug" or self._verbosity:
                    level = "" if event.level == "print" else f"{event.level}: "
                    style = {"warn": "yellow", "error": "red", "debug": "dim"}.get(event.level, "")
                    for text in event.text.split("\n"):
                        self.line(f"{event.host}: {level}{text}" if event.host else f"{level}{text}", style)
            case TaskFinished():
                self._task(event)
            case OrphansFound():
                for orphan in event.orphans:
                    what = (orphan.key, orphan.status, orphan.msg)
                    self._orphans.setdefault(what, []).append(event.host)
            case HostFinished():
                self._ended[event.host] = event
                if event.status == UNREACHABLE:
                    self._failed.setdefault(event.host, event.error or "unreachable")
                elif event.status == FAILED:
                    self._failed.setdefault(event.host, event.error or "failed")
            case RunFinished():
                self._flush()
                self._recap(event)

    def close(self) -> None:
        for (host, _), text in self._partial.items():
            if text:
                self.line(f"{host} | {text}", "dim")
        self._partial.clear()
        self._flush()

    # Lines

    def _call(self, host: str, task: str, result: Result) -> None:
        self._pruned = self._pruned or result.reason is Reason.PRUNED
        if result.status == CHANGED:
            self._changed[host] = self._changed.get(host, 0) + 1
        for warning in result.warnings:
            self._fold(host, task, dataclasses.replace(result, msg=warning, reason=Reason.NONE), is_warning=True)
        if result.status == FAILED and result.handled:
            self._handled.add(result.handled, f"{result.module} {result.subject}".rstrip(), host, result.error)
        elif result.status == FAILED:
            self._failed.setdefault(host, result.error)
            if host in self._printing:
                result = dataclasses.replace(result, detail="")  # it has been shown as it came
            text = "\n".join([result.error, *_tail(result)])
            if self._failures.add((task, result.module, result.subject), host, text):
                self._show(result, [host])  # those of other hosts are alike: the recap names them
        elif result.status in (CHANGED, UNKNOWN, FROZEN) or self._verbosity:
            self._fold(host, task, result)

    def _fold(self, host: str, task: str, result: Result, is_warning: bool = False) -> None:
        """Keep a result until others that read the same have come."""
        diff = json.dumps(result.diff, sort_keys=True) if self._diff else ""
        key = (
            "warning" if is_warning else "",
            task,
            result.module,
            result.subject or result.key,
            result.delegated_to,
            result.where,
            result.status,
            result.reason,
            result.msg,
            diff,
        )
        self._folded.setdefault(key, (result, is_warning, []))[2].append(host)

    def _flush(self) -> None:
        folded, self._folded = self._folded, {}
        for result, is_warning, names in folded.values():
            self._show(result, names, is_warning)
        for handled, what, text, names in self._handled.take():
            self.line(f"{handled:<9}  {what}  {hosts(names)}", "cyan")
            self.line(f"           {text}", "dim")

    def _show(self, result: Result, names: list[str], is_warning: bool = False) -> None:
        subject = result.subject or result.key.split(":", 2)[-1]
        why = f" ({result.reason})" if result.reason else ""
        if result.delegated_to:
            why = f" on {result.delegated_to}{why}"
        said = f": {result.msg}" if result.msg and (is_warning or result.status is not FAILED) else ""
        word = "would change" if self._check and result.status is CHANGED else result.status.value
        style = COLOURS[result.status]
        if is_warning:
            word, style = "warning", "yellow"
        more = f"  [{result.where}, {result.seconds:.3f} s]" if self._verbosity > 1 else ""
        self.line(f"{word:<9}  {result.module} {subject}{why}{said}  {hosts(names)}{more}", style)
        if result.status is FAILED and not is_warning:
            self._shown_error = result.error
            self.line(f"           {result.error}", "red")
            for text in _tail(result):
                self.line(f"           | {text}", "dim")
        if self._diff and result.diff and result.status is CHANGED and not is_warning:
            self._show_diff(result.diff)

    def _show_diff(self, diff: Diff) -> None:
        for text, style in diff_lines(diff):
            self.line(f"    {text}", style)

    def _output(self, event: CallOutput) -> None:
        if not self._verbosity:
            return
        key = (event.host, event.stream)
        *lines, rest = (self._partial.get(key, "") + event.data).split("\n")
        self._partial[key] = rest
        self._printing.add(event.host)
        for text in lines:
            self.line(f"{event.host} | {text}", "dim")

    def _task(self, event: TaskFinished) -> None:
        if event.status == FAILED:
            self._task_failed(event)
        elif event.status == UNKNOWN:
            self.line(f"unknown    task {event.task}  {event.host}: {task_reason(event)}", "magenta")
        elif event.skip is not None and (self._verbosity or event.skip.is_failure):
            self.line(f"skipped    task {event.task}  {event.host}: {task_reason(event)}", "cyan")

    def _task_failed(self, event: TaskFinished) -> None:
        """Show the failure of a task, unless it is that of a call, which has been shown."""
        error = event.error or ""
        if event.ignored:
            self._handled.add(Handled.IGNORED, f"task {event.task}", event.host, error)
        elif error and self._failed.get(event.host) != error:
            self._failed.setdefault(event.host, error)
            if self._failures.add((event.task,), event.host, error):
                self.line(f"failed     task {event.task}  {event.host}", "red")
                self._shown_error = error
                self.line(f"           {error}", "red")

    # The end

    def _show_orphans(self) -> None:
        """Show what the site no longer names, and what can be done about it."""
        for (key, status, msg), names in self._orphans.items():
            if self._pruned and status is RestoreStatus.PLANNED:
                continue
            why = "the site no longer names it" + (f"; {msg}" if status is RestoreStatus.REFUSED else "")
            self.line(f"orphaned   {key}: {why}  {hosts(names)}", "magenta")
        if not self._pruned and any(status is RestoreStatus.PLANNED for _, status, _ in self._orphans):
            self.line("           run --prune removes what can be removed", "dim")

    def _recap(self, event: RunFinished) -> None:
        self._show_orphans()
        failures: Folding[Status] = Folding()
        for host, ended in self._ended.items():
            if ended.status in (UNREACHABLE, FAILED):
                failures.add(ended.status, host, self._failed.get(host, ""))
        is_alone = len(self._ended) == 1
        for status, text, names in failures.groups():
            if is_alone and status is FAILED and text == self._shown_error:
                continue  # it is just above
            self.line(f"{status.value:<11}  {hosts(names)}: {text}", "red")
        changed_hosts = sum(ended.status == CHANGED for ended in self._ended.values())
        on = f" on {changed_hosts} of them" if len(self._ended) > 1 and changed_hosts else ""
        word = "would change" if self._check else "changed"
        self.line(recap_sentence(event, word + on), "bold")


def _tail(result: Result) -> list[str]:
    """Return the last lines that a failed call has printed."""
    return result.detail.splitlines()[-DETAIL:]


__all__ = ["COLOURS", "Plain", "fold_names"]
