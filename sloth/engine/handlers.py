"""What follows a host's tasks: pending handlers, changes that are taken back, what the site no longer names."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from sloth.engine.context import RunContext
from sloth.engine.events import CHANGED, FAILED, UNCHANGED, CallFinished, Log, OrphansFound, TaskFinished
from sloth.engine.rollback import rollback_result
from sloth.errors import ProtocolError
from sloth.payload.kernel.findings import Restored, RestoreStatus
from sloth.payload.kernel.status import Reason, Status
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.session.messages import Evaluation, recorded_site
from sloth.playbook import LogLevel, Task
from sloth.transport import Session
from sloth.transport.queries import read_answer

if TYPE_CHECKING:
    from sloth.engine.reverted import Reverted
    from sloth.payload.kernel.values import JsonObject

PRUNE = "(prune)"  # the task that removals of orphans belong to


class PostTasks:
    """The end of one host's run.

    partial: something was not evaluated, so what was not named may still be wanted; spared: tasks and handlers of the
    site that had no reason to run.
    """

    def __init__(
        self, context: RunContext, host: str, sessions: Mapping[str, Session], delegates: Mapping[Session, str]
    ) -> None:
        """sessions: by account, as they are opened; delegates: sessions with other hosts, as they are used, and
        the names of these.
        """
        self._context = context
        self._host = host
        self._sessions = sessions
        self._delegates = delegates
        self._settled: set[str] = set()
        self.partial = False
        self.spared: set[str] = set()
        self._pending: set[str] = set()
        self._reported: list[Reverted] = []  # of what earlier runs have left

    # Handlers

    def shown(self, name: str) -> str:
        """Return the name of a task or handler as hosts know it: without secrets."""
        return self._context.secrets.redact(name)

    async def pending(self) -> set[str]:
        """Return the handlers that a run which did not come to its end has left to us, by the names hosts know."""
        for session in self._sessions.values():
            ready = await session.ready
            if ready.set_aside:
                self._warn(f"the state file was damaged; it is kept as {ready.set_aside}, and what is there is adopted")
            self._pending.update(ready.handlers)
            if ready.reverted:
                from sloth.engine.reverted import Reverted  # rarely needed

                for report in read_answer(self._host, "reverted", ready.reverted, Reverted.read):
                    self._report_earlier(report)
        for session, site in self._states():
            if site != self._context.identity:
                rows = await session.query("handlers", {"site": site})
                self._pending.update(str(row.get("name")) for row in rows)
        return self._pending - self._settled

    def _states(self) -> Iterator[tuple[Session, str]]:
        """Yield the sessions that this host has used, and the name of the site under which each records for it."""
        site = self._context.identity
        for session in self._sessions.values():
            yield session, site
        for session in self._delegates:
            if session.end is None:  # what a lost one has noted, the next run gets from its host
                yield session, recorded_site(site, self._host)

    def _report_earlier(self, report: Reverted) -> None:
        """Report, once, what the host has taken back by itself after an earlier run."""
        if report.run == self._context.run_id or report in self._reported:
            return
        self._reported.append(report)
        restored = [self._restored(row) for row in report.rows]
        keys = ", ".join(one.key for one in restored)
        what = f"took back what task {report.task} of run {report.run} had changed ({report.why}): {keys}"
        failed = [one for one in restored if one.status is not RestoreStatus.DONE]
        problems = [f"{one.key}: {one.msg}" for one in failed] + ([report.error] if report.error else [])
        self._warn(f"the host {what}" + (f"; not taken back: {'; '.join(problems)}" if problems else ""))

    async def settle(self, names: Iterable[str]) -> None:
        """Let the hosts forget handlers that need no longer run. (After a check they must: it ran none.)"""
        settled = sorted({self.shown(name) for name in names})
        self._settled.update(settled)
        if settled and not self._context.options.check:
            for session, site in self._states():
                await session.query("settle", {"site": site, "names": settled})

    async def withdraw(self, names: set[str], notified: set[str]) -> None:
        """Let the hosts forget handlers of changes that are none, as the site has decided; notified: by others."""
        wanted = {self.shown(name) for name in notified} | (self._pending - self._settled)
        await self.settle({self.shown(name) for name in names} - wanted)

    async def forget(self, known: set[str]) -> None:
        """Report pending handlers that the site no longer has: they cannot run."""
        left = self._pending - self._settled - {self.shown(name) for name in known}
        for name in sorted(left):
            self._warn(f"the handler {name} was still to run after an earlier run, and the site no longer has it")
        await self.settle(left)

    def _warn(self, text: str) -> None:
        self._context.emit(Log(time.time(), self._host, "", LogLevel.WARN, text))

    # Taking back

    async def take_back(self, task: Task, names: set[str], notified: set[str]) -> bool:
        """Undo what a failed task has changed; return whether something could not be undone.

        names: handlers that the task and its calls notify; notified: those that other tasks of this run want.
        """
        left = False
        for session, site in self._states():
            which = {"run": self._context.run_id, "task": self.shown(task.name), "site": site}
            rows = await session.query("rollback", which)
            left = self.report_restored(task, rows, Reason.ROLLBACK, self._delegates.get(session, "")) or left
        if not left:
            wanted = {self.shown(name) for name in notified} | self._pending
            await self.settle({self.shown(name) for name in names} - wanted)
        return left

    def report_restored(self, task: Task, rows: Iterable[JsonObject], reason: Reason, delegate: str = "") -> bool:
        """Report what became of taking changes back; return whether something could not be.

        delegate: the other host on which they were made.
        """
        left = False
        for row in rows:
            restored = self._restored(row)
            left = left or restored.status is not RestoreStatus.DONE
            result = dataclasses.replace(rollback_result(restored, reason), delegated_to=delegate)
            self._context.emit(CallFinished(time.time(), self._host, task.name, result))
        return left

    def _restored(self, row: JsonObject) -> Restored:
        try:
            return Restored.read(row)
        except InvalidValue as error:
            raise ProtocolError(f"{self._host} sent an invalid answer: {error.message}") from error

    # Orphans

    def evaluation(self) -> Evaluation | None:
        """Return what Session.close() takes: given when all of the site was evaluated."""
        if self.partial or self._context.site.adhoc:
            return None
        return Evaluation(spared=sorted({self.shown(name) for name in self.spared}))

    def report(self, orphans: Iterable[Restored]) -> None:
        """Report what the site no longer names."""
        found = tuple(orphans)
        if found:
            self._context.emit(OrphansFound(time.time(), self._host, found))

    async def prune(self) -> Status | None:
        """Remove it, once all hosts know theirs and the user has agreed; return a status, None when nothing was."""
        evaluation = self.evaluation()
        found: dict[str, list[Restored]] = {}
        if evaluation is not None:
            for account, session in self._sessions.items():
                rows = await session.query("orphans", evaluation.plain())
                found[account] = [self._restored(row) for row in rows]
        orphans = [orphan for rows in found.values() for orphan in rows]
        self.report(orphans)
        async with self._context.pause():  # others may need our slot to get here
            agreed = await self._context.pruning.agreed(self._host, orphans)
        if not agreed:
            return None
        begun = time.monotonic()
        status = UNCHANGED
        for account, planned in found.items():
            keys = [orphan.key for orphan in planned if orphan.status is RestoreStatus.PLANNED]
            for row in await self._sessions[account].query("prune", {"keys": keys}) if keys else []:
                result = rollback_result(self._restored(row), Reason.PRUNED)
                if status is not FAILED and result.status in (CHANGED, FAILED):
                    status = result.status
                self._context.emit(CallFinished(time.time(), self._host, PRUNE, result))
        self._context.emit(TaskFinished(time.time(), self._host, PRUNE, status, time.monotonic() - begun))
        return status
