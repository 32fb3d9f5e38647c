"""Where hosts wait for one another: depends_on, run_once, serial, throttle; hosts run freely otherwise.

Nothing here looks at all hosts when one of them goes on: what concerns all hosts is counted (progress.py), and a
change wakes only those who can go on because of it. So a run costs as many steps as it has hosts times tasks.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from sloth.engine.events import Skip, SkipKind
from sloth.engine.progress import Progress
from sloth.errors import HostError
from sloth.frozen import mutable
from sloth.playbook import Share, Task

Pause = Callable[[], AbstractAsyncContextManager[None]]
END = Task(name="(handlers)", where="", index=0)  # what follows all tasks


@mutable(eq=False)
class _Waiter:
    """One host that waits before a task; `wake` is answered when it can go on, or fails when it never can."""

    host: str
    task: Task
    wake: asyncio.Future[None]


class _Queues:
    """Those who wait: all of them, those who wait for other hosts, and those who wait before a task."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.all: dict[str, _Waiter] = {}  # by host, in the order in which they came
        self.dependents: dict[str, dict[str, _Waiter]] = {}  # task -> those that wait until all have passed it
        self.before: dict[str, dict[str, _Waiter]] = {}  # task -> those that wait before it, and for nothing else

    def add(self, waiter: _Waiter) -> None:
        """Let a host wait."""
        self.all[waiter.host] = waiter
        if not self.advance(waiter):
            for name in waiter.task.depends_on:
                self.dependents.setdefault(name, {})[waiter.host] = waiter

    def advance(self, waiter: _Waiter) -> bool:
        """Let a waiter wait before its task, unless it has to wait for others first; return whether it does.

        So nobody looks in vain at those whose dependencies are not passed whenever a host passes their task.
        """
        if not all(self._progress.is_passed_everywhere(name) for name in waiter.task.depends_on):
            return False
        self.before.setdefault(waiter.task.name, {})[waiter.host] = waiter
        return True

    def forget(self, waiter: _Waiter) -> None:
        """Let a host wait no longer."""
        self.all.pop(waiter.host, None)
        for name in waiter.task.depends_on:
            self.dependents.get(name, {}).pop(waiter.host, None)
        self.before.get(waiter.task.name, {}).pop(waiter.host, None)


class Barriers:
    """Knows which host has passed which task. A host that has ended has passed everything."""

    def __init__(self, hosts: Iterable[str], linear: bool = False) -> None:
        """hosts: names in inventory order; linear: all hosts end a task before one begins the next."""
        self._progress = Progress(hosts, linear)
        self._failures: Counter[str] = Counter()  # task -> hosts on which it failed, or was not run for it
        self._failed: dict[str, str] = {}  # task that failed on more hosts than it may -> the last one of them
        self._fatal: Skip | None = None  # why no host begins another task
        self._begun: Counter[str] = Counter()  # task -> hosts that have begun it
        self._once: set[str] = set()  # run_once tasks that have found their host
        self._queues = _Queues(self._progress)

    @property
    def fatal(self) -> Skip | None:
        """Why no host begins another task; None while hosts may."""
        return self._fatal

    # What becomes of hosts

    def loaded(self, host: str, plan: Iterable[str], declared: Iterable[str] = ()) -> None:
        """Take note that `host` will run the tasks named in `plan`; declared: all those of its site, in their order."""
        self._progress.load(host, plan, (*declared, END.name))
        self._wake_after_load()
        self._fail_if_stuck()

    def passed(self, host: str, task: Task, failed: bool) -> None:
        """Take note that `host` has ended `task` (or will not run it).

        failed: so that tasks that depend on it must not run, unless it may fail on as many hosts.
        """
        if failed:
            self._failures[task.name] += 1
            if self._failures[task.name] > task.budget(len(self._progress)):
                self._failed.setdefault(task.name, host)
            if task.any_errors_fatal and self._fatal is None:
                self._fatal = Skip(SkipKind.FATAL, task.name, host)
        self._progress.pass_by(host, task.name)
        self._wake_dependents(task.name)
        self._wake_before(task.name)
        if self._fatal is not None or self._may_step(task.name):
            self._wake_all()
        self._fail_if_stuck()

    def ended(self, host: str) -> None:
        """Take note that `host` will run nothing more. Doing so again has no effect."""
        was_loaded = self._progress.is_loaded(host)
        touched = sorted(self._progress.end(host))
        for name in touched:
            self._wake_dependents(name)
            self._wake_before(name)
        if self._may_step(*touched):
            self._wake_all()
        if not was_loaded:
            self._wake_after_load()
        self._fail_if_stuck()

    def _may_step(self, *names: str) -> bool:
        """Return whether hosts that are kept in step can go on, now that a host has passed some tasks."""
        return self._progress.linear and any(self._progress.is_passed_everywhere(name) for name in names)

    # Waiting

    async def enter(self, host: str, task: Task, pause: Pause) -> Skip | None:
        """Wait until `host` may run `task`; return why it must not, None when it may.

        `pause()` surrounds the waiting: it lets another host run meanwhile. Raises HostError when every host waits for
        another one.
        """
        if not (task.depends_on or task.run_once or self._progress.linear or is_limited(task)):
            return self._fatal
        try:
            while not self._is_ready(host, task):
                async with pause():
                    await self._wait(host, task)
        except BaseException:
            self._wake_before(task.name)  # it may have been woken to take a place that it leaves to others now
            raise
        return self._decide(host, task)

    async def join(self, host: str, pause: Pause) -> None:
        """With `linear`, wait until all hosts have ended their tasks. Raises HostError, as enter() does."""
        if self._progress.linear:
            await self.enter(host, END, pause)

    async def _wait(self, host: str, task: Task) -> None:
        waiter = _Waiter(host, task, asyncio.get_running_loop().create_future())
        self._queues.add(waiter)
        try:
            if self._is_ready(host, task):  # what it waits for came while it gave up its slot
                return
            if self._is_stuck():
                raise _stuck(task)
            await waiter.wake
        finally:
            self._queues.forget(waiter)

    def _wake(self, waiter: _Waiter) -> bool:
        """Wake a waiter if it can go on; return whether it could."""
        if not self._is_ready(waiter.host, waiter.task):
            return False
        self._queues.forget(waiter)
        if not waiter.wake.done():
            waiter.wake.set_result(None)
        return True

    def _wake_all(self) -> None:
        for waiter in list(self._queues.all.values()):
            self._wake(waiter)

    def _wake_dependents(self, name: str) -> None:
        """Wake those that depend on `name`, if all hosts have passed it, or it failed."""
        if name in self._failed or self._progress.is_passed_everywhere(name):
            for waiter in list(self._queues.dependents.pop(name, {}).values()):
                if not self._wake(waiter):
                    self._queues.advance(waiter)  # else it is found by what else it depends on

    def _wake_before(self, name: str) -> None:
        """Wake those that wait before `name` and have their turn now."""
        waiters = self._queues.before.get(name)
        if not waiters or (self._progress.linear and not self._progress.is_next(name)):
            return
        first = next(iter(waiters.values()))
        if first.task.run_once and name not in self._once:
            candidate = waiters.get(self._progress.first_host(name))
            if candidate is not None:
                self._wake(candidate)
            return
        if first.task.run_once and self._progress.inside(name):
            return
        free = self._room(first.task) if name not in self._failed else len(waiters)
        # No more than have room: a copy of all of them, each time that a host ends, would be quadratic.
        first_ones = list(itertools.islice(waiters.values(), max(0, free)))
        if sum(map(self._wake, first_ones)) == len(first_ones):
            return
        for waiter in list(waiters.values()):  # the site declares this task differently for some hosts
            self._wake(waiter)

    def _wake_after_load(self) -> None:
        """Wake those that waited for a site to be loaded: the host might have run what they wait for."""
        if self._progress.are_loaded():
            for name in list(self._queues.dependents):
                self._wake_dependents(name)
            if self._progress.linear:
                self._wake_all()
        for name in list(self._queues.before):
            if name not in self._once:
                waiters = self._queues.before[name]
                if waiters and next(iter(waiters.values())).task.run_once:
                    self._wake_before(name)

    # Deciding

    def _decide(self, host: str, task: Task) -> Skip | None:
        if self._fatal is not None:
            return self._fatal
        for name in task.depends_on:
            if name in self._failed:
                return Skip(SkipKind.DEPENDENCY, name, self._failed[name])
        if _stops(task) and task.name in self._failed:
            return Skip(SkipKind.BATCH, task.name, self._failed[task.name])
        if task.run_once and task.name in self._once:
            return Skip(SkipKind.ONCE, task.name)
        if task.run_once:
            self._once.add(task.name)
        self._progress.enter(host, task.name)
        self._begun[task.name] += 1
        return None

    def _is_ready(self, host: str, task: Task) -> bool:
        if self._fatal is not None or any(name in self._failed for name in task.depends_on):
            return True
        if not all(self._progress.is_passed_everywhere(name) for name in task.depends_on):
            return False
        if self._progress.linear and not (self._progress.are_loaded() and self._progress.is_next(task.name)):
            return False
        if task.run_once:
            inside = self._progress.inside(task.name)
            return not inside if task.name in self._once else self._progress.first_host(task.name) == host
        return (_stops(task) and task.name in self._failed) or self._room(task) > 0

    def _room(self, task: Task) -> int:
        """Return how many further hosts may begin a task now."""
        return _room(task, len(self._progress), self._progress.inside(task.name), self._begun[task.name])

    # Deadlock

    def _is_stuck(self) -> bool:
        """Return whether all hosts that have not ended wait, and none can go on, or is cancelled and about to end."""
        waiting = self._queues.all.values()
        if not waiting or len(waiting) < self._progress.active:
            return False
        return not any(one.wake.done() or self._is_ready(one.host, one.task) for one in waiting)

    def _fail_if_stuck(self) -> None:
        """End the wait of one host, so that the others can go on when it has ended."""
        if self._is_stuck():
            waiter = next(iter(self._queues.all.values()))
            self._queues.forget(waiter)
            waiter.wake.set_exception(_stuck(waiter.task))


def is_limited(task: Task) -> bool:
    """Return whether not all hosts may run a task at the same time."""
    return bool(task.serial or task.throttle or _stops(task))


def _room(task: Task, total: int, inside: int, begun: int) -> int:
    """Return how many of `total` hosts may begin a task when so many have begun it, and are inside of it."""
    room = total
    if task.throttle:
        room = task.throttle - inside
    if len(task.serial) == 1:
        room = min(room, _size(task.serial[0], total) - inside)
    elif task.serial:
        room = min(room, _end_of_batch(task.serial, begun - inside, total) - begun)
    return room


def _stops(task: Task) -> bool:
    """Return whether a task that has failed is not begun on further hosts."""
    return bool(task.serial or task.max_fail is not None)


def _size(share: Share, total: int) -> int:
    """Return the size of a batch: of a small run, a percentage is one host, too."""
    return max(1, share.of(total))


def _end_of_batch(sizes: Sequence[Share], ended: int, total: int) -> int:
    """Return how many hosts may have begun a task when `ended` hosts have ended it; `sizes`: see Task.serial."""
    end = 0
    for size in sizes:
        end += _size(size, total)
        if ended < end:
            return end
    last = _size(sizes[-1], total)
    return end + ((ended - end) // last + 1) * last


def _stuck(task: Task) -> HostError:
    return HostError(
        f"task {task.name} waits for other hosts, and every host waits for another",
        hint="do hosts run tasks with depends_on, run_once or serial in different orders?",
    )


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
