"""What a running Lua program requests of the engine, and how it ends."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import SlothError
from sloth.frozen import frozen
from sloth.playbook.regex import Expression

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject


class LogLevel(StrEnum):
    """The level of output. PRINT is print(), whose text is shown as it is."""

    PRINT = "print"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class SharedOp(StrEnum):
    """An operation on shared values and locks."""

    GET = "get"
    SET = "set"
    CAS = "cas"
    DELETE = "delete"
    LIST = "list"
    INCR = "incr"
    LOCK = "lock"
    UNLOCK = "unlock"
    TRY_LOCK = "try_lock"
    # The parts of state.with_lock:
    HOLDER = "holder"  # return a name that no other holder has
    HOLD = "hold"  # take a lock, and renew it until it is released
    RELEASE = "release"


@frozen(eq=False)
class Invoke:
    """Send a call; the answer is its number.

    Attributes:
        protected: the call is inside pcall, so the answer must wait for the reply, and be the failure if it failed.
        rescued: a pcall of the site catches its failure.
        directory: that of the site's file; sources: where files are looked for that the call names by relative paths.
        attempt: 0, or which try it is of a call that may be tried again, or of which the site decides what became
            of it. The answer is a dict then: its number as `id`, and whether to `judge` its `fields`.
        text: the arguments as JSON, of a program of Lua.
    """

    name: str
    args: JsonObject
    where: str
    protected: bool
    rescued: bool
    directory: Path
    sources: tuple[Path, ...]
    attempt: int = 0
    text: bytes = b""


@frozen(eq=False)
class Judge:
    """Take what the functions of call number `call` have returned of its result, by their names.

    The answer is whether it is to be tried again.
    """

    call: int
    answers: JsonObject
    where: str


@frozen(eq=False)
class Fetch:
    """Wait for the result of call number `call`, because the site reads `field`; the answer is a dict."""

    call: int
    field: str
    where: str


@frozen(eq=False)
class Sync:
    """Wait for the replies of all calls."""

    where: str


@frozen(eq=False)
class Output:
    """Show what print() or log.LEVEL() was given."""

    level: LogLevel
    text: str
    where: str


@frozen(eq=False)
class Facts:
    """Gather the host's facts; the answer is a dict of all there are. One without facts is taken for "not known"."""

    where: str


@frozen(eq=False)
class Sleep:
    """Wait for some seconds, after all calls so far; a check does not wait."""

    seconds: float
    where: str


@frozen(eq=False)
class Variable:
    """Evaluate a variable of the host that has Jinja in it; the answer is its value."""

    name: str
    where: str
    directory: Path


@frozen(eq=False)
class HostVars:
    """Return what another host of the inventory is and has; the answer is a dict of its variables, and `host`."""

    host: str
    where: str


@frozen(eq=False)
class HostFacts:
    """Gather the facts of another host of the run; the answer is a dict."""

    host: str
    where: str


@frozen(eq=False)
class Shared:
    """Do state.OP(...); the answer is plain data."""

    op: SharedOp
    args: list[Json]
    where: str


@frozen(eq=False)
class Render:
    """Render the template `source` with the variables `args` besides the host's; the answer is the text.

    directory: that of the site's file; sources: where it is looked for.
    """

    source: str
    args: JsonObject
    where: str
    directory: Path
    sources: tuple[Path, ...]


@frozen(eq=False)
class Evaluate:
    """Evaluate the text `source` as a template with the variables `args` besides the host's.

    The answer is {"value": ...}: of one expression alone what it is, else the text.
    """

    source: str
    args: JsonObject
    where: str
    directory: Path


@frozen(eq=False)
class Matching:
    """Evaluate a regular expression that takes long; the answer is that of Program._match()."""

    expression: Expression
    where: str


@frozen(eq=False)
class Prompt:
    """Return what the user has answered to a question before the run.

    Attributes:
        name: the variable that -e sets instead.
        text: the question.
        secret: whether the answer is not shown, and hidden from then on.
        confirm: whether it is asked for twice.
        default: the answer to an empty line; None: there is none.
        choices: what it must be one of, if any.
    """

    name: str
    text: str
    where: str
    secret: bool = False
    confirm: bool = False
    default: str | None = None
    choices: tuple[str, ...] = ()


@frozen(eq=False)
class Secret:
    """Look up a secret; the answer is its value. directory: that of the file that asks."""

    name: str
    where: str
    directory: Path


@frozen(eq=False)
class Turn:
    """Let other hosts run, and then go on; there is no answer. where: "" """

    where: str = ""


@frozen(eq=False)
class Done:
    """The program came to its end. `value`: whether what it returned is true in Lua; `text`: if it is a string."""

    value: bool = False
    text: str = ""


@frozen(eq=False)
class Error:
    """The program ended with an error that nothing caught.

    `cause`: the error of the Raise answer, when it is that one.
    """

    message: str
    where: str
    traceback: str
    cause: SlothError | None = None
    hint: str = ""


@frozen(eq=False)
class Raise:
    """An answer that raises an error in Lua, which sees it as the string str(error)."""

    error: SlothError


Request = (
    Invoke
    | Judge
    | Fetch
    | Sync
    | Output
    | Facts
    | Sleep
    | Variable
    | HostVars
    | HostFacts
    | Shared
    | Render
    | Evaluate
    | Matching
    | Prompt
    | Secret
    | Turn
    | Done
    | Error
)
