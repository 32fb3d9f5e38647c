"""What follows a host's tasks: handlers that are owed, changes that are taken back, what the site no longer names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sloth.engine.events import CHANGED, FAILED, UNCHANGED, CallFinished, Log, OrphansFound, TaskFinished
from sloth.engine.rollback import undone
from sloth.playbook import Task
from sloth.transport import Session

if TYPE_CHECKING:
    from sloth.engine.run import Run

PRUNE = "(prune)"  # the task that removals of orphans belong to


class Aftermath:
    """Of one host. partial: something was not evaluated, so what was not named may still be wanted; spared: tasks and
    handlers of the site that had no reason to run."""

    def __init__(self, run: Run, host: str, sessions: Mapping[str, Session]) -> None:
        """sessions: by account, as they are opened."""
        self._run = run
        self._host = host
        self._sessions = sessions
        self.partial = False
        self.spared: set[str] = set()
        self._owed: set[str] = set()

    # Handlers

    async def owed(self) -> set[str]:
        """The handlers that a run which did not come to its end has left to us."""
        for session in self._sessions.values():
            ready = await session.ready
            if ready.get("aside"):
                self._warn(f"the state file was damaged; it is kept as {ready['aside']}, and what is there is adopted")
            self._owed.update(str(row.get("name")) for row in ready.get("handlers") or [])
        return self._owed

    async def settle(self, names: Iterable[str]) -> None:
        """These handlers need no longer run. (After a check they must: it ran none.)"""
        settled = sorted(names)
        if settled and not self._run.options.check:
            for session in self._sessions.values():
                await session.store("settle", {"site": self._run.site.identity, "names": settled})

    async def forget(self, known: set[str]) -> None:
        """Handlers that are owed and that the site no longer has cannot run."""
        for name in sorted(self._owed - known):
            self._warn(f"the handler {name} was still to run after an earlier run, and the site no longer has it")
        await self.settle(self._owed - known)

    def _warn(self, text: str) -> None:
        self._run.emit(Log(time.time(), self._host, "", "warn", text))

    # Taking back

    async def take_back(self, task: Task, notified: set[str]) -> bool:
        """Undo what a failed task has changed; return whether something could not be undone.

        notified: handlers that other tasks of this run want.
        """
        left = False
        for session in self._sessions.values():
            for row in await session.store("rollback", {"run": self._run.run_id, "task": task.name}):
                left = left or row.get("status") != "done"
                self._run.emit(CallFinished(time.time(), self._host, task.name, undone(row, "rollback")))
        if not left:
            await self.settle(set(task.notify) - notified - self._owed)
        return left

    # Orphans

    def whole(self) -> dict[str, Any] | None:
        """What Session.close() takes: given when all of the site was evaluated."""
        return None if self.partial or self._run.site.adhoc else {"spared": sorted(self.spared)}

    def tell(self, orphans: list[dict[str, Any]]) -> None:
        """Report what the site no longer names."""
        if orphans:
            self._run.emit(OrphansFound(time.time(), self._host, tuple(orphans)))

    async def prune(self) -> str | None:
        """Remove it, once all hosts know theirs and the user has agreed; return a status, None when nothing was."""
        whole = self.whole()
        found: dict[str, list[dict[str, Any]]] = {}
        if whole is not None:
            for account, session in self._sessions.items():
                found[account] = await session.store("orphans", whole)
        orphans = [row for rows in found.values() for row in rows]
        self.tell(orphans)
        async with self._run.pause():  # others may need our place to get here
            agreed = await self._run.pruning.agreed(self._host, orphans)
        if not agreed:
            return None
        begun = time.monotonic()
        status = UNCHANGED
        for account, rows in found.items():
            keys = [row["key"] for row in rows if row["status"] == "planned"]
            for row in await self._sessions[account].store("prune", {"keys": keys}) if keys else []:
                result = undone(row, "pruned")
                if status != FAILED and result.status in (CHANGED, FAILED):
                    status = result.status
                self._run.emit(CallFinished(time.time(), self._host, PRUNE, result))
        self._run.emit(TaskFinished(time.time(), self._host, PRUNE, status, time.monotonic() - begun))
        return status
