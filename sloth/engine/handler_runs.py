"""Which handlers of one host must run, and when: at the end, at a flush, or with the task that they confirm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sloth.engine.calls import Calls
from sloth.engine.handlers import PostTasks
from sloth.engine.interpreter import Interpreter
from sloth.errors import CallError, SlothError
from sloth.playbook import Program, Task


class HandlerRuns:
    """Runs the handlers of one host. notified: those that must follow, and have not run since."""

    def __init__(
        self,
        interpreter: Interpreter,
        calls: Calls,
        post_tasks: PostTasks,
        attempt: Callable[[Program, Task], Awaitable[bool]],
    ) -> None:
        """attempt: runs a handler, and returns whether it succeeded."""
        self._interpreter = interpreter
        self._calls = calls
        self._post_tasks = post_tasks
        self._attempt = attempt
        self._early: set[str] = set()  # those that have run at the end of the present task
        self._have_run: set[str] = set()
        self.notified: set[str] = set()

    def note(self, task: Task, changed: bool) -> None:
        """Take note of the handlers that must follow a task, which has ended, and its calls."""
        if changed:
            self.notified.update(task.notify)
            self.notified -= self._early
        self.notified.update(self._calls.noted.notified)
        if not task.handler:
            self._early.clear()

    async def run_last(self, program: Program) -> None:
        """Run the handlers that this run, or one that did not come to its end, has notified."""
        await self.run(program)
        names = {handler.name for handler in program.handlers}
        self._post_tasks.spared.update(names - self._have_run)
        await self._post_tasks.forget(names)

    async def run(self, program: Program) -> bool:
        """Run the handlers that were notified and have not run since; return whether none of them failed."""
        pending = await self._post_tasks.pending()
        succeeded = True
        for handler in program.handlers:
            is_left = self._post_tasks.shown(handler.name) in pending and handler.name not in self._have_run
            if not is_left and handler.name not in self.notified:
                continue
            self._have_run.add(handler.name)
            self.notified.discard(handler.name)
            if await self._attempt(program, handler):
                await self._post_tasks.settle([handler.name])
            else:
                succeeded = succeeded and handler.ignore_errors
        return succeeded

    async def run_early(self, program: Program, task: Task) -> SlothError | None:
        """Run the handlers of a task at its end, and not at that of the run; return what they failed of."""
        work, noted = self._interpreter.work, self._calls.noted
        try:
            for handler in program.handlers:
                if handler.name in task.notify:
                    if not await self._attempt(program, handler):
                        return CallError(f"its handler {handler.name} has failed", where=task.where)
                    await self._post_tasks.settle([handler.name])
                    self._early.add(handler.name)
        finally:
            self._interpreter.work, self._calls.noted = work, noted
        return None
