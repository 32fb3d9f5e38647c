"""What one command printed on many hosts: hosts that answer the same stand together, the exceptions last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

from sloth.engine.events import CallFinished, CallOutput, Event, HostFinished, RunFinished, RunStarted
from sloth.report.text import fold_names, neutral, with_host, without_host

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject


class Grouped:
    """Text: a heading for every group of hosts with the same output and end, then that output."""

    def __init__(self, out: TextIO, aside: TextIO) -> None:
        self._out = out
        self._aside = aside
        self._output: dict[str, list[tuple[str, str]]] = {}
        self._results: dict[str, CallFinished] = {}
        self._hosts: dict[str, HostFinished] = {}
        self._total = 0
        self._interrupted = False

    def emit(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._total = len(event.hosts)
            case CallOutput():
                self._output.setdefault(event.host, []).append((event.stream, event.data))
            case CallFinished():
                self._results[event.host] = event
            case HostFinished():
                self._hosts[event.host] = event
                self._progress()
            case RunFinished():
                self._interrupted = event.interrupted
                self._progress(last=True)
                self.show()

    def close(self) -> None:
        """Everything was shown when the run ended."""

    def _progress(self, last: bool = False) -> None:
        if self._total > 1 and self._aside.isatty():
            text = "" if last else f"{len(self._hosts)} of {self._total} hosts"
            self._aside.write(f"\r\x1b[K{text}")
            self._aside.flush()

    def answer(self, host: str) -> JsonObject:
        """What became of it on `host`: status, exit_code (int or None), stdout, stderr, error (str or None)."""
        call = self._results.get(host)
        ended = self._hosts.get(host)
        error = (call.result.error if call else "") or (ended.error if ended else None) or None
        pieces = self._output.get(host, [])
        return {
            "status": call.result.status if call else ended.status if ended else "skipped",
            "exit_code": _exit_code(call),
            "stdout": "".join(data for stream, data in pieces if stream == "stdout"),
            "stderr": "".join(data for stream, data in pieces if stream == "stderr"),
            "error": error,
        }

    def show(self) -> None:
        groups: dict[tuple[str, str], list[str]] = {}
        for host, ended in self._hosts.items():
            text = "".join(data for _, data in self._output.get(host, []))
            answer = self.answer(host)
            end = "" if answer["error"] is None else without_host(str(answer["error"]), host)
            if answer["exit_code"] not in (None, 0):
                end = f"exit code {answer['exit_code']}"
            groups.setdefault((end or ended.error or "", text), []).append(host)
        for (end, text), names in sorted(groups.items(), key=lambda item: (bool(item[0][0]), -len(item[1]))):
            count = f" ({len(names)})" if len(names) > 2 else ""
            said = ": " + with_host(end, names) if end else ""
            self._out.write(f"── {fold_names(names)}{count}{neutral(said)}\n")
            for line in text.split("\n")[: -1 if text.endswith("\n") or not text else None]:
                self._out.write(neutral(line.rstrip("\r")) + "\n")
        if self._interrupted:
            self._out.write("interrupted\n")
        self._out.flush()


class GroupedDocument(Grouped):
    """One JSON document: host -> its answer."""

    def show(self) -> None:
        json.dump({host: self.answer(host) for host in self._hosts}, self._out, indent=2, ensure_ascii=True)
        self._out.write("\n")


def _exit_code(call: CallFinished | None) -> int | None:
    if call is None:
        return None
    code = call.result.values.get("exit_code")
    if isinstance(code, int):
        return code
    word, _, number = call.result.error.rpartition("exit code ")
    return int(number) if word and number.isdigit() else None


__all__ = ["Grouped", "GroupedDocument"]
