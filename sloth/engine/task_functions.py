"""The functions of a task: they run within its timeout, and what they raise is what the task fails of."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from functools import partial

from sloth.engine.calls import Calls, UnknownResult
from sloth.engine.context import RunContext
from sloth.engine.delegates import find_delegate
from sloth.engine.events import Log
from sloth.engine.interpreter import Interpreter
from sloth.engine.judging import owe
from sloth.errors import CallError, SlothError
from sloth.playbook import Done, Error, Hook, LogLevel, Program, Request, Task

GRACE = 4.0  # seconds that a cancelled call has to answer: the payload kills a command after 3


class TaskFunctions:
    """Runs the functions of one host's tasks."""

    def __init__(self, context: RunContext, host: str, interpreter: Interpreter, calls: Calls) -> None:
        self._context = context
        self._host = host
        self._interpreter = interpreter
        self._calls = calls

    async def body(self, program: Program, task: Task) -> SlothError | None:
        """Run the task's function once; return what ended it, None when it came to its end and `until` holds."""
        error = await self._bounded(program, task, partial(program.start, task))
        if isinstance(error, CallError) and not isinstance(error, UnknownResult) and task.failed_when is False:
            return None
        if error is None and (task.failed_when or Hook.FAILED_WHEN in task.hooks):
            error = await self._judge(program, task)
        if error is not None or Hook.UNTIL not in task.hooks:
            return error
        end = await self._interpreter.drive(program, partial(program.start_hook, task, Hook.UNTIL))
        error = await failure_of(self._calls, end)
        if error is not None or not isinstance(end, Done) or end.value:
            return error
        if self._context.options.check:  # what it waits for may come of what the check did not do
            return UnknownResult("a check does not wait for `until`", where=task.where, host=self._host)
        return CallError(f"`until` of task {task.name} does not hold", where=task.where, host=self._host)

    async def _judge(self, program: Program, task: Task) -> SlothError | None:
        """Return the failure of a task whose `failed_when` holds for what `run` has returned."""
        if Hook.FAILED_WHEN in task.hooks:
            end = await self._interpreter.drive(program, partial(program.start_hook, task, Hook.FAILED_WHEN))
            error = await failure_of(self._calls, end)
            if error is not None or not isinstance(end, Done) or not end.value:
                return error
        return CallError(f"`failed_when` of task {task.name} holds", where=task.where, host=self._host)

    async def changed(
        self, program: Program, task: Task, error: SlothError | None, changed: bool
    ) -> tuple[SlothError | None, bool]:
        """Return what a task failed of, and whether it counts as a change, by its `changed_when`."""
        counts = task.changed_when
        if Hook.CHANGED_WHEN in task.hooks and error is None:
            end = await self._interpreter.drive(program, partial(program.start_hook, task, Hook.CHANGED_WHEN))
            error = await failure_of(self._calls, end)
            counts = end.value if isinstance(end, Done) else None
        if counts is None or error is not None:
            return error, changed
        if changed and not counts:
            self._calls.noted.withdrawn.update(task.notify)
        if counts and not changed and task.notify and not (self._context.options.check or self._context.options.adopt):
            session = await self._interpreter.sessions.get(task.become, task.name)  # the handlers need one, too
            await owe(self._context, session, self._context.identity, task.name, task.notify)
        return None, bool(counts)

    async def delegate(self, program: Program, task: Task) -> SlothError | None:
        """Find the host on which the calls of a task are made; return what is wrong with it."""
        name = task.delegate_to
        if Hook.DELEGATE_TO in task.hooks:
            end = await self._interpreter.drive(program, partial(program.start_hook, task, Hook.DELEGATE_TO))
            error = await failure_of(self._calls, end)
            if error is not None or not isinstance(end, Done):
                return error
            if end.value and not end.text:
                text = f"delegate_to of task {task.name} must return the name of a host"
                return CallError(text, where=task.where, host=self._host)
            name = end.text
        try:
            if name and name != self._host:
                find_delegate(self._context.inventory, name, task.where)
        except CallError as error:
            error.host = self._host
            return error
        self._interpreter.work = dataclasses.replace(self._interpreter.work, delegate_to=name)
        return None

    async def follow(self, program: Program, task: Task, error: SlothError | None) -> SlothError | None:
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
                return await failure_of(self._calls, await self._interpreter.drive(program, begin))
        except TimeoutError:
            if not limit.expired():
                raise  # it is the system's own error
            text = f"task {task.name} did not end within {task.timeout:g} seconds"
            busy = self._calls.current
            failure = await self._calls.cancel(GRACE, text)
            await self._interpreter.locks.release_all()  # those of the function, which does not go on
            doing = f" in {busy.title} ({busy.where})" if busy else ""
            return failure or CallError(text + doing, where=task.where)


async def failure_of(calls: Calls, end: Done | Error) -> SlothError | None:
    """Return what a task failed of: the first call that failed comes before whatever Lua raised later."""
    failure = await calls.settled()
    if failure is not None:
        return failure
    if isinstance(end, Error):
        return end.cause or CallError(end.message, where=end.where, hint=end.hint, detail=end.traceback)
    return None
