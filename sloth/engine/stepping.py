"""Asks before each task whether it is to run: --step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum

from sloth.playbook import Task


class Step(Enum):
    """What the user wants to become of a task."""

    RUN = "run"
    SKIP = "skip"
    RUN_ALL = "run all"  # this task and all that follow


Ask = Callable[[str], Awaitable[Step]]


class Stepping:
    """Asks once for each task, when the first host comes to it; the answer holds for all hosts."""

    def __init__(self, ask: Ask | None = None) -> None:
        """ask: takes a task's name and returns the answer; None: every task runs."""
        self._ask = ask
        self._answers: dict[str, bool] = {}
        self._asking = asyncio.Lock()

    async def wants(self, task: Task) -> bool:
        """Return whether the task is to run."""
        if self._ask is None:
            return True
        async with self._asking:
            if self._ask is not None and task.name not in self._answers:
                answer = await self._ask(task.name)
                self._answers[task.name] = answer is not Step.SKIP
                if answer is Step.RUN_ALL:
                    self._ask = None
            return self._answers.get(task.name, True)
