"""Where hosts wait for one another: depends_on, run_once and serial; hosts run freely otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from sloth.errors import HostError
from sloth.playbook import Task

Pause = Callable[[], AbstractAsyncContextManager[None]]


@dataclass
class _Progress:
    """How far one host is."""

    plan: frozenset[str] | None = None  # names of the tasks it will run; None: its site is not loaded yet
    passed: set[str] = field(default_factory=set)
    ended: bool = False


class Barriers:
    """Knows which host has passed which task. A host that has ended has passed everything."""

    def __init__(self, hosts: Iterable[str]) -> None:
        """hosts: names in inventory order."""
        self._progress = {name: _Progress() for name in hosts}
        self._inside: dict[str, set[str]] = {}
        self._failed: dict[str, str] = {}  # task -> the host on which it failed (or was not run for such a reason)
        self._once: set[str] = set()  # run_once tasks that have found their host
        self._changed = asyncio.Condition()
        self._waiting: dict[str, Task] = {}

    async def loaded(self, host: str, plan: Iterable[str]) -> None:
        """`host` will run the tasks named in `plan`."""
        self._progress[host].plan = frozenset(plan)
        await self._tell()

    async def passed(self, host: str, task: str, failed: bool) -> None:
        """`host` has ended `task` (or will not run it); `failed`: those that depend on it must not run."""
        if failed:
            self._failed.setdefault(task, host)
        self._progress[host].passed.add(task)
        self._inside.get(task, set()).discard(host)
        await self._tell()

    async def ended(self, host: str) -> None:
        """`host` will run nothing more."""
        self._progress[host].ended = True
        for inside in self._inside.values():
            inside.discard(host)
        await self._tell()

    async def enter(self, host: str, task: Task, pause: Pause) -> str:
        """Wait until `host` may run `task`; return why it must not ("" when it may).

        `pause()` surrounds the waiting: it gives the host's place among the running ones to another. Raises HostError
        when every host waits for another one.
        """
        if not (task.depends_on or task.serial or task.run_once):
            return ""
        while True:
            async with self._changed:
                if self._ready(host, task):
                    return self._decide(host, task)
            async with pause(), self._changed:
                self._waiting[host] = task
                try:
                    if self._stuck():
                        self._changed.notify_all()
                    await self._changed.wait_for(lambda: self._ready(host, task) or self._stuck())
                    if self._stuck():
                        raise HostError(
                            f"task {task.name} waits for other hosts, and every host waits for another",
                            hint="do hosts run tasks with depends_on, run_once or serial in different orders?",
                        )
                finally:
                    del self._waiting[host]

    def _decide(self, host: str, task: Task) -> str:
        for name in task.depends_on:
            if name in self._failed:
                return f"depends on {name}, which failed on {self._failed[name]}"
        if task.serial and task.name in self._failed:
            return f"stopped: it failed on {self._failed[task.name]}"
        if task.run_once and task.name in self._once:
            return "runs once, and did on another host"
        if task.run_once:
            self._once.add(task.name)
        self._inside.setdefault(task.name, set()).add(host)
        return ""

    def _ready(self, host: str, task: Task) -> bool:
        if any(name in self._failed for name in task.depends_on):
            return True
        if not all(self._everywhere(name) for name in task.depends_on):
            return False
        inside = self._inside.get(task.name, ())
        if task.run_once:
            return not inside if task.name in self._once else self._first(host, task.name)
        if task.serial and task.name not in self._failed:
            return len(inside) < task.serial.of(len(self._progress))
        return True

    def _stuck(self) -> bool:
        """Whether all hosts that are not done wait, and none can go on."""
        active = [name for name, state in self._progress.items() if not state.ended]
        return all(name in self._waiting for name in active) and not any(
            self._ready(name, task) for name, task in self._waiting.items()
        )

    def _everywhere(self, task: str) -> bool:
        return all(
            state.ended or task in state.passed or (state.plan is not None and task not in state.plan)
            for state in self._progress.values()
        )

    def _first(self, host: str, task: str) -> bool:
        """Whether no host before `host` can still be the one that runs `task`."""
        for name, state in self._progress.items():
            if name == host:
                return True
            if not state.ended and task not in state.passed and (state.plan is None or task in state.plan):
                return False
        return True

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def order(tasks: Mapping[str, Task]) -> list[Task]:
    """Return tasks so that each comes after those it depends on, in the site's order otherwise.

    Unknown names were refused when the site was loaded. Raises ValueError with the names of a cycle.
    """
    done: dict[str, Task] = {}
    doing: list[str] = []

    def visit(task: Task) -> None:
        if task.name in done:
            return
        if task.name in doing:
            raise ValueError(" -> ".join([*doing[doing.index(task.name) :], task.name]))
        doing.append(task.name)
        for name in task.depends_on:
            visit(tasks[name])
        doing.pop()
        done[task.name] = task

    for task in tasks.values():
        visit(task)
    return list(done.values())
