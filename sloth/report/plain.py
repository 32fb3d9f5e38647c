"""The report for people: changed and failed only, the same on many hosts in one line, a recap that stays short."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TextIO

from sloth.engine.events import (
    CHANGED,
    FAILED,
    SKIPPED,
    UNCHANGED,
    UNKNOWN,
    UNREACHABLE,
    CallFinished,
    CallOutput,
    Event,
    HostFinished,
    Log,
    OrphansFound,
    Result,
    RunFinished,
    RunStarted,
    TaskFinished,
)
from sloth.report.text import diff_lines, fold_names, hosts, neutral

DETAIL = 12  # lines of a failed call's output that are shown
COLOURS = {
    CHANGED: "yellow",
    FAILED: "red",
    UNREACHABLE: "red",
    UNKNOWN: "magenta",
    SKIPPED: "cyan",
    UNCHANGED: "green",
}


class Plain:
    """Plain lines, without colour. Subclasses write a line their own way."""

    def __init__(self, out: TextIO, *, diff: bool, verbosity: int, mask: Callable[[str], str]) -> None:
        self._out = out
        self._diff = diff
        self._verbosity = verbosity
        self._mask = mask
        self._check = False
        self._folded: dict[tuple[str, ...], tuple[Result, list[str]]] = {}
        self._partial: dict[tuple[str, str], str] = {}
        self._ended: dict[str, HostFinished] = {}
        self._changed: dict[str, int] = {}
        self._failed: dict[str, str] = {}
        self._dead = False
        self._shown_error = ""
        self._orphans: dict[tuple[str, str, str], list[str]] = {}
        self._pruned = False

    def line(self, text: str, style: str = "") -> None:
        """Write one line."""
        self.write(neutral(self._mask(text)).replace("\\x0d", "") + "\n")

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
            case CallFinished():
                self._call(event.host, event.task, event.result)
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
                    what = (orphan["key"], orphan["status"], orphan["msg"])
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
        self._pruned = self._pruned or result.reason == "pruned"
        if result.status == CHANGED:
            self._changed[host] = self._changed.get(host, 0) + 1
        for warning in result.warnings:
            shown = Result(
                result.key, result.module, "warning", msg=warning, subject=result.subject, where=result.where
            )
            self._fold(host, task, shown)
        if result.status == FAILED:
            self._failed.setdefault(host, result.error)
            self._show(result, [host])
        elif result.status == CHANGED or self._verbosity:
            self._fold(host, task, result)

    def _fold(self, host: str, task: str, result: Result) -> None:
        diff = json.dumps(result.diff, sort_keys=True) if self._diff else ""
        key = (
            task,
            result.module,
            result.subject or result.key,
            result.where,
            result.status,
            result.reason,
            result.msg,
            diff,
        )
        self._folded.setdefault(key, (result, []))[1].append(host)

    def _flush(self) -> None:
        folded, self._folded = self._folded, {}
        for result, names in folded.values():
            self._show(result, names)

    def _show(self, result: Result, names: list[str]) -> None:
        subject = result.subject or result.key.split(":", 2)[-1]
        why = f" ({result.reason})" if result.reason else ""
        said = f": {result.msg}" if result.msg and result.status != FAILED else ""
        word = "would change" if self._check and result.status == CHANGED else result.status
        more = f"  [{result.where}, {result.seconds:.3f} s]" if self._verbosity > 1 else ""
        style = COLOURS.get(result.status, "yellow")
        self.line(f"{word:<9}  {result.module} {subject}{why}{said}  {hosts(names)}{more}", style)
        if result.status == FAILED:
            self._shown_error = result.error
            self.line(f"           {result.error}", "red")
            for text in result.detail.splitlines()[-DETAIL:]:
                self.line(f"           | {text}", "dim")
        if self._diff and result.diff and result.status == CHANGED:
            self._show_diff(result.diff)

    def _show_diff(self, diff: dict[str, Any]) -> None:
        for text, style in diff_lines(diff):
            self.line(f"    {text}", style)

    def _output(self, event: CallOutput) -> None:
        key = (event.host, event.stream)
        *lines, rest = (self._partial.get(key, "") + event.data).split("\n")
        self._partial[key] = rest
        for text in lines:
            self.line(f"{event.host} | {text}", "dim")

    def _task(self, event: TaskFinished) -> None:
        if event.status == FAILED:
            known = self._failed.get(event.host)
            if event.error and known != event.error:
                self._failed.setdefault(event.host, event.error)
                self.line(f"failed     task {event.task}  {event.host}", "red")
                self._shown_error = event.error
                self.line(f"           {event.error}", "red")
            if event.ignored:
                self._failed.pop(event.host, None)
        elif event.status == UNKNOWN:
            self.line(f"unknown    task {event.task}  {event.host}: {event.reason}", "magenta")
        elif event.status == SKIPPED and (self._verbosity or event.reason.startswith(("depends", "stopped"))):
            self.line(f"skipped    task {event.task}  {event.host}: {event.reason}", "cyan")

    # The end

    def _show_orphans(self) -> None:
        """What the site no longer names, and what could be done about it."""
        for (key, status, msg), names in self._orphans.items():
            if self._pruned and status == "planned":
                continue
            why = "the site no longer names it" + (f"; {msg}" if status == "refused" else "")
            self.line(f"orphaned   {key}: {why}  {hosts(names)}", "magenta")
        if not self._pruned and any(status == "planned" for _, status, _ in self._orphans):
            self.line("           run --prune removes what can be removed", "dim")

    def _recap(self, event: RunFinished) -> None:
        self._show_orphans()
        groups: dict[tuple[str, str], list[str]] = {}
        for host, ended in self._ended.items():
            if ended.status in (UNREACHABLE, FAILED):
                text = self._failed.get(host, "").replace(host, "HOST")
                groups.setdefault((ended.status, text), []).append(host)
        alone = len(self._ended) == 1  # its failure stands just above
        for (status, text), names in groups.items():
            if alone and status == FAILED and text == self._shown_error.replace(names[0], "HOST"):
                continue
            shown = text.replace("HOST", names[0] if len(names) == 1 else "the host")
            self.line(f"{status:<11}  {hosts(names)}: {shown}", "red")
        counts = event.summary
        word = "would change" if self._check else "changed"
        changed_hosts = sum(ended.status == CHANGED for ended in self._ended.values())
        on = f" on {changed_hosts} of them" if len(self._ended) > 1 and changed_hosts else ""
        parts = [f"{counts.get(CHANGED, 0)} {word}{on}", f"{counts.get(UNCHANGED, 0)} unchanged"]
        parts += [f"{counts[name]} {name}" for name in (FAILED, UNKNOWN, SKIPPED, UNREACHABLE) if counts.get(name)]
        broken = sum(ended.status == FAILED for ended in self._ended.values())
        if broken and not counts.get(FAILED):
            parts.append(f"{broken} host{'s' * (broken != 1)} failed")
        count = counts["hosts"]
        end = "interrupted: " if event.interrupted else ""
        self.line(f"{end}{count} host{'s' * (count != 1)}: {', '.join(parts)} in {event.seconds:.1f} s", "bold")


__all__ = ["COLOURS", "Plain", "fold_names"]
