"""Tasks and handlers as a site declares them, every option checked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from sloth.errors import SiteError
from sloth.frozen import frozen
from sloth.playbook.task_options import HANDLER_OPTIONS, OPTIONS, TASK_OPTIONS, UNTIL_RETRIES, Hook, OnFailure, Share
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject


@frozen
class Task:
    """A task or handler as declared.

    Attributes:
        where: the position of the declaration, "site.sloth:4".
        index: its number in the Lua runtime.
        hosts: host patterns; None for all hosts.
        serial: the sizes of its batches, of which the last is used again for all that follow. With one size a host may
            begin as soon as another one has ended; with several, a batch begins when the one before has ended.
        throttle: how many hosts may run it at the same time; 0 for all.
        max_fail: on how many hosts it may fail before it is not begun on any further one; None for no limit.
        any_errors_fatal: when it fails on a host, no host begins another task.
        delay, timeout: in seconds; delay is the time between two tries.
        become: an account; True for that of the host or else root, False for that of the login, None for the host's
            own setting.
        hooks: those of its functions that it has; a `when` that is no function is one, too.
        confirm: seconds within which a new connection must confirm its changes; None: they need no confirmation.
        listen: other names that notify a handler.
        delegate_to: the host on which its calls are made; "" for each host itself.
        environment: variables for what its calls run.
        changed_when, failed_when: what it is whatever happened; None also for functions, which are hooks.
        is_flush: it runs the handlers that were notified till then, and has no function.
    """

    name: str
    where: str
    index: int
    handler: bool = False
    hosts: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    serial: tuple[Share, ...] = ()
    throttle: int = 0
    max_fail: Share | None = None
    any_errors_fatal: bool = False
    retries: int = 0
    delay: float = 5.0
    timeout: float | None = None
    become: bool | str | None = None
    notify: tuple[str, ...] = ()
    run_once: bool = False
    ignore_errors: bool = False
    on_failure: OnFailure | None = None
    confirm: float | None = None
    listen: tuple[str, ...] = ()
    delegate_to: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    changed_when: bool | None = None
    failed_when: bool | None = None
    is_flush: bool = False
    hooks: frozenset[Hook] = frozenset()

    def budget(self, total: int) -> int:
        """Return on how many of `total` hosts the task may fail before others must not begin it, or depend on it."""
        return self.max_fail.of(total) if self.max_fail is not None else 0


# Options that contradict each other -> why.
_CONTRADICTIONS: Mapping[tuple[str, str], str] = {
    ("run_once", "serial"): "it runs on one host",
    ("run_once", "throttle"): "it runs on one host",
    ("run_once", "max_fail"): "it runs on one host",
    ("ignore_errors", "max_fail"): "its failures are ignored",
    ("ignore_errors", "any_errors_fatal"): "its failures are ignored",
    ("any_errors_fatal", "max_fail"): "the first failure ends the run",
    ("confirm", "delegate_to"): "only the host itself can take its changes back",
}


def declare(what: str, options: JsonObject, functions: Collection[str], where: str, index: int) -> Task:
    """Return the Task of `task{...}` or `handler{...}` (`what`).

    functions: the options whose values are functions, which stay in Lua. Raises SiteError for anything that is wrong.
    """
    known = TASK_OPTIONS if what == "task" else HANDLER_OPTIONS
    for option in [*options, *functions]:
        if option not in known:
            hint = did_you_mean_or_list(option, known, "options")
            raise SiteError(f"{what} has no option '{option}'", hint=hint, where=where)
    name = options.get("name")
    if not isinstance(name, str) or not name.strip():
        raise SiteError(f'{what} needs a name, such as name = "setup"', where=where)
    if "run" not in functions:
        raise SiteError(f"{what} {name} needs run = function() ... end", where=where)
    hooks = {hook for hook in Hook if hook in functions}
    for option in functions:
        if option != "run" and option not in hooks:
            raise SiteError(f"{what} {name}: {option} must not be a function", where=where)
    for hook in (Hook.UNTIL, Hook.ALWAYS, Hook.CONFIRM_CHECK):
        if hook in options:
            raise SiteError(f"{what} {name}: {hook} must be a function", where=where)
    values: dict[str, Any] = {}  # attributes of Task; each was checked by its entry of OPTIONS
    for option, declared in OPTIONS.items():
        if option in options and declared.check is not None:
            values[option] = declared.check(options[option])
            if values[option] is None:
                raise SiteError(f"{what} {name}: {option} must be {declared.expected}", where=where)
    for (one, other), reason in _CONTRADICTIONS.items():
        if values.get(one) and other in values and values[other] is not False:
            raise SiteError(f"{what} {name}: {one} and {other} contradict each other: {reason}", where=where)
    if Hook.CONFIRM_CHECK in hooks and "confirm" not in values:
        raise SiteError(f"{what} {name}: {Hook.CONFIRM_CHECK} needs confirm = SECONDS", where=where)
    if values.get("changed_when") is False and values.get("notify"):
        reason = "it never counts as a change, so nothing is notified"
        raise SiteError(f"{what} {name}: changed_when and notify contradict each other: {reason}", where=where)
    if Hook.WHEN in options:
        hooks.add(Hook.WHEN)
    if Hook.UNTIL in hooks:
        values.setdefault("retries", UNTIL_RETRIES)
    return Task(name=name, where=where, index=index, handler=what == "handler", hooks=frozenset(hooks), **values)


def flush_task(number: int, where: str, index: int) -> Task:
    """Return the task that flush_handlers() declares."""
    return Task(name=f"(flush handlers {number})", where=where, index=index, tags=("always",), is_flush=True)


class Listeners:
    """Knows which handlers a name notifies: the handler's own, and those that listen to it."""

    def __init__(self, handlers: Sequence[Task]) -> None:
        self._handlers = handlers
        self.names: dict[str, list[int]] = {}  # name -> the numbers of the handlers that it notifies
        for number, handler in enumerate(handlers):
            for name in dict.fromkeys((handler.name, *handler.listen)):
                self.names.setdefault(name, []).append(number)

    def resolve(self, what: str, names: Sequence[str], where: str) -> tuple[str, ...]:
        """Return the handlers that `names` notify, in the order in which they are declared; what: for the error.

        Raises SiteError for a name that is neither a handler's nor one that a handler listens to.
        """
        _check_names(what, names, "handler", self.names, where)
        numbers = sorted({number for name in names for number in self.names[name]})
        return tuple(self._handlers[number].name for number in numbers)


def notified(tasks: Sequence[Task], listeners: Listeners) -> Iterator[Task]:
    """Yield tasks that notify handlers by their own names only. Raises SiteError."""
    for task in tasks:
        names = listeners.resolve(f"task {task.name}: notify", task.notify, task.where)
        yield replace(task, notify=names) if names else task


def check_dependencies(tasks: Sequence[Task]) -> None:
    """Raise SiteError when a task depends on a task that is not declared."""
    known = {task.name for task in tasks}
    for task in tasks:
        _check_names(f"task {task.name}: depends_on", task.depends_on, "task", known, task.where)


def _check_names(option: str, names: Sequence[str], what: str, known: Collection[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise SiteError(
                f"{option} names the {what} {name}, which is not declared",
                hint=did_you_mean_or_list(name, sorted(known), f"{what}s"),
                where=where,
            )
