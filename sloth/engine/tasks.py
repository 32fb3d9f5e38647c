"""Runs one host's tasks and handlers: their turn, their attempts, their timeouts, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING

from sloth.engine.calls import Calls, Notes, UnknownResult
from sloth.engine.context import RunContext
from sloth.engine.events import (
    CHANGED,
    FAILED,
    SKIPPED,
    UNCHANGED,
    UNKNOWN,
    Handled,
    HostPhase,
    Phase,
    PhaseKind,
    Skip,
    SkipKind,
    TaskFinished,
    TaskStarted,
)
from sloth.engine.handler_runs import HandlerRuns
from sloth.engine.handlers import PostTasks
from sloth.engine.interpreter import SITE, Interpreter, Work
from sloth.engine.task_functions import TaskFunctions, failure_of
from sloth.errors import AuthError, ConnectionLost, HostKeyError, SiteError, SlothError, Unreachable
from sloth.payload.kernel.status import Status
from sloth.playbook import Done, Error, Hook, OnFailure, Program, Task

if TYPE_CHECKING:
    from sloth.engine.confirm import Confirmation


class Stop(Exception):
    """No further task runs on this host."""


class Tasks:
    """The tasks of one host, and what became of them.

    statuses: of tasks, as they end; first_error: of the first task that failed; handlers: those that must follow.
    """

    def __init__(
        self, context: RunContext, host: str, interpreter: Interpreter, calls: Calls, post_tasks: PostTasks
    ) -> None:
        self._context = context
        self._host = host
        self._interpreter = interpreter
        self._calls = calls
        self._post_tasks = post_tasks
        self._functions = TaskFunctions(context, host, interpreter, calls)
        self.statuses: list[Status] = []
        self.first_error: str | None = None
        self.handlers = HandlerRuns(interpreter, calls, post_tasks, self._attempt)

    @cached_property
    def _confirmation(self) -> Confirmation:
        from sloth.engine.confirm import Confirmation  # most sites have no task with `confirm`

        return Confirmation(self._context, self._interpreter, self._post_tasks)

    async def load(self, program: Program) -> None:
        """Load the site; module calls outside of any task are a task of their own. Raises SlothError."""
        begun = time.monotonic()
        self._interpreter.work = dataclasses.replace(self._interpreter.work, resolve=program.resolve)
        end = await self._interpreter.drive(program, program.load)
        failure = await self._calls.settled()
        self.handlers.notified.update(self._calls.noted.notified)
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
            await self._context.barriers.join(self._host, partial(self._pause, program))
        except Stop:
            self._post_tasks.partial = True

    @contextlib.asynccontextmanager
    async def _pause(self, program: Program) -> AsyncIterator[None]:
        """Let another host run, and use little memory: at a barrier, as many may wait as there are hosts."""
        program.shrink()
        async with self._context.pause():
            yield

    async def _run_one(self, program: Program, task: Task) -> None:
        """Run one task when its turn has come. Raises Stop when nothing may follow."""
        resume = self._context.options.resume
        if resume is not None and resume.is_done(self._host, self._post_tasks.shown(task.name), task.run_once):
            self._skip(task, Skip(SkipKind.DONE, resume.run))
            self._context.barriers.passed(self._host, task, failed=False)
            return
        skip = await self._context.enter(self._host, task, partial(self._pause, program))
        failed = skip is None or skip.is_failure  # a host that is lost in a task has not done it
        try:
            if skip is not None:
                self._post_tasks.partial = self._post_tasks.partial or failed
                self._skip(task, skip)
                if skip.ends_host:
                    raise Stop
                return
            succeeded = await (self.handlers.run(program) if task.is_flush else self._attempt(program, task))
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
        is_caught = task.ignore_errors or task.failed_when is False
        goes_on = is_caught or task.retries > 0 or task.hooks & {Hook.ON_FAILURE, Hook.ALWAYS}
        eager = self._context.options.eager or bool(goes_on)
        self._interpreter.work = Work(
            task.name, task.become, task.notify, eager, environment=task.environment, resolve=program.resolve
        )
        self._calls.noted = Notes()
        self._context.emit(TaskStarted(time.time(), self._host, task.name, task.handler))
        changed = False
        options = self._context.options
        must_confirm = task.confirm is not None and not (options.check or options.adopt)
        attempt = 1
        is_wanted = Hook.WHEN not in task.hooks
        for attempt in range(1, task.retries + 2):
            if attempt > 1:
                phase = Phase(PhaseKind.RETRYING, task=task.name, attempt=attempt)
                self._context.emit(HostPhase(time.time(), self._host, phase))
                await asyncio.sleep(task.delay)
            self._calls.begin_attempt()
            ignored = Handled.IGNORED if task.ignore_errors else Handled.RESCUED if is_caught else Handled.NONE
            handled = Handled.RETRIED if attempt <= task.retries else ignored
            self._interpreter.work = dataclasses.replace(self._interpreter.work, handled=handled)
            try:
                if not is_wanted:
                    end = await self._interpreter.drive(program, partial(program.start_hook, task, Hook.WHEN))
                    if isinstance(end, Done) and not end.value:
                        self._skip(task, Skip(SkipKind.WHEN))
                        return True
                    if isinstance(end, Error):
                        return self._finish(task, begun, await failure_of(self._calls, end))
                    is_wanted = True
                refusal = await self._confirmation.arm(program, task, self.handlers.notified) if must_confirm else None
                if refusal is not None:
                    return self._finish(task, begun, refusal)
                error = await self._functions.delegate(program, task) or await self._run(program, task)
            except Unreachable as lost:
                if must_confirm and self._confirmation.is_armed:
                    return self._finish(task, begun, await self._confirmation.recover(task, str(lost)))
                error = await self._reconnect(lost, attempt <= task.retries)
            await self._interpreter.sessions.drop_ended()
            changed = changed or self._calls.counts[CHANGED] > 0
            if error is None or isinstance(error, UnknownResult):
                break
        if must_confirm:
            early = partial(self.handlers.run_early, program, task)
            error = await self._confirmation.conclude(program, task, error, changed, early)
            changed = changed and error is None
            self._calls.begin_attempt()
        error = await self._functions.follow(program, task, error)
        changed = changed or self._calls.counts[CHANGED] > 0
        if Hook.CHANGED_WHEN in task.hooks or task.changed_when is not None:
            error, changed = await self._functions.changed(program, task, error, changed)
        failed = error is not None and not isinstance(error, UnknownResult)
        if failed and task.on_failure is OnFailure.ROLLBACK and not must_confirm and not self._context.options.check:
            names = {*task.notify, *self._calls.noted.notified, *self._calls.noted.withdrawn}
            changed = await self._post_tasks.take_back(task, names, self.handlers.notified)
            self._calls.noted.notified.clear()
        succeeded = self._finish(task, begun, error, changed, attempt - 1 + self._calls.noted.retried)
        if self._calls.noted.withdrawn:
            await self._post_tasks.withdraw(self._calls.noted.withdrawn, self.handlers.notified)
        return succeeded

    async def _run(self, program: Program, task: Task) -> SlothError | None:
        """Run the task's function; once more if the connection is lost and nothing that it did is in doubt."""
        try:
            return await self._functions.body(program, task)
        except ConnectionLost as lost:
            if task.retries or task.confirm is not None or not self._interpreter.sessions.have_been_ready:
                raise
            changed, noted = self._calls.counts[CHANGED], self._calls.noted
            await self._reconnect(lost, True)
            self._calls.begin_attempt()
            self._calls.counts[CHANGED] += changed
            self._calls.noted.notified.update(noted.notified)
            return await self._functions.body(program, task)

    async def _reconnect(self, lost: Unreachable, may_retry: bool) -> SlothError:
        """Prepare another attempt after the host was lost; return why. Raises it when there must be none."""
        if not may_retry or isinstance(lost, (AuthError, HostKeyError)) or not self._calls.may_repeat():
            raise lost
        self._post_tasks.partial = True  # the new session does not know what the old one has seen of the site
        await self._interpreter.sessions.disconnect()
        return lost

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
        self.handlers.note(task, changed)
        return status is not FAILED
