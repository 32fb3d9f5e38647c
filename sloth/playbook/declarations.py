"""Tasks and handlers as a site declares them, every option checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sloth.errors import SiteError
from sloth.frozen import frozen
from sloth.inventory import read_become
from sloth.payload.kernel.errors import ArgumentError
from sloth.payload.kernel.options import environment
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject


class OnFailure(StrEnum):
    """What is done when a task has failed."""

    ROLLBACK = "rollback"  # restore what the task changed


class Hook(StrEnum):
    """A function of a task besides `run`."""

    WHEN = "when"  # whether the task is to run
    UNTIL = "until"  # whether what `run` returned is what was waited for
    FAILED_WHEN = "failed_when"  # whether what `run` returned is a failure
    CHANGED_WHEN = "changed_when"  # whether what `run` returned is a change
    DELEGATE_TO = "delegate_to"  # the name of the host on which its calls are made
    ON_FAILURE = "on_failure"  # called with the error when the task has failed
    ALWAYS = "always"  # called at the end, whatever it was
    CONFIRM_CHECK = "confirm_check"  # must pass over a new connection before the task's changes are confirmed


@frozen
class Share:
    """A number of hosts, or a percentage of all of them."""

    hosts: int = 0
    percent: int = 0

    def of(self, total: int) -> int:
        """Return the number of hosts in a run with `total` of them, rounded down."""
        return self.hosts or total * self.percent // 100


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


# A check takes an option's value and returns the value to use, None for an invalid one.
Check = Callable[["Json"], object]


def _names(value: Json) -> tuple[str, ...] | None:
    values = [value] if isinstance(value, str) else value  # an empty Lua table arrives as an empty list
    if not isinstance(values, list) or not all(isinstance(item, str) and item for item in values):
        return None
    return tuple(values)


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _seconds(value: Json) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else None


def _bool(value: Json) -> bool | None:
    return value if isinstance(value, bool) else None


def _share(value: Json) -> Share | None:
    if isinstance(value, str):
        number = value.removesuffix("%")
        valid = value.endswith("%") and number.isascii() and number.isdecimal() and len(number) < 4
        return Share(percent=int(number)) if valid and int(number) <= 100 else None
    count = _count(value)
    return Share(hosts=count) if count is not None else None


def _serial(value: Json) -> tuple[Share, ...] | None:
    sizes = [_share(item) for item in (value if isinstance(value, list) else [value])]
    shares = tuple(size for size in sizes if size is not None and (size.hosts or size.percent))
    return shares if shares and len(shares) == len(sizes) else None


def _positive(value: Json) -> int | None:
    return _count(value) or None


def _on_failure(value: Json) -> OnFailure | None:
    return OnFailure.ROLLBACK if value == OnFailure.ROLLBACK.value else None


def _confirm(value: Json) -> float | None:
    seconds = _seconds(value)
    return seconds if seconds is not None and 5 <= seconds <= 3600 else None


def _host_name(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def _environment(value: Json) -> Mapping[str, str] | None:
    try:
        return environment({} if value == [] else value) if isinstance(value, dict) or value == [] else None
    except ArgumentError:
        return None


# Option -> its check, and the end of "OPTION must be ...".
_OPTIONS: Mapping[str, tuple[Check, str]] = {
    "hosts": (_names, "a host pattern or a list of them"),
    "tags": (_names, "a tag or a list of tags"),
    "depends_on": (_names, "a task's name or a list of them"),
    "serial": (_serial, 'a number of hosts, a percentage of them such as "25%", or a list of these'),
    "throttle": (_positive, "a number of hosts"),
    "max_fail": (_share, 'a number of hosts, or a percentage of them such as "25%"'),
    "any_errors_fatal": (_bool, "true or false"),
    "retries": (_count, "a whole number"),
    "delay": (_seconds, "a number of seconds"),
    "timeout": (_seconds, "a number of seconds"),
    "become": (read_become, "true, false, or an account's name"),
    "notify": (_names, "a handler's name or a list of them"),
    "run_once": (_bool, "true or false"),
    "ignore_errors": (_bool, "true or false"),
    "on_failure": (_on_failure, '"rollback" or a function'),
    "confirm": (_confirm, "a number of seconds from 5 to 3600"),
    "listen": (_names, "a name or a list of them"),
    "delegate_to": (_host_name, 'the name of a host, "local", or a function that returns one'),
    "environment": (_environment, 'a table of variables, such as {LANG = "C"}'),
    "changed_when": (_bool, "true, false or a function"),
    "failed_when": (_bool, "true, false or a function"),
}
_HANDLER_OPTIONS = (
    *("name", "run", "become", "timeout", "retries", "delay", "ignore_errors", "listen"),
    *("delegate_to", "environment", "changed_when", "failed_when"),
)
_TASK_OPTIONS = tuple(dict.fromkeys(("name", "run", *Hook, *(name for name in _OPTIONS if name != "listen"))))
_UNTIL_RETRIES = 3  # as with Ansible
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
    known = _TASK_OPTIONS if what == "task" else _HANDLER_OPTIONS
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
    values: dict[str, Any] = {}  # attributes of Task; each was checked by its entry of _OPTIONS
    for option, (check, expected) in _OPTIONS.items():
        if option in options:
            values[option] = check(options[option])
            if values[option] is None:
                raise SiteError(f"{what} {name}: {option} must be {expected}", where=where)
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
        values.setdefault("retries", _UNTIL_RETRIES)
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
