"""The tasks and handlers that a site has declared so far, those of its roles under the names of these."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from sloth.errors import SiteError
from sloth.frozen import frozen
from sloth.playbook.declarations import Task, check_dependencies, declare, notified
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

    def add(
        self, kind: str, options: JsonObject, functions: Collection[str], where: str, root: Site, prefix: str
    ) -> int:
        """Take a task or handler (`kind`) and return its number. Raises SiteError for what is wrong with it."""
        name = options.get("name")
        if isinstance(name, str) and name.strip():
            options = {**options, "name": prefix + name}
        task = declare(kind, options, functions, where, len(self._all) + 1)
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
        found = tuple(notified(tasks, self.handlers()))
        check_dependencies(found)
        return found

    def _with_full_names(self, declared: _Declared) -> Task:
        """Return a task with the full names of what it depends on and notifies.

        In a role they may be without the role's own: what the role has declared comes first, then what the roles have
        that use it, then the site.
        """
        task = declared.task
        if not declared.prefix or not (task.depends_on or task.notify):
            return task
        labels = declared.prefix.split(": ")[:-1]
        prefixes = ["".join(f"{label}: " for label in labels[:count]) for count in range(len(labels), -1, -1)]

        def full(name: str, is_handler: bool) -> str:
            return next((head + name for head in prefixes if (head + name, is_handler) in self._names), name)

        return replace(
            task,
            depends_on=tuple(full(name, False) for name in task.depends_on),
            notify=tuple(full(name, True) for name in task.notify),
        )
