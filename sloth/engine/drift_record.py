"""The record of a look for drift: a run of the kind `drift`, with what was found as its results."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sloth.engine.kept_diffs import KeptDiffs
from sloth.engine.sessions import who
from sloth.errors import SlothError, Unreachable
from sloth.state.memory import Memory
from sloth.state.queries import Drift, DriftStatus
from sloth.state.run_records import RunCounts, RunHost, RunKind, RunResult

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Diff, JsonObject

Answers = Mapping[str, Sequence[Drift] | SlothError]  # by the agent's name
WORST = ("unreachable", "failed", "drift", "clean")  # of the accounts of a host
SITE = "drift"


class DriftRecord:
    """One look for drift, recorded in the controller's memory."""

    def __init__(self, memory: Memory, hosts: int, limit: str = "", inventory: Sequence[str] = ()) -> None:
        """Record that it begins; limit: the pattern that selects the hosts. Raises StateError."""
        self.run = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)
        self._runs = memory.runs
        self._started = time.time()
        about: JsonObject = {
            "command": [
                "drift",
                *(word for path in inventory for word in ("-i", path)),
                *(["-l", limit] * bool(limit)),
            ],
            "inventory": list(inventory),
            "limit": limit,
            "origin": socket.gethostname(),
        }
        self._runs.begin(self.run, SITE, who(), hosts, kind=RunKind.DRIFT, about=json.dumps(about))

    def end(self, answers: Answers, status: int) -> None:
        """Record what was found, and the exit status. Raises StateError."""
        seconds = time.time() - self._started
        results: list[RunResult] = []
        statuses: dict[str, str] = {}
        errors: dict[str, str] = {}
        counts: Counter[str] = Counter()
        diffs = KeptDiffs()
        for agent, answer in answers.items():
            host = agent.partition("@")[0]
            word, error = "clean", ""
            if isinstance(answer, SlothError):
                word, error = "unreachable" if isinstance(answer, Unreachable) else "failed", str(answer)
                results.append(RunResult(host, None, "", word, "", "", error, None, None, time.time()))
                counts[word] += 1
            else:
                if any(row.status is DriftStatus.DRIFT for row in answer):
                    word = "drift"
                for row in answer:
                    counts[row.status.value] += row.count if row.status is DriftStatus.CLEAN else 1
                    if row.status is not DriftStatus.CLEAN:
                        results.append(_result(host, row, diffs))
            statuses[host] = min(word, statuses.get(host, word), key=WORST.index)
            errors[host] = errors.get(host) or error
        found = RunCounts(
            changed=counts["drift"],
            unchanged=counts["clean"],
            failed=counts["failed"],
            unreachable=counts["unreachable"],
            unknown=counts["unknown"],
            frozen=counts["frozen"],
        )
        hosts = [RunHost(host, word, self._started, None, errors[host]) for host, word in statuses.items()]
        self._runs.end(self.run, counts=found, seconds=seconds, status=status, results=results, hosts=hosts)


def _result(host: str, row: Drift, diffs: KeptDiffs) -> RunResult:
    return RunResult(
        host=host,
        task=row.task or "",
        key=row.key,
        status=row.status.value,
        reason="drift" if row.status is DriftStatus.DRIFT else "",
        place=row.place or "",
        error=row.msg,
        diff=diffs.keep(before_after(row.diff)),
        at=time.time(),
    )


def before_after(diff: Diff) -> Diff:
    """Return the diff in the form of a run's: as applied is before, as found is after."""
    shown = {}
    for name, entry in diff.items():
        shown[name] = {"before": entry["applied"], "after": entry["found"]}
        if "unified" in entry:
            text = str(entry["unified"]).replace("--- before", "--- applied", 1)
            shown[name]["unified"] = text.replace("+++ after", "+++ found", 1)
    return shown
