"""The tasks and handlers that a site has declared so far, those of its roles under the names of these."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sloth.errors import SiteError
from sloth.frozen import frozen
from sloth.playbook.declarations import Listeners, Task, check_dependencies, declare, flush_task, notified
from sloth.playbook.site import Site

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject


@frozen
class _Declared:
    """A task or handler; root: the file of the site that has declared it; prefix: what its role puts before names."""

    task: Task
    root: Site
    prefix: str


class Declared:
    """Collects declarations; a task's `index` is its number here, from 1 on."""

    def __init__(self) -> None:
        self._all: list[_Declared] = []
        self._names: dict[tuple[str, bool], Task] = {}  # by name and whether it is a handler
        self._listeners: Listeners | None = None  # when all handlers are known

    def add(
        self, kind: str, options: JsonObject, functions: Collection[str], where: str, root: Site, prefix: str
    ) -> int:
        """Take a task or handler (`kind`, or "flush") and return its number. Raises SiteError for what is wrong."""
        name, index = options.get("name"), len(self._all) + 1
        if isinstance(name, str) and name.strip():
            options = {**options, "name": prefix + name}
        if kind == "flush":
            task = flush_task(1 + sum(one.task.is_flush for one in self._all), where, index)
        else:
            task = declare(kind, options, functions, where, index)
        other = self._names.setdefault((task.name, task.handler), task)
        if other is not task:
            hint = 'give one use of the role another name: role(NAME, {...}, { as = "..." })' if prefix else ""
            raise SiteError(f"{kind} {task.name} is declared twice (see {other.where})", hint=hint, where=where)
        self._all.append(_Declared(task, root, prefix))
        return task.index

    def root(self, task: Task) -> Site:
        """Return the file of the site that has declared a task, or used the role that has."""
        return self._all[task.index - 1].root

    def handlers(self) -> tuple[Task, ...]:
        """Return the handlers."""
        return tuple(one.task for one in self._all if one.task.handler)

    def tasks(self) -> tuple[Task, ...]:
        """Return the tasks. Raises SiteError when they name a task or handler that is not declared."""
        tasks = [self._with_full_names(one) for one in self._all if not one.task.handler]
        self._listeners = Listeners(self.handlers())
        found = tuple(notified(tasks, self._listeners))
        check_dependencies(found)
        return found

    def resolve(self, names: Sequence[str], task: Task | None, prefix: str, where: str) -> tuple[str, ...]:
        """Return the handlers that the names of a call's `notify` mean. Raises SiteError.

        task: the task that makes the call; None while the site is loaded: then `prefix` is that of its role.
        """
        if task is not None:
            prefix = self._all[task.index - 1].prefix
        # The handlers that come later in the site are not known while it is loaded.
        listeners = self._listeners or Listeners(self.handlers())
        return listeners.resolve("notify", [self._full_name(name, True, prefix) for name in names], where)

    def _with_full_names(self, declared: _Declared) -> Task:
        """Return a task with the full names of what it depends on and notifies.

        In a role they may be without the role's own: what the role has declared comes first, then what the roles have
        that use it, then the site.
        """
        task, prefix = declared.task, declared.prefix
        if not prefix or not (task.depends_on or task.notify):
            return task
        return replace(
            task,
            depends_on=tuple(self._full_name(name, False, prefix) for name in task.depends_on),
            notify=tuple(self._full_name(name, True, prefix) for name in task.notify),
        )

    def _full_name(self, name: str, is_handler: bool, prefix: str) -> str:
        """Return the name of the nearest task or handler that is called so, from within the roles of `prefix`."""
        labels = prefix.split(": ")[:-1]
        heads = ("".join(f"{label}: " for label in labels[:count]) for count in range(len(labels), -1, -1))
        return next((head + name for head in heads if (head + name, is_handler) in self._names), name)
