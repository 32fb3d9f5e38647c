"""Tasks and handlers as a site declares them, every option checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sloth.errors import SiteError
from sloth.frozen import frozen
from sloth.inventory import read_become
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject


class OnFailure(StrEnum):
    """What is done when a task has failed."""

    ROLLBACK = "rollback"  # restore what the task changed


@frozen
class Serial:
    """How many hosts may run a task at the same time: a number of hosts, or a percentage of all of them."""

    hosts: int = 0
    percent: int = 0

    def of(self, total: int) -> int:
        """Return the number for a run with `total` hosts; at least one."""
        return max(1, self.hosts or total * self.percent // 100)


@frozen
class Task:
    """A task or handler as declared.

    Attributes:
        where: the position of the declaration, "site.sloth:4".
        index: its number in the Lua runtime.
        hosts: host patterns; None for all hosts.
        delay, timeout: in seconds; delay is the time between two tries.
        become: an account; True for that of the host or else root, False for that of the login, None for the host's
            own setting.
        has_when: whether `when` has to be evaluated before it runs.
    """

    name: str
    where: str
    index: int
    handler: bool = False
    hosts: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    serial: Serial | None = None
    retries: int = 0
    delay: float = 5.0
    timeout: float | None = None
    become: bool | str | None = None
    notify: tuple[str, ...] = ()
    run_once: bool = False
    ignore_errors: bool = False
    on_failure: OnFailure | None = None
    has_when: bool = False


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


def _serial(value: Json) -> Serial | None:
    if isinstance(value, str):
        number = value.removesuffix("%")
        valid = value.endswith("%") and number.isdecimal() and 0 < int(number) <= 100
        return Serial(percent=int(number)) if valid else None
    count = _count(value)
    return Serial(hosts=count) if count else None


def _on_failure(value: Json) -> OnFailure | None:
    return OnFailure.ROLLBACK if value == OnFailure.ROLLBACK.value else None


# Option -> its check, and the end of "OPTION must be ...".
_OPTIONS: Mapping[str, tuple[Check, str]] = {
    "hosts": (_names, "a host pattern or a list of them"),
    "tags": (_names, "a tag or a list of tags"),
    "depends_on": (_names, "a task's name or a list of them"),
    "serial": (_serial, 'a number of hosts, or a percentage of them such as "25%"'),
    "retries": (_count, "a whole number"),
    "delay": (_seconds, "a number of seconds"),
    "timeout": (_seconds, "a number of seconds"),
    "become": (read_become, "true, false, or an account's name"),
    "notify": (_names, "a handler's name or a list of them"),
    "run_once": (_bool, "true or false"),
    "ignore_errors": (_bool, "true or false"),
    "on_failure": (_on_failure, '"rollback"'),
}
_HANDLER_OPTIONS = ("become", "timeout", "retries", "delay", "ignore_errors")
_FUNCTIONS = ("run", "when")


def declare(what: str, options: JsonObject, functions: Collection[str], where: str, index: int) -> Task:
    """Return the Task of `task{...}` or `handler{...}` (`what`).

    functions: the options whose values are functions, which stay in Lua. Raises SiteError for anything that is wrong.
    """
    known = ["name", "run", *(_OPTIONS if what == "task" else _HANDLER_OPTIONS)] + (["when"] if what == "task" else [])
    for option in [*options, *functions]:
        if option not in known:
            hint = did_you_mean_or_list(option, known, "options")
            raise SiteError(f"{what} has no option '{option}'", hint=hint, where=where)
    name = options.get("name")
    if not isinstance(name, str) or not name.strip():
        raise SiteError(f'{what} needs a name, such as name = "setup"', where=where)
    if "run" not in functions:
        raise SiteError(f"{what} {name} needs run = function() ... end", where=where)
    for option in functions:
        if option not in _FUNCTIONS:
            raise SiteError(f"{what} {name}: {option} must not be a function", where=where)
    values: dict[str, Any] = {}  # attributes of Task; each was checked by its entry of _OPTIONS
    for option, (check, expected) in _OPTIONS.items():
        if option in options:
            values[option] = check(options[option])
            if values[option] is None:
                raise SiteError(f"{what} {name}: {option} must be {expected}", where=where)
    has_when = "when" in functions or "when" in options
    return Task(name=name, where=where, index=index, handler=what == "handler", has_when=has_when, **values)


def check_references(tasks: Sequence[Task], handlers: Sequence[Task]) -> None:
    """Raise SiteError when a task depends on a task, or notifies a handler, that is not declared."""
    for task in tasks:
        _check_names(task, "depends_on", task.depends_on, "task", tasks)
        _check_names(task, "notify", task.notify, "handler", handlers)


def _check_names(task: Task, option: str, names: Sequence[str], what: str, declared: Sequence[Task]) -> None:
    known = [other.name for other in declared]
    for name in names:
        if name not in known:
            raise SiteError(
                f"task {task.name}: {option} names the {what} {name}, which is not declared",
                hint=did_you_mean_or_list(name, known, f"{what}s"),
                where=task.where,
            )
