"""A look for drift on hosts, recorded as a run of its own: what was found stays to be seen in the web UI."""

from __future__ import annotations

import dataclasses
import json
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sloth.engine.kept_diffs import KeptDiffs
from sloth.engine.query import Agent, Query
from sloth.errors import SlothError, StateError, Unreachable
from sloth.state import queries
from sloth.state.author import who
from sloth.state.memory import Memory
from sloth.state.queries import Drift, DriftStatus
from sloth.state.run_records import RunCounts, RunHost, RunKind, RunResult

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Diff, JsonObject

Answers = Mapping[str, list[Drift] | SlothError]  # by the agent's name
# Ends of hosts; of several accounts of a host the first one counts.
UNREACHABLE = "unreachable"
FAILED = "failed"
DRIFT = "drift"
CLEAN = "clean"
_WORST = (UNREACHABLE, FAILED, DRIFT, CLEAN)


def applied_and_found(diff: Diff) -> Diff:
    """Return a diff in the form of a run's: as applied is before, as found is after."""
    shown = {}
    for name, entry in diff.items():
        shown[name] = {"before": entry["applied"], "after": entry["found"]}
        if "unified" in entry:
            text = str(entry["unified"]).replace("--- before", "--- applied", 1)
            shown[name]["unified"] = text.replace("+++ after", "+++ found", 1)
    return shown


async def look_for_drift(
    agents: Sequence[Agent], query: Query, about: JsonObject, by: str = "", run: str = ""
) -> Answers:
    """Look for drift on agents, and record it; return the answers by the agent's name.

    about: how it was called, see engine/recording.py; by: who wants to know, when that is not the user of this process;
    run: the id under which it is recorded, "" for a new one.
    That it cannot be recorded is a warning.
    """
    memory = query.storage.memory()
    try:
        record = _Record(memory, agents, query, run)
        record.begin({"origin": socket.gethostname(), **about}, by or who())
        answers = await query.states(agents, queries.find_drift(), record.add)
        record.end()
        return answers
    finally:
        memory.close()


class _Record:
    """Writes a drift run to the controller's memory while hosts answer."""

    def __init__(self, memory: Memory, agents: Sequence[Agent], query: Query, run: str) -> None:
        self.run = run or time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)
        self._memory = memory
        self._hosts = {agent.name: agent.host.name for agent in agents}
        self._left = {host: [name for name, of in self._hosts.items() if of == host] for host in self._hosts.values()}
        self._statuses: dict[str, list[tuple[str, str]]] = {}
        self._query = query
        self._is_recorded = True
        self._begun = time.time()
        self._diffs = KeptDiffs()
        self._counts = RunCounts()

    def begin(self, about: JsonObject, by: str) -> None:
        def write() -> None:
            self._memory.runs.begin(self.run, "drift", by, len(self._left), kind=RunKind.DRIFT, about=json.dumps(about))

        self._try(write)

    def add(self, agent: str, answer: list[Drift] | SlothError) -> None:
        """Record what one agent has answered."""
        host = self._hosts[agent]
        account = agent.partition("@")[2]
        rows = [] if isinstance(answer, SlothError) else [self._result(host, account, row) for row in answer]
        results = [row for row in rows if row is not None]
        error = str(answer) if isinstance(answer, SlothError) else ""
        status = _status(answer)
        if error:
            results.append(RunResult(host, None, "", status, "", "", error, None, None, time.time()))
        self._count(answer, status)
        self._statuses.setdefault(host, []).append((status, error))
        self._left[host].remove(agent)
        hosts = [] if self._left[host] else [self._end(host)]
        self._try(lambda: self._memory.runs.add(self.run, results=results, hosts=hosts))

    def end(self) -> None:
        """Record that all have answered."""
        statuses = [status for found in self._statuses.values() for status, _ in found]
        status = 1 if FAILED in statuses else 4 if UNREACHABLE in statuses else 0
        seconds = time.time() - self._begun
        self._try(lambda: self._memory.runs.end(self.run, counts=self._counts, seconds=seconds, status=status))

    def _end(self, host: str) -> RunHost:
        status, error = min(self._statuses[host], key=lambda one: _WORST.index(one[0]))
        return RunHost(host, status, self._begun, time.time() - self._begun, error)

    def _count(self, answer: list[Drift] | SlothError, status: str) -> None:
        words = [] if isinstance(answer, SlothError) else [row.status for row in answer]
        clean = 0 if isinstance(answer, SlothError) else sum(row.count for row in answer)
        self._counts = dataclasses.replace(
            self._counts,
            changed=self._counts.changed + words.count(DriftStatus.DRIFT),
            unchanged=self._counts.unchanged + clean,
            unknown=self._counts.unknown + words.count(DriftStatus.UNKNOWN),
            frozen=self._counts.frozen + words.count(DriftStatus.FROZEN),
            failed=self._counts.failed + (status == FAILED),
            unreachable=self._counts.unreachable + (status == UNREACHABLE),
        )

    def _result(self, host: str, account: str, row: Drift) -> RunResult | None:
        if row.status is DriftStatus.CLEAN:
            return None
        place = row.place or row.site or ""
        text = f"as {account}: {row.msg}" if account else row.msg
        diff = self._diffs.keep(applied_and_found(row.diff))
        return RunResult(host, row.task, row.key, row.status.value, "", place, text, diff, None, time.time())

    def _try(self, write: Callable[[], None]) -> None:
        if not self._is_recorded:
            return
        try:
            write()
        except StateError as error:
            self._is_recorded = False
            self._query.warn(f"the controller cannot record this look for drift: {error}")


def _status(answer: list[Drift] | SlothError) -> str:
    if isinstance(answer, SlothError):
        return UNREACHABLE if isinstance(answer, Unreachable) else FAILED
    return DRIFT if any(row.status is DriftStatus.DRIFT for row in answer) else CLEAN
