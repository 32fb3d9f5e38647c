"""One host's way through the site: its Lua program, its tasks and what follows them, from connecting to goodbye."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from sloth.engine.calls import Calls
from sloth.engine.context import RunContext
from sloth.engine.defect import defect
from sloth.engine.events import (
    CHANGED,
    FAILED,
    SKIPPED,
    UNCHANGED,
    UNKNOWN,
    UNREACHABLE,
    HostFinished,
    HostPhase,
    HostStarted,
    Log,
    Phase,
    PhaseKind,
)
from sloth.engine.handlers import PostTasks
from sloth.engine.interpreter import Interpreter
from sloth.engine.pending import Pending
from sloth.engine.programs import make_program
from sloth.engine.tasks import Tasks
from sloth.errors import ConnectionLost, HostError, SlothError, StalePlan, StateError, Unreachable
from sloth.inventory import Host
from sloth.payload.kernel.status import Status
from sloth.playbook import LogLevel, Task

GRACE = 6.0  # seconds that a host has to end what it does when the run is interrupted
END = 4.0  # seconds after that to release locks and close sessions
DISCONNECT = 2.0  # seconds to close the connections to a host


class HostRun:
    """Runs the site on one host. It never raises: what went wrong is in the events."""

    def __init__(self, context: RunContext, host: Host) -> None:
        self._context = context
        self._host = host
        self._calls = Calls(host.name, context.emit, context.options.check)
        self._interpreter = Interpreter(context, host, self._calls)
        self._post_tasks = PostTasks(context, host.name, self._interpreter.sessions.open, self._calls.delegates)
        self._tasks = Tasks(context, host.name, self._interpreter, self._calls, self._post_tasks)
        self._status: Status | None = None  # of the host itself; None: what its tasks make of it
        self._error: str | None = None
        self._interrupted = False
        self._seen: Pending | None = None
        self._reported: Pending | None = None

    async def run(self) -> None:
        """Run every task that this host has; emit HostFinished in the end, whatever happened."""
        begun = time.monotonic()
        self._context.emit(HostStarted(time.time(), self._host.name))
        try:
            await self._work()
        except asyncio.CancelledError:
            self._interrupted = True
            await self._calls.cancel(GRACE)
        except Exception as error:
            self._fail(error)
        try:
            await self._end()
        except asyncio.CancelledError:
            self._interrupted = True
            await self._end()
        await self._disconnect()
        self._context.emit(
            HostFinished(
                time.time(),
                self._host.name,
                self._status or _worst(self._tasks.statuses),
                time.monotonic() - begun,
                self._error or self._tasks.first_error,
            )
        )

    def abandon(self) -> None:
        """End every session at once: the user has interrupted the run again."""
        for session in self._interpreter.sessions.open.values():
            session.end_now(ConnectionLost(f"{self._host.name}: the run was interrupted"))

    def report_long_call(self) -> None:
        """Report the call that the host is busy with, once, if it was busy with it at the last time, too."""
        call = self._calls.current
        if call is not None and call is self._seen and call is not self._reported:
            self._reported = call
            phase = Phase(PhaseKind.WORKING, task=call.task, call=call.title)
            self._context.emit(HostPhase(time.time(), self._host.name, phase))
        self._seen = call

    def report_stop(self) -> None:
        """Report that the host ends what it does."""
        self._context.emit(HostPhase(time.time(), self._host.name, Phase(PhaseKind.STOPPING)))

    async def _end(self) -> None:
        """Release locks, prune, and close the sessions; after an interrupt within END seconds."""
        try:
            async with asyncio.timeout(END if self._interrupted else None):
                try:
                    await self._interpreter.locks.release_all()
                    await self._prune()
                except Exception as error:
                    self._fail(error)
                await self._close()
        except Exception as error:  # whatever the host sent last: the exit status must not improve because of it
            if not self._interrupted:
                self._fail(error)

    async def _disconnect(self) -> None:
        for session in self._interpreter.sessions.open.values():
            await session.abort()
        if self._context.delegates.uses(self._host):
            return  # other hosts make calls on it
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCONNECT):
                await self._context.sessions.disconnect(self._host)

    def _fail(self, error: Exception) -> None:
        """Take note of what ended the host; the first error counts."""
        if self._error is None:
            self._status = UNREACHABLE if isinstance(error, Unreachable) else FAILED
            if isinstance(error, StalePlan):
                self._context.refused.add(self._host.name)
            self._error = str(error) if isinstance(error, SlothError) else defect(error)

    async def _work(self) -> None:
        program = make_program(self._context, self._host, self._interpreter.variables.of_site())
        try:
            if self._context.saved is not None and not self._context.options.check:
                from sloth.engine.plans.compare import look_again  # no other run needs it

                self._post_tasks.partial = await look_again(self._context, self._host, self._interpreter, self._calls)
            await self._tasks.load(program)
            self._context.tags[self._host.name] = frozenset(tag for task in program.tasks for tag in task.tags)
            declared = self._context.plan(program.tasks)
            tasks = [task for task in self._from_start(declared) if self._concerns(task)]
            names = [task.name for task in tasks]
            self._context.barriers.loaded(self._host.name, names, [task.name for task in declared])
            await self._tasks.run_all(program, tasks)
            if self._context.options.resume is not None and program.handlers:
                for become in dict.fromkeys([None, *(task.become for task in tasks if task.notify)]):
                    await self._interpreter.sessions.get(become)  # handlers may be owed to tasks that are not run again
            await self._tasks.handlers.run_last(program)
            self._context.complete.add(self._host.name)
            if self._context.saved is not None and self._context.options.check:
                from sloth.engine.plans.compare import refuse_stale

                await refuse_stale(self._context, self._host, self._interpreter.sessions.open)
            if self._context.recorder is not None:
                self._context.recorder.evaluated(self._host.name, self._post_tasks.partial)
            options = self._context.options
            if (
                not self._interpreter.sessions.open
                and (options.check or options.prune)
                and not self._post_tasks.partial
            ):
                await self._interpreter.sessions.get(
                    None
                )  # a site that names nothing here any more may have left something
        finally:
            program.close()

    def _from_start(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Return the tasks from the first on that is to run here."""
        chosen = self._context.options.from_start(self._host.name, tasks)
        self._post_tasks.partial = self._post_tasks.partial or len(chosen) < len(tasks)
        self._post_tasks.spared.update(task.name for task in tasks[: len(tasks) - len(chosen)])
        return chosen

    def _concerns(self, task: Task) -> bool:
        """Return whether a task is to run on this host."""
        options = self._context.options
        self._post_tasks.partial = self._post_tasks.partial or bool(options.tags or options.skip_tags)
        if not options.selects(task.tags):
            self._post_tasks.spared.add(task.name)
            return False
        return not task.hosts or self._context.matches(task.hosts, self._host, task.where)

    async def _prune(self) -> None:
        has_lost = self._interpreter.has_lost_names or self._interrupted or self._error is not None
        self._post_tasks.partial = self._post_tasks.partial or has_lost
        if not self._context.options.prune or self._interrupted:
            return
        status = await self._post_tasks.prune()
        if status is not None:
            self._tasks.statuses.append(status)
        if status is FAILED:
            text = "not everything that the site no longer names could be removed"
            self._tasks.first_error = self._tasks.first_error or text

    async def _close(self) -> None:
        """Say goodbye to every session, and remember what it taught us."""
        for account, session in self._interpreter.sessions.open.items():
            try:
                replica, bye = await session.close(self._post_tasks.evaluation())
            except HostError as error:
                if not self._interrupted:
                    self._fail(error)
                await session.abort()
                continue
            if not self._context.options.prune:
                self._post_tasks.report(bye.orphans)
            shipped = self._interpreter.shipped
            try:
                await self._context.sessions.remember(
                    self._host, account, replica, session.replica_rows, shipped, lambda: self._interrupted
                )
            except StateError as problem:  # it is only a memory, and the next run asks the host again
                text = f"the controller cannot remember this run: {problem}"
                self._context.emit(Log(time.time(), self._host.name, "", LogLevel.WARN, text))


def _worst(statuses: list[Status]) -> Status:
    for status in (FAILED, UNKNOWN, CHANGED, UNCHANGED):
        if status in statuses:
            return status
    return SKIPPED
