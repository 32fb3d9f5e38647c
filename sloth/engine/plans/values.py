"""A saved plan as values: for each host its tasks, with the calls that a check made and what it found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from sloth.engine.events import CHANGED, UNKNOWN
from sloth.frozen import frozen
from sloth.payload.kernel.status import Status
from sloth.playbook import Hook, OnFailure, Share, Task

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Attributes, Diff, Json, JsonObject


@frozen
class PlannedAsset:
    """A file that goes with a call.

    Attributes:
        sha256: of its content, which is in the plan under it; "" with parts.
        parts: the content of a text with secrets in it: texts and references (see references.py).
    """

    name: str
    sha256: str = ""
    size: int = 0
    mode: str = ""
    dir: bool = False
    parts: Json = None


@frozen(eq=False)
class PlannedCall:
    """A call, and what the check found.

    Attributes:
        args: as they are sent, with references for secrets (see references.py).
        directory: where it stores what it fetches.
        protected, rescued: as for Invoke.
        options: how it is made otherwise (see Invoke.options).
        read: the site has read its result, so what follows may depend on it.
        unknown: what it would do is not known before it does it.
    """

    name: str
    args: JsonObject
    where: str
    directory: str
    assets: tuple[PlannedAsset, ...] = ()
    protected: bool = False
    rescued: bool = False
    read: bool = False
    status: Status = Status.SKIPPED
    key: str = ""
    subject: str = ""
    reason: str = ""
    msg: str = ""
    error: str = ""
    diff: Diff | None = None
    before: Attributes | None = None
    after: Attributes | None = None
    values: Attributes = field(default_factory=dict)
    unknown: bool = False

    @property
    def is_delegated(self) -> bool:
        """Whether it is made on another host."""
        return bool(self.args.get("delegate_to"))

    @property
    def title(self) -> str:
        """The call as people name it: "file.copy /etc/motd"."""
        return f"{self.name} {self.subject or self.key.split(':', 2)[-1]}".rstrip()


@frozen(eq=False)
class Pause:
    """sleep(seconds) between two calls."""

    seconds: float
    where: str


Step = PlannedCall | Pause


@frozen(eq=False)
class PlannedTask:
    """A task or handler, with the steps of its `run` and its `always`.

    Attributes:
        is_skipped: its `when` was false.
        is_planned: the check ran it; False for handlers that nothing notified.
        unknown: why the rest of it is not known; "" when all of it is.
        status: how it ended.
    """

    task: Task
    steps: tuple[Step, ...] = ()
    always: tuple[Step, ...] = ()
    is_skipped: bool = False
    is_planned: bool = False
    unknown: str = ""
    status: Status = Status.SKIPPED

    @property
    def calls(self) -> tuple[PlannedCall, ...]:
        """All of its calls, in order."""
        return tuple(step for step in (*self.steps, *self.always) if isinstance(step, PlannedCall))


@frozen(eq=False)
class HostPlan:
    """What is planned for one host.

    Attributes:
        address: where it was reached: "deploy@10.0.0.7:22".
        is_partial: the check did not evaluate the whole site, so nothing is found to be orphaned.
        orphans: keys of what the site no longer names.
    """

    name: str
    address: str
    is_partial: bool = False
    tasks: tuple[PlannedTask, ...] = ()
    handlers: tuple[PlannedTask, ...] = ()
    orphans: tuple[str, ...] = ()

    def calls(self) -> Iterator[tuple[str, PlannedCall]]:
        """Yield every call, after the name of its task."""
        for task in (*self.tasks, *self.handlers):
            for call in task.calls:
                yield task.task.name, call

    def changes(self) -> list[tuple[str, PlannedCall]]:
        """Return the calls that would change something, after the names of their tasks."""
        return [(task, call) for task, call in self.calls() if call.status is CHANGED]

    def unknowns(self) -> list[tuple[str, str, str]]:
        """Return what is not known before it is done: (task, position, what)."""
        found = [
            (task, call.where, f"{call.title}: {call.msg or 'not known before it runs'}")
            for task, call in self.calls()
            if call.unknown or call.status is UNKNOWN
        ]
        return found + [
            (task.task.name, task.task.where, task.unknown) for task in (*self.tasks, *self.handlers) if task.unknown
        ]


@frozen(eq=False)
class Plan:
    """A saved plan.

    Attributes:
        created: in epoch seconds.
        site: the site's title; identity: the name under which hosts remember it.
        directories: of the site's files, where secrets were looked for.
        custom: the sources of the site's own modules.
        unreachable: hosts that are not in the plan, because they could not be reached.
    """

    id: str
    created: float
    who: str
    origin: str
    version: str
    site: str
    identity: str
    adhoc: bool
    directories: tuple[str, ...]
    custom: Mapping[str, bytes]
    hosts: Mapping[str, HostPlan]
    unreachable: tuple[str, ...] = ()


def plain_task(task: Task) -> JsonObject:
    """Return a task as JSON, without what has its default."""
    found: JsonObject = {}
    for each in dataclasses.fields(task):
        value = getattr(task, each.name)
        if value != each.default or each.default is dataclasses.MISSING:
            found[each.name] = _plain(value)
    return found


def _plain(value: object) -> Json:
    if isinstance(value, Share):
        return {"hosts": value.hosts, "percent": value.percent}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(item) for item in value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return value if isinstance(value, (bool, int, float)) or value is None else str(value)


def read_task(data: JsonObject) -> Task:
    """Return the task of plain_task(). Raises KeyError, TypeError, ValueError, AttributeError for anything else."""
    known = {each.name for each in dataclasses.fields(Task)}
    values: dict[str, Any] = {}  # attributes of Task
    for name, value in data.items():
        if name not in known:
            raise ValueError(name)
        values[name] = tuple(value) if isinstance(value, list) else value
    for name in ("serial", "max_fail"):
        if name in values:
            values[name] = _shares(values[name])
    if "on_failure" in values:
        values["on_failure"] = OnFailure(values["on_failure"])
    values["hooks"] = frozenset(Hook(hook) for hook in values.get("hooks", ()))
    return Task(**values)


def _shares(value: Any) -> Share | tuple[Share, ...]:
    if isinstance(value, tuple):
        return tuple(Share(**item) for item in value)
    return Share(**value)
