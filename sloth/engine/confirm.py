"""A task with `confirm` on one host: its changes stay only if a new connection confirms them in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from sloth.engine.context import RunContext
from sloth.engine.handlers import PostTasks
from sloth.engine.interpreter import Interpreter
from sloth.engine.planned_handlers import PlannedHandlers
from sloth.engine.returning import Return
from sloth.errors import (
    AuthError,
    BecomeError,
    CallError,
    HostError,
    HostKeyError,
    SlothError,
    StateError,
    Unreachable,
    WrongMachine,
)
from sloth.playbook import Error, Hook, Program, Task

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject
    from sloth.transport import Session

PAUSE = 0.5  # seconds between two attempts to connect
QUERY = 10.0  # seconds for a query of a session that may be cut off
SIGNS = 4  # signs of life within the time for the confirmation


class Confirmation:
    """The confirmation of one task after the other on one host."""

    def __init__(self, context: RunContext, interpreter: Interpreter, post_tasks: PostTasks) -> None:
        self._context = context
        self._host = interpreter.host
        self._interpreter = interpreter
        self._post_tasks = post_tasks
        self._return = Return(context, interpreter, post_tasks)
        self._handlers = PlannedHandlers(context, interpreter, post_tasks)
        self._session: Session | None = None  # in which the changes are made
        self._seconds = 0.0
        self._signs: asyncio.Task[None] | None = None

    # Before the first change

    @property
    def is_armed(self) -> bool:
        """Whether changes may have been made that are not confirmed."""
        return self._session is not None

    async def arm(self, program: Program, task: Task, notified: Iterable[str]) -> SlothError | None:
        """Let the host guard the changes of `task`; return why it must not begin. Raises HostError.

        notified: handlers that earlier tasks want. The host starts its watchdog before the first change; while nothing
        differs this costs one round trip.
        """
        try:
            await self._arm(program, task, notified)
        except (CallError, StateError) as error:
            return error
        return None

    async def _arm(self, program: Program, task: Task, notified: Iterable[str]) -> None:
        assert task.confirm is not None
        handlers = [handler for handler in program.handlers if handler.name in task.notify]
        calls: list[JsonObject] = []
        for handler in handlers:
            if self._interpreter.sessions.account(handler.become) != self._interpreter.sessions.account(task.become):
                raise CallError(
                    f"task {task.name} has `confirm`, and its handler {handler.name} runs as another account",
                    hint="give both the same `become`: the host takes changes back as one account",
                    where=handler.where,
                )
            calls += await self._handlers.calls_of(program, handler)
        shown = self._post_tasks.shown
        session = await self._interpreter.sessions.get(task.become, task.name)
        await session.query(
            "guard",
            {
                "task": shown(task.name),
                "seconds": task.confirm,
                "tasks": [shown(task.name), *(shown(handler.name) for handler in handlers)],
                "handlers": calls,
                "keep": sorted({shown(name) for name in notified} | await self._post_tasks.pending()),
            },
        )
        self._session, self._seconds = session, task.confirm
        self._interpreter.guarded = self._interpreter.sessions.account(task.become)
        self._signs = asyncio.create_task(_give_signs(session, task.confirm / SIGNS))

    # After the last change

    async def conclude(
        self,
        program: Program,
        task: Task,
        error: SlothError | None,
        changed: bool,
        run_handlers: Callable[[], Awaitable[SlothError | None]],
    ) -> SlothError | None:
        """Run the handlers of a task, then confirm its changes, at its end; return what it failed of.

        A task that has failed is taken back. The host does it by itself if this is interrupted.
        """
        try:
            if error is None and changed:
                error = await run_handlers()
            if error is not None:
                await self.take_back(task, str(error))
                return error
            if changed:
                return await self.confirm(program, task)
            await self.relax()
            return None
        except Unreachable as lost:
            return await self.recover(task, str(lost))

    async def relax(self) -> None:
        """Nothing was changed, or all is confirmed: let the session go on as before."""
        session, self._session = self._session, None
        self._end_signs()
        if session is None or session.end is not None:
            return
        try:
            await asyncio.wait_for(session.query("relax", {}), QUERY)
        except (TimeoutError, HostError):  # it was cut off; what follows needs another one
            await self._return.replace_sessions()

    async def confirm(self, program: Program, task: Task) -> CallError | None:
        """Confirm the changes by a new connection; return why they were taken back instead. Raises Unreachable."""
        account = self._interpreter.sessions.account(task.become)
        loop = asyncio.get_running_loop()
        is_held = await self._hold(self._session)
        end = loop.time() + self._seconds
        # A little earlier than the host itself: then this run can report what becomes of the changes.
        patience = end - min(2.0, self._seconds * 0.15)
        fresh: Session | None = None
        problem: Exception = TimeoutError()
        while fresh is None and loop.time() < patience:
            try:
                async with asyncio.timeout_at(patience):
                    fresh = await self._interpreter.sessions.open_fresh(account)
            except (TimeoutError, HostError) as error:
                problem = error
                if isinstance(error, (AuthError, HostKeyError, BecomeError, WrongMachine)):
                    break  # it will not get better
                await asyncio.sleep(PAUSE)
        if fresh is None:
            text = "it was not answered" if isinstance(problem, TimeoutError) else str(problem)
            why = f"no new connection within {self._seconds:g} seconds: {text}"
            return await self.take_back(task, why)
        is_sent = False
        try:
            # Each query commits what the session has begun to write, which would lock the state for the other one.
            await fresh.query("relax" if is_held else "hold", {})
            why = await self._check(program, task, fresh, account, max(0.5, patience - loop.time()))
            if not why:
                is_sent = True
                async with asyncio.timeout_at(end + QUERY):
                    await fresh.query("confirm", {})
        except (TimeoutError, StateError, HostError) as error:
            why = str(error) or "the host has not answered in time"
        if not why:
            await self._close(fresh)
            await self.relax()
            return None
        if self._session is None or self._session.end is not None:
            self._session = fresh
        found = await self.take_back(task, why)
        await self._close(fresh)
        # Where the answer was lost, the host knows: if it has taken nothing back, all is confirmed.
        return None if is_sent and not self._return.has_restored else found

    async def _hold(self, session: Session | None) -> bool:
        """Let the time for the confirmation begin on the host; return whether it took note."""
        if session is None or session.end is not None:
            return False
        try:
            await asyncio.wait_for(session.query("hold", {}), min(QUERY, self._seconds / 2))
        except (TimeoutError, HostError, StateError):
            return False
        return True

    async def _check(self, program: Program, task: Task, fresh: Session, account: str, limit: float) -> str:
        """Run `confirm_check` over the new connection; return why it has failed, "" when it has not."""
        if Hook.CONFIRM_CHECK not in task.hooks:
            return ""
        calls = self._interpreter.calls
        with self._interpreter.sessions.only(account, fresh):
            try:
                async with asyncio.timeout(limit):
                    end = await self._interpreter.drive(program, partial(program.start_hook, task, Hook.CONFIRM_CHECK))
                    failure = await calls.settled()
            except TimeoutError:
                await calls.cancel(QUERY / 2)
                return f"{Hook.CONFIRM_CHECK} did not end in time"
        if failure is None and isinstance(end, Error):
            failure = CallError(end.message, where=end.where, hint=end.hint)
        return f"{Hook.CONFIRM_CHECK} failed: {failure}" if failure is not None else ""

    async def _close(self, session: Session) -> None:
        with contextlib.suppress(HostError):
            await session.close()
        await self._interpreter.sessions.close_fresh()

    # Taking back

    async def take_back(self, task: Task, why: str) -> CallError:
        """Let the host take the changes back now; return the error of the task. Raises Unreachable."""
        session, self._session = self._session, None
        self._end_signs()
        return await self._return.take_back(session, task, why, self._seconds)

    async def recover(self, task: Task, why: str) -> CallError:
        """Connect again after the host was lost; see what it has taken back. Raises Unreachable."""
        self._session = None
        self._end_signs()
        return await self._return.recover(task, why, self._seconds)

    def _end_signs(self) -> None:
        self._interpreter.guarded = None
        if self._signs is not None:
            self._signs.cancel()
            self._signs = None


async def _give_signs(session: Session, pause: float) -> None:
    """Let the host hear from us while a task works, however long that takes."""
    while session.end is None:
        session.ping()
        await asyncio.sleep(pause)
