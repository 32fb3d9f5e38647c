"""Takes back the changes of a task that was not confirmed, or learns that the host has done it by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sloth.engine.context import RunContext
from sloth.engine.handlers import PostTasks
from sloth.engine.interpreter import Interpreter
from sloth.engine.reverted import Reverted
from sloth.errors import CallError, HostError, StateError, Unreachable
from sloth.payload.kernel.status import Reason
from sloth.playbook import Task

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject
    from sloth.transport import Session

PAUSE = 0.5  # seconds between two attempts to connect
REVERT = 120.0  # seconds for the host to take changes back
RETURN = 60.0  # seconds for a host to be reachable again after it has taken its changes back by itself


class Return:
    """The way back of one host."""

    def __init__(self, context: RunContext, interpreter: Interpreter, post_tasks: PostTasks) -> None:
        self._context = context
        self._host = interpreter.host
        self._interpreter = interpreter
        self._post_tasks = post_tasks
        self.has_restored = False  # whether anything was taken back, the last time

    async def take_back(self, session: Session | None, task: Task, why: str, seconds: float) -> CallError:
        """Let the host take the changes back now; return the error of the task. Raises Unreachable.

        session: in which they were made; seconds: those of the confirmation.
        """
        try:
            if session is None or session.end is not None:
                return await self.recover(task, why, seconds)
            rows = await asyncio.wait_for(session.query("revert", {"why": self._post_tasks.shown(why)}), REVERT)
        except (TimeoutError, HostError, StateError):  # the host does it by itself, or the session is cut off
            return await self.recover(task, why, seconds)
        return self._error(task, why, rows)

    async def recover(self, task: Task, why: str, seconds: float) -> CallError:
        """Connect again after the host was lost; see what it has taken back, or let it. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds + RETURN
        while True:
            await self.replace_sessions()
            try:
                async with asyncio.timeout_at(end):
                    session = await self._interpreter.sessions.get(task.become, task.name)
                    await session.ready
                    reports = await session.ask("reverted", {}, Reverted.read)
                    rows = [row for report in reports if report.run == self._context.run_id for row in report.rows]
                    if not rows:
                        rows = await session.query("revert", {"why": self._post_tasks.shown(why)})
                return self._error(task, why, rows)
            except (TimeoutError, HostError, StateError) as error:
                if loop.time() >= end:
                    if isinstance(error, Unreachable):
                        raise
                    text = f"{self._host.name} was not reachable again, and should have taken back what was changed"
                    raise Unreachable(f"{text}: {why}") from error
                await asyncio.sleep(PAUSE)

    def _error(self, task: Task, why: str, rows: Sequence[JsonObject]) -> CallError:
        """Report what was taken back; return the error of the task."""
        left = self._post_tasks.report_restored(task, rows, Reason.REVERTED)
        self.has_restored = bool(rows)
        what = "not all of its changes could be taken back" if left else "its changes were taken back"
        if not rows:
            what = "nothing had been changed"
        return CallError(f"task {task.name} was not confirmed, and {what}: {why}", where=task.where)

    async def replace_sessions(self) -> None:
        """Let the next call connect again."""
        self._post_tasks.partial = True
        await self._interpreter.sessions.disconnect()
