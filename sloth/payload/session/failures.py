"""Explains exceptions to the controller: what failed, what helps, and where a defect is."""

import os
import traceback

from sloth.payload.kernel.errors import Failed, NotFound, PayloadError, StoreError, WrongMachine
from sloth.payload.kernel.status import FailureKind
from sloth.payload.session.messages import Fail, Rows
from sloth.payload.session.run_lock import HeldByOther
from sloth.payload.session.wire import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.lib.host import Host
    from sloth.payload.session.messages import StateQuery

DETAIL = 8000  # characters of a traceback, from its end
KINDS = {StoreError: FailureKind.STATE, WrongMachine: FailureKind.MACHINE, WireError: FailureKind.PROTOCOL}


def explain(error: "Exception", host: "Host") -> "tuple[str, str, str]":
    """Return what a reply reports of an exception that a call raised: error, hint, detail."""
    if isinstance(error, Failed):
        return error.message, error.hint, error.detail
    if isinstance(error, OSError) and error.errno is not None:
        path = error.filename
        subject = " '%s'" % (os.fsdecode(path) if isinstance(path, bytes) else path) if path else ""
        hint = ""
        if error.errno in (1, 13) and host.uid != 0:
            hint = "set become = true on the task or the host"
        elif error.errno == 28:
            hint = "free some space on the host"
        return "%s (errno %d)%s" % (os.strerror(error.errno), error.errno, subject), hint, ""
    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        _, is_module, path = frame[0].rpartition("/payload/modules/")
        if is_module:
            where = "modules/%s:%d: " % (path, frame[1])
    return (
        "%s%s: %s" % (where, type(error).__name__, error),
        "this is a defect of sloth-runner or of a custom module",
        _traceback(error),
    )


def explain_query(query: "StateQuery", error: "Exception") -> "Rows":
    """Return the answer to a query that cannot be answered."""
    if isinstance(error, PayloadError):
        not_found = isinstance(error, NotFound)
        return Rows(id=query.id, error=error.message, hint=error.hint, not_found=not_found)
    # It has arguments that no controller sends.
    text = "the query %s cannot be answered: %s: %s" % (query.op, type(error).__name__, error)
    return Rows(id=query.id, error=text)


def fail_message(error: "Exception") -> "Fail":
    """Return the message that ends a session because of an exception."""
    if isinstance(error, HeldByOther):
        return Fail(kind=FailureKind.LOCKED, error=error.message, holder=error.holder)
    if isinstance(error, (StoreError, WrongMachine, WireError)):
        kind = next(kind for cls, kind in KINDS.items() if isinstance(error, cls))
        return Fail(kind=kind, error=error.message, hint=error.hint)
    text = "%s: %s" % (type(error).__name__, error)
    hint = error.hint if isinstance(error, PayloadError) else ""
    return Fail(kind=FailureKind.CRASH, error=text, hint=hint, detail=_traceback(error))


def _traceback(error: "Exception") -> "str":
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))[-DETAIL:]
