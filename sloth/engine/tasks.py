"""Runs one host's tasks and handlers: their turn, their attempts, their timeouts, and how they end."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable
from functools import partial

from sloth.engine.calls import Calls, UnknownResult
from sloth.engine.context import RunContext
from sloth.engine.events import (
    CHANGED,
    FAILED,
    SKIPPED,
    UNCHANGED,
    UNKNOWN,
    Handled,
    HostPhase,
    Log,
    Phase,
    PhaseKind,
    Skip,
    SkipKind,
    TaskFinished,
    TaskStarted,
)
from sloth.engine.handlers import PostTasks
from sloth.engine.interpreter import SITE, Interpreter, Work
from sloth.errors import AuthError, CallError, HostKeyError, SiteError, SlothError, Unreachable
from sloth.payload.kernel.status import Status
from sloth.playbook import Done, Error, Hook, LogLevel, OnFailure, Program, Request, Task

GRACE = 4.0  # seconds that a cancelled call has to answer: the payload kills a command after 3


class Stop(Exception):
    """No further task runs on this host."""


class Tasks:
    """The tasks of one host, and what became of them.

    statuses: of tasks, as they end; first_error: of the first task that failed; notified: handlers that must follow.
    """

    def __init__(
        self, context: RunContext, host: str, interpreter: Interpreter, calls: Calls, post_tasks: PostTasks
    ) -> None:
        self._context = context
        self._host = host
        self._interpreter = interpreter
        self._calls = calls
        self._post_tasks = post_tasks
        self.statuses: list[Status] = []
        self.first_error: str | None = None
        self.notified: set[str] = set()

    async def load(self, program: Program) -> None:
        """Load the site; module calls outside of any task are a task of their own. Raises SlothError."""
        begun = time.monotonic()
        end = await self._interpreter.drive(program, program.load)
        failure = await self._calls.settled()
        if sum(self._calls.counts.values()):
            error = failure or (end.cause if isinstance(end, Error) else None)
            status = FAILED if error else CHANGED if self._calls.counts[CHANGED] else UNCHANGED
            text = str(error) if error else None
            self._context.emit(TaskFinished(time.time(), self._host, SITE, status, time.monotonic() - begun, text))
            self.statuses.append(status)
        if failure is not None:
            raise failure
        if isinstance(end, Error):
            raise end.cause or SiteError(end.message, where=end.where, hint=end.hint)

    async def run_all(self, program: Program, tasks: Iterable[Task]) -> None:
        """Run tasks in order until one ends the host's run. Raises HostError."""
        try:
            for task in tasks:
                await self._run_one(program, task)
        except Stop:
            self._post_tasks.partial = True

    async def run_handlers(self, program: Program) -> None:
        """Run the handlers that this run, or one that did not come to its end, has notified."""
        pending = await self._post_tasks.pending()
        for handler in program.handlers:
            if handler.name not in self.notified and self._post_tasks.shown(handler.name) not in pending:
                self._post_tasks.spared.add(handler.name)
            elif await self._attempt(program, handler):
                await self._post_tasks.settle([handler.name])
        await self._post_tasks.forget({handler.name for handler in program.handlers})

    async def _run_one(self, program: Program, task: Task) -> None:
        """Run one task when its turn has come. Raises Stop when nothing may follow."""
        skip = await self._context.enter(self._host, task)
        failed = skip is None or skip.is_failure  # a host that is lost in a task has not done it
        try:
            if skip is not None:
                self._post_tasks.partial = self._post_tasks.partial or failed
                self._skip(task, skip)
                if skip.ends_host:
                    raise Stop
                return
            succeeded = await self._attempt(program, task)
            failed = not succeeded and not task.ignore_errors
            if failed:
                raise Stop
        finally:
            self._context.barriers.passed(self._host, task, failed)

    def _skip(self, task: Task, skip: Skip) -> None:
        self._post_tasks.spared.add(task.name)
        self.statuses.append(SKIPPED)
        self._context.emit(
            TaskFinished(time.time(), self._host, task.name, SKIPPED, 0.0, handler=task.handler, skip=skip)
        )

    async def _attempt(self, program: Program, task: Task) -> bool:
        """Run a task or handler with its retries; return whether it succeeded (or was skipped)."""
        begun = time.monotonic()
        # Where Lua can go on after a failure, a call must not return before its answer: see docs/architecture.md.
        goes_on = task.ignore_errors or task.retries > 0 or task.hooks & {Hook.ON_FAILURE, Hook.ALWAYS}
        eager = self._context.options.eager or bool(goes_on)
        self._interpreter.work = Work(task.name, task.become, task.notify, eager)
        self._context.emit(TaskStarted(time.time(), self._host, task.name, task.handler))
        changed = False
        attempt = 1
        is_wanted = Hook.WHEN not in task.hooks
        for attempt in range(1, task.retries + 2):
            if attempt > 1:
                phase = Phase(PhaseKind.RETRYING, task=task.name, attempt=attempt)
                self._context.emit(HostPhase(time.time(), self._host, phase))
                await asyncio.sleep(task.delay)
            self._calls.begin_attempt()
            ignored = Handled.IGNORED if task.ignore_errors else Handled.NONE
            handled = Handled.RETRIED if attempt <= task.retries else ignored
            self._interpreter.work = dataclasses.replace(self._interpreter.work, handled=handled)
            try:
                if not is_wanted:
                    end = await self._interpreter.drive(program, partial(program.start_hook, task, Hook.WHEN))
                    if isinstance(end, Done) and not end.value:
                        self._skip(task, Skip(SkipKind.WHEN))
                        return True
                    if isinstance(end, Error):
                        return self._finish(task, begun, await self._failure_of(end))
                    is_wanted = True
                error = await self._body(program, task)
            except Unreachable as lost:
                error = await self._reconnect(lost, attempt <= task.retries)
            await self._interpreter.sessions.drop_ended()
            changed = changed or self._calls.counts[CHANGED] > 0
            if error is None or isinstance(error, UnknownResult):
                break
        error = await self._follow(program, task, error)
        changed = changed or self._calls.counts[CHANGED] > 0
        await self._interpreter.locks.release_all()
        failed = error is not None and not isinstance(error, UnknownResult)
        if failed and task.on_failure is OnFailure.ROLLBACK and not self._context.options.check:
            changed = await self._post_tasks.take_back(task, self.notified)
        return self._finish(task, begun, error, changed, attempt - 1)

    async def _reconnect(self, lost: Unreachable, may_retry: bool) -> SlothError:
        """Prepare another attempt after the host was lost; return why. Raises it when there must be none."""
        if not may_retry or isinstance(lost, (AuthError, HostKeyError)) or not self._calls.may_repeat():
            raise lost
        self._post_tasks.partial = True  # the new session does not know what the old one has seen of the site
        await self._interpreter.sessions.disconnect()
        return lost

    async def _body(self, program: Program, task: Task) -> SlothError | None:
        """Run the task's function once; return what ended it, None when it came to its end and `until` holds."""
        error = await self._bounded(program, task, partial(program.start, task))
        if error is not None or Hook.UNTIL not in task.hooks:
            return error
        end = await self._interpreter.drive(program, partial(program.start_hook, task, Hook.UNTIL))
        error = await self._failure_of(end)
        if error is not None or not isinstance(end, Done) or end.value:
            return error
        if self._context.options.check:  # what it waits for may come of what the check did not do
            return UnknownResult("a check does not wait for `until`", where=task.where, host=self._host)
        return CallError(f"`until` of task {task.name} does not hold", where=task.where, host=self._host)

    async def _follow(self, program: Program, task: Task, error: SlothError | None) -> SlothError | None:
        """Run what the task has for its failure and for its end; return what it failed of, the first error."""
        if Hook.ON_FAILURE in task.hooks and error is not None and not isinstance(error, UnknownResult):
            second = await self._bounded(program, task, partial(program.start_hook, task, Hook.ON_FAILURE, str(error)))
            if second is not None:
                text = f"{Hook.ON_FAILURE} failed, too: {second}"
                self._context.emit(Log(time.time(), self._host, task.name, LogLevel.ERROR, text))
        if Hook.ALWAYS in task.hooks:
            end = await self._bounded(program, task, partial(program.start_hook, task, Hook.ALWAYS))
            error = error or end
        return error

    async def _bounded(self, program: Program, task: Task, begin: Callable[[], Request]) -> SlothError | None:
        """Run a function of the task within its timeout; return what ended it, None when it came to its end."""
        limit = asyncio.timeout(task.timeout)
        try:
            async with limit:
                return await self._failure_of(await self._interpreter.drive(program, begin))
        except TimeoutError:
            if not limit.expired():
                raise  # it is the system's own error
            text = f"task {task.name} did not end within {task.timeout:g} seconds"
            busy = self._calls.current
            failure = await self._calls.cancel(GRACE, text)
            doing = f" in {busy.title} ({busy.where})" if busy else ""
            return failure or CallError(text + doing, where=task.where)

    async def _failure_of(self, end: Done | Error) -> SlothError | None:
        """Return what a task failed of: the first call that failed comes before whatever Lua raised later."""
        failure = await self._calls.settled()
        if failure is not None:
            return failure
        if isinstance(end, Error):
            return end.cause or CallError(end.message, where=end.where, hint=end.hint, detail=end.traceback)
        return None

    def _finish(
        self, task: Task, begun: float, error: SlothError | None, changed: bool = False, retried: int = 0
    ) -> bool:
        """Report the end of a task; return whether it succeeded."""
        succeeded = CHANGED if changed else UNCHANGED
        status = UNKNOWN if isinstance(error, UnknownResult) else FAILED if error is not None else succeeded
        ignored = status is FAILED and task.ignore_errors
        text = str(error) if error is not None else None
        self._context.emit(
            TaskFinished(
                time.time(), self._host, task.name, status, time.monotonic() - begun,
                error=text if status is FAILED else None, ignored=ignored, handler=task.handler,
                unknown=text or "" if status is UNKNOWN else "", retried=retried,
            )
        )  # fmt: skip
        self.statuses.append(succeeded if ignored else status)
        self._post_tasks.partial = self._post_tasks.partial or error is not None or self._calls.has_failed
        if status is FAILED and not ignored:
            self.first_error = self.first_error or text
        if changed:
            self.notified.update(task.notify)
        return status is not FAILED
