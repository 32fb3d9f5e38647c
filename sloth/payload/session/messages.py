"""The messages that controller and payload exchange: declared once for both ends, checked when they are read."""

from sloth.payload.kernel.record import Asset, ReplicaChange, ReplicaPosition
from sloth.payload.kernel.status import FailureKind, Reason, Status
from sloth.payload.kernel.value import InvalidValue, Value, uses_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Mapping

    from sloth.payload.kernel.findings import Restored
    from sloth.payload.kernel.values import Arguments, Attributes, Diff, Json, JsonObject

VERSION = 2
uses_words(FailureKind, Reason, Status)


class Message(Value):
    """Base of messages; `TYPE` is what the field "t" of their frame says."""

    TYPE: "ClassVar[str]" = ""


# From the controller


class Hello(Message):
    """The first message: what this session is for."""

    TYPE = "hello"
    v: "int"
    agent: "str"
    run: "str" = ""
    site: "str" = ""  # the site's identity; "": no run, only queries
    who: "str" = ""
    origin: "str" = ""
    check: "bool" = False
    adopt: "bool" = False
    readonly: "bool" = False
    lock_wait: "float" = 0.0  # seconds
    link: "int" = 0  # how many times this run has lost its connection to the host
    replica: "ReplicaPosition | None" = None
    shared: "bool" = False  # other sessions of this run may write to the same state file
    machine: "str" = ""  # which the host is, as the session before has found; see lib/boot.py


class Call(Message):
    """A call to make. Its pushed assets came before it.

    lane: the host for which it is made, where that is another one ("delegated"): epochs are counted for each lane.
    """

    TYPE = "call"
    id: "int"
    epoch: "int"
    name: "str"
    args: "Arguments"
    assets: "list[Asset]" = []
    task: "str" = ""
    where: "str" = ""
    notify: "list[str]" = []
    sensitive: "bool" = False
    check: "bool" = False  # only report what it would do, in a session that is not for a check
    masked: "bool" = False  # nothing of its arguments and results may be recorded or shown
    environment: "dict[str, str]" = {}
    lane: "str" = ""


class Secrets(Message):
    """Values that the host must neither store nor show from now on."""

    TYPE = "secrets"
    values: "list[str]"


class Cancel(Message):
    """Interrupt the running command, and skip every call of this epoch or an earlier one, in this lane."""

    TYPE = "cancel"
    epoch: "int"
    lane: "str" = ""


class StateQuery(Message):
    """A query of the state: `op` is a method of session/queries.py, or "orphans"."""

    TYPE = "query"
    id: "int"
    op: "str"
    args: "JsonObject" = {}


class Stored(Message):
    """The answer to a fetched file: the controller has stored it, or why it could not."""

    TYPE = "stored"
    id: "int"
    error: "str" = ""
    hint: "str" = ""


class Ping(Message):
    """A sign of life."""

    TYPE = "ping"


class Evaluation(Value):
    """The whole of the site was evaluated; `spared` are the tasks and handlers that had no reason to run."""

    spared: "list[str]" = []


class Close(Message):
    """Commit, answer with Bye and end. `evaluation`: given when all of the site was evaluated, to find orphans."""

    TYPE = "close"
    evaluation: "Evaluation | None" = None
    replica: "bool" = True  # whether Bye shall carry what the controller's replica lacks


# From the payload


class LockHolder(Value):
    """Who holds the run lock of a host. `since` is in epoch seconds."""

    run: "str" = ""
    who: "str" = ""
    origin: "str" = ""
    pid: "int" = 0
    since: "int" = 0
    link: "int" = 0  # that of its Hello


class Ready(Message):
    """The session is open."""

    TYPE = "ready"
    v: "int"
    python: "str" = ""
    user: "str" = ""
    home: "str" = ""
    pid: "int" = 0
    handlers: "list[str]" = []  # names of handlers that an earlier run has left to run
    set_aside: "str | None" = None  # where a damaged state file was moved
    reverted: "list[JsonObject]" = []  # what the host has taken back by itself, since nobody confirmed it
    machine: "str" = ""


class Waiting(Message):
    """Another run holds the host; we wait."""

    TYPE = "waiting"
    holder: "LockHolder"


class Reply(Message):
    """The answer to a call."""

    TYPE = "reply"
    id: "int"
    status: "Status"
    key: "str" = ""
    reason: "Reason" = Reason.NONE
    msg: "str" = ""
    diff: "Diff | None" = None
    values: "Attributes" = {}
    before: "Attributes | None" = None
    after: "Attributes | None" = None
    unknown: "bool" = False  # a check cannot know the values
    error: "str" = ""
    hint: "str" = ""
    detail: "str" = ""
    invalid: "bool" = False  # the arguments were invalid
    warnings: "list[str]" = []
    seconds: "float" = 0.0


class Need(Message):
    """Send the content of an asset."""

    TYPE = "need"
    id: "int"
    index: "int"


class Output(Message):
    """A running command printed something."""

    TYPE = "output"
    id: "int"
    stream: "str"
    data: "str"


class Rows(Message):
    """A page of the answer to a StateQuery."""

    TYPE = "rows"
    id: "int"
    rows: "list[JsonObject]" = []
    more: "bool" = False
    error: "str" = ""
    hint: "str" = ""
    not_found: "bool" = False  # the error is NotFound


class Fail(Message):
    """The session cannot go on."""

    TYPE = "fail"
    kind: "FailureKind"
    error: "str"
    hint: "str" = ""
    detail: "str" = ""
    holder: "LockHolder | None" = None  # with kind LOCKED


class ReplicaPage(Message):
    """Records that the controller's replica lacks."""

    TYPE = "replica"
    rows: "list[JsonObject]"


class Alive(Message):
    """A sign of life, whatever the payload is busy with: without one for long, its host is lost."""

    TYPE = "alive"


class Bye(Message):
    """All is committed."""

    TYPE = "bye"
    replica: "ReplicaChange | None" = None
    orphans: "list[Restored]" = []  # what the site no longer names, and what pruning it would do


def recorded_site(site: "str", lane: "str") -> "str":
    """Return the name of a site under which a host records calls of a lane (see Call).

    What is done on it for another host is its own, but its own evaluation of the site cannot name that.
    """
    return "%s (for %s)" % (site, lane) if site and lane else site


def _by_type(*classes: "type[Message]") -> "dict[str, type[Message]]":
    return dict((cls.TYPE, cls) for cls in classes)


FROM_CONTROLLER = _by_type(Hello, Call, Secrets, Cancel, StateQuery, Stored, Ping, Close)
FROM_PAYLOAD = _by_type(Ready, Waiting, Reply, Need, Output, Rows, Fail, ReplicaPage, Alive, Bye)


def read(frame: "Json", types: "Mapping[str, type[Message]]") -> "Message":
    """Return the message of a JSON frame, one of `types`. Raises InvalidValue, which names what is wrong."""
    kind = frame.get("t") if isinstance(frame, dict) else None
    if not isinstance(kind, str):
        raise InvalidValue("a message without a type")
    if kind not in types:
        raise InvalidValue("unknown message type %r" % kind[:40])
    return types[kind].read(frame)
