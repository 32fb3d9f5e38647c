"""What queries of a state return, as values: changes, drift, what was taken back, pending handlers, runs.

They have a file of their own because a usual run needs none of them.
"""

from sloth.payload.kernel.record import RecordedCall
from sloth.payload.kernel.status import Reason, Word
from sloth.payload.kernel.value import Value, uses_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Attributes, Diff, JsonObject

__all__ = ("Drift", "DriftStatus", "Handler", "HistoryEntry", "RecordedCall", "RestoreStatus", "Restored", "RunEntry")


class RestoreStatus(Word):
    """What became of one change that was to be rolled back or pruned."""

    DONE = "done"
    PLANNED = "planned"
    REFUSED = "refused"
    FAILED = "failed"


class DriftStatus(Word):
    """What a look for drift found of one record."""

    DRIFT = "drift"
    CLEAN = "clean"
    UNKNOWN = "unknown"
    FROZEN = "frozen"


uses_words(DriftStatus, Reason, RestoreStatus)


class HistoryEntry(Value):
    """One change of one resource, as history and rollback read it."""

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
    was: "JsonObject | None" = None  # the record before the change (Record.former), None: there was none


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
    """What became of taking back one change, of removing one orphan, or of running a handler again (its name)."""

    key: "str"
    status: "RestoreStatus"
    task: "str | None" = None
    msg: "str" = ""
    diff: "Diff" = {}
    handler: "str" = ""


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
