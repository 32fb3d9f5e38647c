"""Reports what one command printed on many hosts: hosts with the same output together, failures last."""

from __future__ import annotations

import dataclasses
import json
from typing import TextIO

from sloth.engine.events import CallFinished, CallOutput, Event, HostFinished, RunFinished, RunStarted
from sloth.frozen import frozen
from sloth.payload.kernel.status import Status
from sloth.report.folding import Folding
from sloth.report.text import fold_names, neutral


@frozen
class _Answer:
    """What the command did on one host. exit_code: None where it did not run to its end; error: None for success."""

    status: Status
    exit_code: int | None
    stdout: str
    stderr: str
    error: str | None


class Grouped:
    """Writes a heading for every group of hosts with the same output and end, then that output."""

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
        """Do nothing: everything was written when the run ended."""

    def _progress(self, last: bool = False) -> None:
        if self._total > 1 and self._aside.isatty():
            text = "" if last else f"{len(self._hosts)} of {self._total} hosts"
            self._aside.write(f"\r\x1b[K{text}")
            self._aside.flush()

    def _answer(self, host: str) -> _Answer:
        call = self._results.get(host)
        ended = self._hosts[host]
        pieces = self._output.get(host, [])
        exit_code = call.result.values.get("exit_code") if call else None
        return _Answer(
            status=call.result.status if call else ended.status,
            exit_code=exit_code if isinstance(exit_code, int) else None,
            stdout="".join(data for stream, data in pieces if stream == "stdout"),
            stderr="".join(data for stream, data in pieces if stream == "stderr"),
            error=(call.result.error if call else "") or ended.error or None,
        )

    def show(self) -> None:
        """Write everything; called at the end."""
        folding: Folding[str] = Folding()
        for host in self._hosts:
            output = "".join(data for _, data in self._output.get(host, []))
            answer = self._answer(host)
            failed = answer.exit_code not in (None, 0)
            folding.add(output, host, f"exit code {answer.exit_code}" if failed else answer.error or "")
        for output, end, names in sorted(folding.groups(), key=lambda group: (bool(group[1]), -len(group[2]))):
            count = f" ({len(names)})" if len(names) > 2 else ""
            why = f": {end}" if end else ""
            self._out.write(f"── {fold_names(names)}{count}{neutral(why)}\n")
            for line in output.split("\n")[: -1 if output.endswith("\n") or not output else None]:
                self._out.write(neutral(line.rstrip("\r")) + "\n")
        if self._interrupted:
            self._out.write("interrupted\n")
        self._out.flush()


class GroupedDocument(Grouped):
    """Writes one JSON document: an object of answers by host."""

    def show(self) -> None:
        """Write everything; called at the end."""
        answers = {host: dataclasses.asdict(self._answer(host)) for host in self._hosts}
        json.dump(answers, self._out, indent=2, ensure_ascii=True)
        self._out.write("\n")
