"""The options of calls as the engine uses them, and what its task says of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from sloth.engine.events import Handled
from sloth.errors import CallError
from sloth.frozen import frozen
from sloth.payload.kernel.options import FUNCTION, UNTIL_RETRIES, split
from sloth.payload.kernel.resource import Call

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

SITE = "(site)"  # the task that calls at the top level of a site belong to
DELAY = 5.0  # seconds between two tries, as with Ansible


def _no_handlers(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    raise CallError("a call at the top level of a site cannot notify handlers", where=where)


@frozen
class Work:
    """What the program works on now: the task that its calls belong to, and how they are made.

    resolve(names, where): returns the handlers that the names of a call's `notify` mean. Raises CallError.
    """

    task: str = SITE
    become: bool | str | None = None
    notify: tuple[str, ...] = ()
    eager: bool = False  # a call waits for its answer
    handled: Handled = Handled.NONE  # what becomes of a call's failure
    check: bool = False  # calls are only looked at, though the run is no check
    delegate_to: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    resolve: Callable[[tuple[str, ...], str], tuple[str, ...]] = _no_handlers

    def become_of(self, options: CallOptions) -> bool | str | None:
        """Return as which account a call is made."""
        return self.become if options.become is None else options.become

    def notify_of(self, options: CallOptions) -> tuple[str, ...]:
        """Return the handlers that a call notifies."""
        return tuple(dict.fromkeys((*self.notify, *options.notify)))


@frozen
class CallOptions:
    """The options of one call; arguments: what the site gave besides them."""

    arguments: Mapping[str, Json]
    notify: tuple[str, ...] = ()
    become: bool | str | None = None
    delegate_to: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0
    delay: float = DELAY
    has_until: bool = False
    changed_when: bool | None = None  # None also for a function
    failed_when: bool | None = None
    is_function: tuple[str, ...] = ()  # which options are functions of the result
    sensitive: bool = False

    @classmethod
    def of(cls, call: type[Call], given: Mapping[str, Json], work: Work) -> CallOptions:
        """Return the options of a call. Raises ArgumentError."""
        arguments, options = split(call, given)
        environment = {**work.environment, **(options.get("environment") or {})}
        if not options:
            return cls(arguments, environment=environment)
        functions = tuple(name for name, value in options.items() if value == FUNCTION)
        if "failed_when" in options and "fail" not in arguments and any(one.name == "fail" for one in call.fields):
            arguments = {**arguments, "fail": False}  # the call does not judge itself then
        until = "until" in options
        constant = {name: options[name] for name in ("changed_when", "failed_when") if name in options}
        return cls(
            arguments,
            notify=tuple(options.get("notify") or ()),
            become=options.get("become"),
            delegate_to=options.get("delegate_to") or "",
            environment=environment,
            retries=options.get("retries", UNTIL_RETRIES if until else 0),
            delay=float(options.get("delay", DELAY)),
            has_until=until,
            changed_when=constant.get("changed_when") if "changed_when" not in functions else None,
            failed_when=constant.get("failed_when") if "failed_when" not in functions else None,
            is_function=functions,
            sensitive=bool(options.get("sensitive")),
        )

    @property
    def is_judged(self) -> bool:
        """Whether the reply to a call alone does not say what became of it."""
        return bool(self.is_function or self.retries) or (self.changed_when, self.failed_when) != (None, None)

    def plain(self, delegate: str) -> JsonObject:
        """Return the options as a saved plan keeps them: without functions, and with those that the task has given.

        delegate: the host on which the call is made.
        """
        found: JsonObject = {
            "notify": list(self.notify), "become": self.become, "delegate_to": delegate,
            "environment": dict(self.environment), "retries": self.retries, "sensitive": self.sensitive,
        }  # fmt: skip
        found = {name: value for name, value in found.items() if value or (name == "become" and value is not None)}
        if self.retries:
            found["delay"] = self.delay
        for name, value in (("changed_when", self.changed_when), ("failed_when", self.failed_when)):
            if value is not None:
                found[name] = value
        return found
