"""What the calls about units have in common: the names of units, the arguments and the state keys."""

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field
from sloth.payload.lib.regex import expression

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Args
    from sloth.payload.kernel.values import Arguments

NAME = Field("name", "str", REQUIRED, aliases=("service", "unit"), help="the unit; without a suffix it is a service")
SCOPE = Field(
    "scope",
    choices=("system", "user"),
    default="system",
    help="user: the manager of the account that the task runs as, or of `user`",
)
USER = Field("user", help="with scope user: the account whose manager is meant; the manager must be running")
SETTLE = Field(
    "settle",
    "float",
    0.5,
    how=True,
    help="seconds that a simple service must stay active to count as started (other types report it themselves)",
)
SUFFIXES = ("service", "socket", "timer", "mount", "automount", "swap", "target", "path", "slice", "scope", "device")
_VALID = expression(r"^[A-Za-z0-9:_.\\@-]+\Z")


def full_name(name: "str") -> "str":
    """Return the unit's name with its suffix; a name without one is that of a service. Raises ArgumentError."""
    if not is_valid(name) or name.startswith("-"):
        raise ArgumentError("%r cannot be the name of a unit" % name)
    return name if name.rpartition(".")[2] in SUFFIXES and "." in name else name + ".service"


def is_valid(name: "str") -> "bool":
    """Return whether all characters of `name` may be in the name of a unit."""
    return _VALID.match(name) is not None


def check_arguments(call: "str", values: "Arguments") -> "None":
    """Raise ArgumentError when the arguments about the unit and its manager are invalid. `call` is the call's name."""
    full_name(values["name"])
    if values.get("user") and values["scope"] != "user":
        raise ArgumentError('%s: user is for scope = "user"' % call)


def identity(args: "Args") -> "str":
    """Return a unit's name without its suffix; for the manager of a user after "USER/" ("~/" for the task's own)."""
    name = full_name(args.name).rpartition(".")[0]
    if args.scope == "user":
        return "%s/%s" % (args.user or "~", name)
    return name


def key(args: "Args") -> "str":
    """Return the state key that all calls about a unit share."""
    return "systemd:%s:%s" % (full_name(args.name).rpartition(".")[2], identity(args))
