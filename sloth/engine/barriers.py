"""Where hosts wait for one another: depends_on, run_once and serial; hosts run freely otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from sloth.engine.events import Skip, SkipKind
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
        """Take note that `host` will run the tasks named in `plan`."""
        self._progress[host].plan = frozenset(plan)
        await self._notify()

    async def passed(self, host: str, task: str, failed: bool) -> None:
        """Take note that `host` has ended `task` (or will not run it).

        failed: tasks that depend on it must not run.
        """
        if failed:
            self._failed.setdefault(task, host)
        self._progress[host].passed.add(task)
        self._inside.get(task, set()).discard(host)
        await self._notify()

    async def ended(self, host: str) -> None:
        """Take note that `host` will run nothing more."""
        self._progress[host].ended = True
        for inside in self._inside.values():
            inside.discard(host)
        await self._notify()

    async def enter(self, host: str, task: Task, pause: Pause) -> Skip | None:
        """Wait until `host` may run `task`; return why it must not, None when it may.

        `pause()` surrounds the waiting: it lets another host run meanwhile. Raises HostError when every host waits for
        another one.
        """
        if not (task.depends_on or task.serial or task.run_once):
            return None
        while True:
            async with self._changed:
                if self._is_ready(host, task):
                    return self._decide(host, task)
            async with pause(), self._changed:
                self._waiting[host] = task
                try:
                    if self._is_stuck():
                        self._changed.notify_all()
                    await self._changed.wait_for(lambda: self._is_ready(host, task) or self._is_stuck())
                    if self._is_stuck():
                        raise HostError(
                            f"task {task.name} waits for other hosts, and every host waits for another",
                            hint="do hosts run tasks with depends_on, run_once or serial in different orders?",
                        )
                finally:
                    del self._waiting[host]

    def _decide(self, host: str, task: Task) -> Skip | None:
        for name in task.depends_on:
            if name in self._failed:
                return Skip(SkipKind.DEPENDENCY, name, self._failed[name])
        if task.serial and task.name in self._failed:
            return Skip(SkipKind.BATCH, task.name, self._failed[task.name])
        if task.run_once and task.name in self._once:
            return Skip(SkipKind.ONCE, task.name)
        if task.run_once:
            self._once.add(task.name)
        self._inside.setdefault(task.name, set()).add(host)
        return None

    def _is_ready(self, host: str, task: Task) -> bool:
        if any(name in self._failed for name in task.depends_on):
            return True
        if not all(self._is_passed_everywhere(name) for name in task.depends_on):
            return False
        inside = self._inside.get(task.name, ())
        if task.run_once:
            return not inside if task.name in self._once else self._is_first(host, task.name)
        if task.serial and task.name not in self._failed:
            return len(inside) < task.serial.of(len(self._progress))
        return True

    def _is_stuck(self) -> bool:
        """Return whether all hosts that are not done wait, and none can go on."""
        active = [name for name, state in self._progress.items() if not state.ended]
        return all(name in self._waiting for name in active) and not any(
            self._is_ready(name, task) for name, task in self._waiting.items()
        )

    def _is_passed_everywhere(self, task: str) -> bool:
        return all(
            state.ended or task in state.passed or (state.plan is not None and task not in state.plan)
            for state in self._progress.values()
        )

    def _is_first(self, host: str, task: str) -> bool:
        """Return whether no host before `host` can still be the one that runs `task`."""
        for name, state in self._progress.items():
            if name == host:
                return True
            if not state.ended and task not in state.passed and (state.plan is None or task in state.plan):
                return False
        return True

    async def _notify(self) -> None:
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
