"""The options of tasks and handlers: how each is checked, and how it is documented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.inventory import read_become
from sloth.payload.kernel.errors import ArgumentError
from sloth.payload.kernel.options import environment

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


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


# A check takes an option's value and returns the value to use, None for an invalid one.
Check = Callable[["Json"], object]


def _names(value: Json) -> tuple[str, ...] | None:
    values = [value] if isinstance(value, str) else [] if value == {} else value  # an empty table is both
    if not isinstance(values, list) or not all(isinstance(item, str) and item for item in values):
        return None
    return tuple(values)


def _hosts(value: Json) -> tuple[str, ...] | None:
    return _names(value) or None  # an empty list, as of a variable, must not mean all


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


@frozen
class Option:
    """An option of `task{...}`, and of `handler{...}` if `of_handlers`.

    Attributes:
        expected: what it must be, as the end of "OPTION must be ...".
        lua: its type for Lua language servers.
        check: returns the value to use; None where only a function is allowed, or where declare() checks the value.
        default: in words; "" for none.
        of_tasks: handlers alone have it when it is False.
    """

    expected: str
    lua: str
    help: str
    check: Check | None = None
    default: str = ""
    is_required: bool = False
    of_tasks: bool = True
    of_handlers: bool = False


UNTIL_RETRIES = 3  # as with Ansible
_LIST = "string|string[]"
_JUDGE = "boolean|fun(r: any): any"
# Those that a site is most likely to look for come first: the reference is in this order.
OPTIONS: Mapping[str, Option] = {
    "name": Option(
        "a text",
        "string",
        "What it is called: in reports, and in `depends_on` or `notify`.",
        is_required=True,
        of_handlers=True,
    ),
    "run": Option(
        "a function",
        "fun(): any, any",
        'Makes the calls. It fails with an error, or with `return false, "why"`.',
        is_required=True,
        of_handlers=True,
    ),
    "hosts": Option("a host pattern or a list of them", _LIST, "Run on these hosts only.", _hosts, "all hosts"),
    "when": Option("a function, or a value", "any", "Run only where it, or what it returns, is true."),
    "tags": Option(
        "a tag or a list of tags",
        _LIST,
        "Select it with --tags and --skip-tags. `always` and `never` are special.",
        _names,
    ),
    "depends_on": Option(
        "a task's name or a list of them",
        _LIST,
        "Begin when all hosts have ended these tasks; skip it where one of them failed.",
        _names,
    ),
    "notify": Option(
        "a handler's name or a list of them", _LIST, "Run these handlers at the end if it changed something.", _names
    ),
    "listen": Option(
        "a name or a list of them", _LIST, "Other names that notify it.", _names, of_tasks=False, of_handlers=True
    ),
    "retries": Option(
        "a whole number",
        "integer",
        "Try it again this many times when it fails.",
        _count,
        f"0; {UNTIL_RETRIES} with `until`",
        of_handlers=True,
    ),
    "until": Option(
        "a function", "fun(r: any): any", "Is called with what `run` has returned. Try again till it returns true."
    ),
    "delay": Option(
        "a number of seconds", "number", "Wait this long between two tries.", _seconds, "5", of_handlers=True
    ),
    "timeout": Option(
        "a number of seconds", "number", "Fail when one try takes longer.", _seconds, "no limit", of_handlers=True
    ),
    "become": Option(
        "true, false, or an account's name",
        "boolean|string",
        "Run as this account; true: that of the host's setting, or else root.",
        read_become,
        "the host's setting",
        of_handlers=True,
    ),
    "serial": Option(
        'a number of hosts, a percentage of them such as "25%", or a list of these',
        "integer|string|(integer|string)[]",
        "Run on this many hosts at the same time, and begin no other after a failure. A list: batches of these sizes.",
        _serial,
        "all hosts",
    ),
    "throttle": Option(
        "a number of hosts",
        "integer",
        "Run on at most this many hosts at the same time. Failures do not stop the others.",
        _positive,
        "no limit",
    ),
    "max_fail": Option(
        'a number of hosts, or a percentage of them such as "25%"',
        "integer|string",
        "On how many hosts it may fail before no other host begins it, and tasks that depend on it are skipped.",
        _share,
        "no limit; 0 with `serial`",
    ),
    "any_errors_fatal": Option(
        "true or false", "boolean", "When it fails on a host, no host begins another task.", _bool, "false"
    ),
    "run_once": Option("true or false", "boolean", "Run on the first host only.", _bool, "false"),
    "ignore_errors": Option(
        "true or false", "boolean", "Go on with the next task when it fails.", _bool, "false", of_handlers=True
    ),
    "on_failure": Option(
        '"rollback" or a function',
        '"rollback"|fun(why: string)',
        "What is done when it has failed for good: take back what it has changed, or call a function with the error.",
        _on_failure,
    ),
    "always": Option("a function", "fun()", "Is called at the end of a task that has run, whatever became of it."),
    "confirm": Option(
        "a number of seconds from 5 to 3600",
        "number",
        "The host takes the task's changes back unless a new connection confirms them within this time.",
        _confirm,
    ),
    "confirm_check": Option(
        "a function", "fun(): any, any", "Must pass, over that new connection, before the changes are confirmed."
    ),
    "delegate_to": Option(
        'the name of a host, "local", or a function that returns one',
        "string|fun(host: table): string?",
        'The host on which its calls are made; "local": the machine of the controller.',
        _host_name,
        "the host itself",
        of_handlers=True,
    ),
    "environment": Option(
        'a table of variables, such as {LANG = "C"}',
        "table<string, any>",
        "Environment variables for what its calls run.",
        _environment,
        of_handlers=True,
    ),
    "changed_when": Option(
        "true, false or a function",
        _JUDGE,
        "Whether it counts as a change; a function is called with what `run` has returned.",
        _bool,
        of_handlers=True,
    ),
    "failed_when": Option(
        "true, false or a function",
        _JUDGE,
        "Whether it counts as a failure; a function is called with what `run` has returned.",
        _bool,
        of_handlers=True,
    ),
}
TASK_OPTIONS = tuple(name for name, option in OPTIONS.items() if option.of_tasks)
HANDLER_OPTIONS = tuple(name for name, option in OPTIONS.items() if option.of_handlers)
