"""A call on its way, and what its reply means: for events, for errors, and for Lua."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.events import CHANGED, FAILED, UNKNOWN, Handled, Result
from sloth.errors import CallError, ConnectionLost, HostError, SlothError
from sloth.frozen import mutable
from sloth.payload.kernel.redact import MASK
from sloth.payload.session.messages import Reply
from sloth.playbook import Invoke
from sloth.transport import Session

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

HIDDEN = "it failed; its output is hidden, since the call is sensitive"


class UnknownResult(CallError):
    """A check cannot know what an action that it did not run would have answered."""


@mutable
class Pending:
    """One call on its way.

    Attributes:
        number: counted per host, since several sessions share it.
        subject: what it is about, MASK for a sensitive one.
        lane, delegate: for a call that is made on another host, `delegate`, the host for which it is; else "".
        notify: the handlers of the call itself, besides those of its task.
        is_held: what it did is decided by the site, so its reply is no result yet.
    """

    number: int
    wire_id: int
    name: str
    subject: str
    where: str
    task: str
    session: Session | None  # None: it was answered without one
    epoch: int
    reply: asyncio.Future[Reply]
    unknown_hint: str = ""  # what helps where a check cannot know the result
    handled: Handled = Handled.NONE  # what becomes of its failure
    destination: Path | None = None  # where a file that it fetches goes on the controller
    is_repeatable: bool = False  # it may run twice: it is no action
    because: str = ""  # why it was cancelled
    is_cancelled: bool = False
    begun: float = field(default_factory=time.monotonic)
    lane: str = ""
    delegate: str = ""
    notify: tuple[str, ...] = ()
    is_sensitive: bool = False
    is_held: bool = False
    decided: Reply | None = None  # the reply as the site has decided it

    @property
    def title(self) -> str:
        """The call as people name it: "file.copy /etc/motd"."""
        return f"{self.name} {self.subject}".rstrip()

    def answer(self) -> Reply:
        """Return the reply, which is there. Raises HostError when the session has ended without it."""
        return self.decided if self.decided is not None else self.reply.result()

    def error(self, host: str, reply: Reply) -> CallError:
        """Return the failure that a reply reports."""
        text, hint, detail = reply.error, reply.hint, reply.detail
        if self.is_sensitive:
            text, hint, detail = HIDDEN, "", ""
        where = on_host(host, self.delegate)
        return CallError(self.because or text, hint=hint, where=self.where, call=self.title, host=where, detail=detail)

    def unknown(self, host: str, text: str) -> UnknownResult:
        """Return what ends a task in a check that needs to know the result."""
        return UnknownResult(text, hint=self.unknown_hint, where=self.where, call=self.title, host=host)

    def session_error(self, host: str, error: HostError) -> CallError:
        """Return the failure of a delegated call whose session has ended."""
        return delegate_error(host, self.delegate, self.title, self.where, error, self.because)


def on_host(host: str, delegate: str) -> str:
    """Return where a call is made, in words."""
    return f"{delegate} (for {host})" if delegate else host


def delegate_error(host: str, delegate: str, title: str, where: str, error: HostError, because: str = "") -> CallError:
    """Return the failure of a call whose delegate cannot be reached, or was lost: only that call has failed of it."""
    text = because or error.message.removeprefix(f"{delegate}: ")
    return CallError(text, hint=error.hint, where=where, call=title, host=on_host(host, delegate))


def result_of(call: Pending, reply: Reply, failure: CallError | None) -> Result:
    """Return the result that is reported of a call."""
    if call.is_sensitive:
        reply = reply.replace(msg="", diff=None, detail="", values={}, warnings=[])
    return Result(
        key=reply.key or f"{call.name.replace('.', ':')}:{call.subject}",
        module=call.name,
        status=reply.status,
        reason=reply.reason,
        msg=reply.msg,
        subject=call.subject,
        diff=reply.diff,
        where=call.where,
        seconds=reply.seconds,
        error=str(failure) if failure else "",
        detail=reply.detail,
        values=reply.values,
        warnings=tuple(reply.warnings),
        handled=call.handled if failure else Handled.NONE,
        delegated_to=call.delegate,
    )


def unsent_result(request: Invoke, error: SlothError, subject: str, handled: Handled) -> Result:
    """Return the result of a call that no host got; subject: "" where only the error has it."""
    if not subject and isinstance(error, CallError):
        subject = error.call.partition(" ")[2]
    return Result(
        key=f"{request.name.replace('.', ':')}:{subject}",
        module=request.name,
        status=FAILED,
        subject=subject,
        where=request.where,
        error=str(error),
        handled=handled,
    )


def lua_result(reply: Reply) -> JsonObject:
    """Return the result of a call as Lua gets it."""
    result = dict(reply.values)
    result.update(
        changed=reply.status is CHANGED,
        failed=reply.status is FAILED,
        status=reply.status.value,
        msg=reply.msg,
        key=reply.key,
        reason=reply.reason.value,
        diff=reply.diff,
        before=reply.before,
        after=reply.after,
    )
    if reply.unknown:
        result["_unknown"] = True  # the proxy asks again for each field
    return {name: value for name, value in result.items() if value is not None}


def masked_subject(subject: str) -> str:
    """Return what a sensitive call is said to be about."""
    return MASK if subject else ""


def in_doubt(error: HostError, calls: Sequence[Pending]) -> tuple[HostError, Result | None]:
    """Return the error of a lost host, and the result of the first action of which nobody knows whether it was done.

    calls: those that were not answered, oldest first.
    """
    action = next((call for call in calls if not call.is_repeatable and not call.delegate), None)
    if action is None or action.is_cancelled:
        return error, None
    text = f"whether {action.title} was done is not known"
    key = f"{action.name.replace('.', ':')}:{action.subject}"
    unknown = Result(key=key, module=action.name, status=UNKNOWN, subject=action.subject, where=action.where, msg=text)
    hint = f"look at the host before you run {action.where} again" + (f"; {error.hint}" if error.hint else "")
    return ConnectionLost(f"{error.message}; {text}", hint=hint), unknown
