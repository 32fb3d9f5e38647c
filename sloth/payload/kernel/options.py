"""Options that any call takes besides its own arguments: where it is made, how often, and what becomes of its result.

This is their only declaration: the controller reads them here (split()), checks sites with it and documents them; no
module knows them. An argument of the same name that a call declares itself (`delay` of host.wait_for) is that call's.
"""

from sloth.payload.kernel.errors import ArgumentError
from sloth.payload.kernel.field import Field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

    from sloth.payload.kernel.resource import Call
    from sloth.payload.kernel.values import Arguments, Json

FUNCTION = {"function": True}  # what stands for a function of the site, which stays in Lua

OPTIONS = (
    Field("notify", "list", help="handlers to run when this call changes something, besides those of its task"),
    Field("become", "any", help="the account to make the call as: a name, true or false"),
    Field("delegate_to", "any", help='the host to make the call on: a name, "local", or a function of `host`'),
    Field("environment", "dict", help="environment variables for what the call runs"),
    Field("retries", "int", help="how often to try again after a failure"),
    Field("delay", "float", 5, help="seconds between two tries"),
    Field("until", "any", help="a function of the result: try again until it holds, up to `retries` (3) times"),
    Field("changed_when", "any", help="whether it counts as a change: a function of the result, true or false"),
    Field("failed_when", "any", help="whether it counts as a failure: a function of the result, true or false"),
    Field("sensitive", "bool", False, help="its arguments and results are neither shown nor recorded"),
)  # fmt: skip
NAMES = tuple(field.name for field in OPTIONS)
FUNCTIONS = ("until", "changed_when", "failed_when")  # options that are functions of the result
UNTIL_RETRIES = 3  # as with Ansible


def options_of(cls: "type[Call]") -> "dict[str, Field]":
    """Return the options that calls of a class take: those of which it has no argument of the same name."""
    own = set(name for field in cls.fields for name in (field.name, *field.aliases))
    return dict((field.name, field) for field in OPTIONS if field.name not in own)


def split(cls: "type[Call]", given: "Mapping[str, Json]") -> "tuple[Mapping[str, Json], Arguments]":
    """Return what a site gave to a call as (its arguments, the options). Raises ArgumentError for a wrong option."""
    if not any(name in given for name in NAMES):
        return given, {}
    known = options_of(cls)
    arguments = dict((name, value) for name, value in given.items() if name not in known)
    options: "Arguments" = {}
    for name, field in known.items():
        if given.get(name) is not None:
            try:
                options[name] = check(field, given[name])
            except ArgumentError as error:
                raise ArgumentError("%s: %s" % (cls.name, error.message), hint=error.hint)
    if "delay" in options and not ("retries" in options or "until" in options):
        raise ArgumentError("%s: delay is the time between two tries" % cls.name, hint="give retries or until, too")
    return arguments, options


def check(field: "Field", value: "Json") -> "Json":
    """Return the value of an option, converted to its type. Raises ArgumentError."""
    name = field.name
    if name == "until" and value != FUNCTION:
        raise ArgumentError("until must be a function of the result")
    if name in FUNCTIONS and value != FUNCTION and not isinstance(value, bool):
        raise ArgumentError("%s must be a function of the result, true or false" % name)
    if name == "delegate_to" and not (isinstance(value, str) and value):
        raise ArgumentError('delegate_to must be the name of a host, "local", or a function that returns one')
    if name == "become" and not _is_account(value):
        raise ArgumentError("become must be true, false, or an account's name")
    value = field.coerce(value)
    if name in ("retries", "delay") and (value is None or value < 0):
        raise ArgumentError("%s must not be negative" % name)
    if name == "notify" and not (value and all(value)):
        raise ArgumentError("notify must be a handler's name or a list of them")
    if name == "environment":
        return environment(value)
    return value


def environment(value: "Json") -> "dict[str, str]":
    """Return environment variables as text. Raises ArgumentError for what cannot be one."""
    found: "dict[str, str]" = {}
    for name, one in (value or {}).items():
        if not name or "=" in name or "\0" in name:
            raise ArgumentError("environment has an invalid name of a variable: %r" % name)
        if isinstance(one, (dict, list)) or "\0" in str(one):
            raise ArgumentError("environment.%s must be a text or a number" % name)
        found[name] = Field(name, "str").coerce(str(one).lower() if isinstance(one, bool) else one)
    return found


def _is_account(value: "Json") -> "bool":
    if isinstance(value, str):
        return bool(value) and value.lower() not in ("yes", "no", "true", "false", "on", "off")
    return isinstance(value, bool)
