"""How far each host of a run is with its tasks, counted so that nobody has to look at all hosts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import field

from sloth.frozen import mutable


@mutable
class _HostProgress:
    """How far one host is."""

    plan: frozenset[str] | None = None  # names of the tasks it will run; None: its site is not loaded yet
    passed: set[str] = field(default_factory=set)
    inside: set[str] = field(default_factory=set)
    ended: bool = False

    def may_run(self, task: str) -> bool:
        """Return whether the host may still run `task`, or does. Once it may not, it never will again."""
        return not self.ended and task not in self.passed and (self.plan is None or task in self.plan)


class Progress:
    """Knows which host has passed which task. A host that has ended has passed everything.

    active: how many hosts have not ended; linear: whether tasks wait for those before them, on all hosts.
    """

    def __init__(self, hosts: Iterable[str], linear: bool = False) -> None:
        """hosts: names in inventory order."""
        self._hosts = {name: _HostProgress() for name in hosts}
        self._names = list(self._hosts)
        self._plans: dict[frozenset[str], frozenset[str]] = {}
        self._not_loaded = len(self._names)  # active hosts whose site is not loaded: they may run any task
        self._open: dict[str, int] = {}  # task -> loaded hosts that may still run it
        self._inside: dict[str, int] = {}  # task -> hosts that run it now
        self._first: dict[str, int] = {}  # task -> no host before this one may still run it
        self.active = len(self._names)
        self.linear = linear
        self._preceding: dict[str, set[str]] = {}  # with `linear`: those that come right before a task on any host
        self._cleared: set[str] = set()  # tasks that are passed everywhere, as are all before them

    def __len__(self) -> int:
        return len(self._names)

    def load(self, host: str, plan: Iterable[str], declared: Iterable[str] = ()) -> None:
        """Take note that `host` will run the tasks named in `plan`.

        declared: all tasks of its site, in their order, whether it runs them or not; needed with `linear`.
        """
        if self.linear:
            for earlier, following in itertools.pairwise(declared):
                self._preceding.setdefault(following, set()).add(earlier)
        progress = self._hosts[host]
        names = frozenset(plan)
        progress.plan = self._plans.setdefault(names, names)  # most hosts have the same one
        self._not_loaded -= 1
        for name in filter(progress.may_run, progress.plan):
            self._open[name] = self._open.get(name, 0) + 1

    def enter(self, host: str, task: str) -> None:
        """Take note that `host` runs `task` now."""
        self._hosts[host].inside.add(task)
        self._inside[task] = self._inside.get(task, 0) + 1

    def pass_by(self, host: str, task: str) -> None:
        """Take note that `host` has ended `task`, or will not run it."""
        progress = self._hosts[host]
        if progress.plan is not None and progress.may_run(task):
            self._open[task] -= 1
        progress.passed.add(task)
        self._leave(progress, task)

    def end(self, host: str) -> set[str]:
        """Take note that `host` will run nothing more; return the tasks for which that makes a difference."""
        progress = self._hosts[host]
        if progress.ended:
            return set()
        touched = set(progress.inside)
        for task in touched:
            self._leave(progress, task)
        if progress.plan is None:
            self._not_loaded -= 1
        for name in filter(progress.may_run, progress.plan or ()):
            self._open[name] -= 1
            touched.add(name)
        progress.ended = True
        progress.passed.clear()  # it is not looked at any more
        self.active -= 1
        return touched

    def _leave(self, progress: _HostProgress, task: str) -> None:
        if task in progress.inside:
            progress.inside.discard(task)
            self._inside[task] -= 1

    def is_loaded(self, host: str) -> bool:
        """Return whether the tasks of `host` are known."""
        return self._hosts[host].plan is not None

    def are_loaded(self) -> bool:
        """Return whether the tasks of every host are known."""
        return not self._not_loaded

    def is_passed_everywhere(self, task: str) -> bool:
        """Return whether no host may still run `task`."""
        return not self._not_loaded and not self._open.get(task)

    def is_next(self, task: str) -> bool:
        """Return whether no host may still run what comes before `task`, with `linear`."""
        visited: set[str] = {task}
        left = list(self._preceding.get(task, ()))
        while left:
            name = left.pop()
            if name in self._cleared or name in visited:
                continue
            if not self.is_passed_everywhere(name):
                return False
            visited.add(name)
            left += self._preceding.get(name, ())
        self._cleared.update(visited - {task})  # once it is passed everywhere, it always will be
        return True

    def inside(self, task: str) -> int:
        """Return how many hosts run `task` now."""
        return self._inside.get(task, 0)

    def first_host(self, task: str) -> str:
        """Return the first host that may still run `task`, "" when none may."""
        at = self._first.get(task, 0)  # it only ever moves on
        while at < len(self._names) and not self._hosts[self._names[at]].may_run(task):
            at += 1
        self._first[task] = at
        return self._names[at] if at < len(self._names) else ""
