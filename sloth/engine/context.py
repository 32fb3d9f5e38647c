"""What all hosts of a run share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from sloth.engine.barriers import Barriers, Pause, order
from sloth.engine.events import Skip, SkipKind
from sloth.engine.options import Options
from sloth.engine.prepared import PreparedCalls
from sloth.engine.prune import Pruning
from sloth.engine.secrets import Secrets
from sloth.engine.stepping import Stepping
from sloth.engine.turns import Turns
from sloth.errors import SiteError
from sloth.frozen import frozen
from sloth.inventory import Host, Inventory
from sloth.playbook import Site, Task
from sloth.playbook.group_names import GroupNames
from sloth.state.shared import Shared

if TYPE_CHECKING:
    from sloth.engine.assets import Shipper
    from sloth.engine.delegates import Delegates
    from sloth.engine.events import Event
    from sloth.engine.other_hosts import OtherHosts
    from sloth.engine.plans.file import SavedPlan
    from sloth.engine.plans.recorder import Recorder
    from sloth.engine.sessions import Sessions
    from sloth.payload.kernel.values import JsonObject


@frozen
class RunContext:
    """One run as each of its hosts sees it. emit(event): reports what happens; note_facts(host,
    facts): keeps what was gathered for the record; pause(): lets another host run.

    tags: those of all tasks, of each host that has loaded the site; group_names: what programs see as `groups`;
    recorder: records a check as a plan; saved: the plan that is applied instead of the site; refused: the hosts that
    it does not fit any more; complete: those that have come to the end of their tasks and handlers.
    """

    run_id: str
    site: Site
    identity: str  # the site's, found once
    options: Options
    inventory: Inventory
    modules: Mapping[str, Sequence[str]]  # namespace -> verbs
    emit: Callable[[Event], None]
    note_facts: Callable[[str, JsonObject], None]
    pause: Pause
    barriers: Barriers
    pruning: Pruning
    secrets: Secrets
    shared: Shared
    shipper: Shipper
    sessions: Sessions
    tags: dict[str, frozenset[str]]
    group_names: GroupNames
    others: OtherHosts
    delegates: Delegates
    stepping: Stepping
    recorder: Recorder | None = None
    saved: SavedPlan | None = None
    refused: set[str] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)
    turns: Turns = field(default_factory=Turns)
    prepared: PreparedCalls = field(default_factory=PreparedCalls)

    @property
    def groups(self) -> dict[str, list[str]]:
        """The inventory's groups and the names of their hosts, for templates."""
        return {name: list(group.hosts) for name, group in self.inventory.groups.items()}

    def plan(self, tasks: Iterable[Task]) -> list[Task]:
        """Return tasks in the order in which they run. Raises SiteError for a cycle in depends_on."""
        if self.saved is not None:  # they are in this order, and depend on what other hosts do, too
            return list(tasks)
        by_name = {task.name: task for task in tasks}
        try:
            return order(by_name)
        except ValueError as error:
            raise SiteError(f"depends_on has a cycle: {error}", where=self.site.title) from error

    async def enter(self, host: str, task: Task, pause: Pause | None = None) -> Skip | None:
        """Wait until `host` may run `task`; return why it must not, None when it may. Raises HostError.

        pause: surrounds the waiting, in place of `self.pause`.
        """
        if not await self.stepping.wants(task):
            return Skip(SkipKind.STEP)
        return await self.barriers.enter(host, task, pause or self.pause)

    def matches(self, pattern: str | Sequence[str], host: Host, where: str) -> bool:
        """Return whether a task's `hosts` names `host`."""
        return self.inventory.contains(pattern, host, where)


def lua_host(host: Host) -> JsonObject:
    """Return the global `host` of Lua and templates."""
    return {
        "name": host.name,
        "address": host.address,
        "port": host.port,
        "user": host.user,
        "groups": list(host.groups),
    }
