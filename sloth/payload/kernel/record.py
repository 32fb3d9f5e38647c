"""What the kernel remembers and answers, as values: the state file keeps them, the wire carries them."""

from sloth.payload.kernel.status import DriftStatus, Reason, RestoreStatus, Status
from sloth.payload.kernel.value import Value, uses_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Attributes, Diff, Json

uses_words(DriftStatus, Reason, RestoreStatus, Status)


class Asset(Value):
    """A file (or, with `dir`, a directory) that the controller ships with a call."""

    name: "str" = ""  # its path relative to the copied tree, or its base name
    sha256: "str" = ""
    size: "int" = 0
    mode: "str" = ""
    dir: "bool" = False
    pushed: "bool" = False  # its bytes come without being asked for


class RecordedCall(Value):
    """A call as it is recorded, so that it can be made again without the site.

    Arguments that are secrets, or contain one, are keyed hashes: {"secret": hex}.
    """

    name: "str"
    args: "Arguments"
    assets: "list[Asset]" = []
    sensitive: "bool" = False  # there are secrets in it, of which the host must keep nothing


class Record(Value):
    """What is remembered of one resource. Times are epoch seconds."""

    key: "str"
    module: "str"
    type: "str"
    id: "str"
    checksum: "str"
    desired: "Attributes | None" = None
    observed: "Attributes | None" = None
    site: "str | None" = None
    task: "str | None" = None
    place: "str | None" = None  # the line of the site, "site.sloth:12"
    created_at: "int"
    changed_at: "int"
    checked_at: "int"
    run: "str | None" = None
    seq: "int" = 0
    calls: "list[RecordedCall] | None" = None
    before_first_change: "list[Json] | None" = None  # [what was there]; None when we have changed nothing yet
    orphaned: "int | None" = None


class HistoryEntry(Value):
    """One change of one resource."""

    id: "int" = 0
    key: "str"
    at: "int"
    run: "str | None" = None
    reason: "Reason"
    before: "Attributes | None" = None
    after: "Attributes | None" = None
    diff: "Diff | None" = None
    site: "str | None" = None
    task: "str | None" = None
    who: "str | None" = None
    origin: "str | None" = None
    call: "RecordedCall | None" = None
    was: "Record | None" = None  # the record before the change


class Context(Value):
    """On whose behalf a call is made: for the record, and for the handlers that must follow a change."""

    run: "str" = ""
    site: "str" = ""
    who: "str" = ""
    origin: "str" = ""
    task: "str" = ""
    where: "str" = ""  # the line of the site, "site.sloth:12"
    notify: "list[str]" = []
    sensitive: "bool" = False
    adopt: "bool" = False  # record what is there, and fail where it is not as desired


class Outcome(Value):
    """What became of a call; everything in it may be shown and stored."""

    status: "Status"
    reason: "Reason" = Reason.NONE
    msg: "str" = ""
    diff: "Diff | None" = None
    values: "Attributes" = {}
    before: "Attributes | None" = None
    after: "Attributes | None" = None
    unknown: "bool" = False  # a check cannot know the values


class Drift(Value):
    """One record that differs from the host, or of which that is not known; or how many do not (CLEAN, `count`)."""

    status: "DriftStatus"
    key: "str" = ""
    diff: "Diff" = {}  # attribute -> applied, found, and unified for texts
    msg: "str" = ""
    site: "str | None" = None
    task: "str | None" = None
    place: "str | None" = None
    run: "str | None" = None
    changed_at: "int" = 0
    count: "int" = 0


class Restored(Value):
    """What became of taking back one change, or removing one orphan."""

    key: "str"
    status: "RestoreStatus"
    task: "str | None" = None
    msg: "str" = ""
    diff: "Diff" = {}


class Handler(Value):
    """A handler that must still run."""

    site: "str"
    name: "str"
    since: "int"
    run: "str | None" = None
    task: "str | None" = None
    key: "str | None" = None


class RunEntry(Value):
    """A run as the host remembers it."""

    run: "str"
    site: "str | None" = None
    who: "str | None" = None
    origin: "str | None" = None
    started: "int"
    finished: "int | None" = None
    changes: "int" = 0
