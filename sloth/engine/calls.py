"""The calls of one host: sent without waiting, remembered until they are answered, their failure surfacing in order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sloth.engine.events import CHANGED, FAILED, SKIPPED, UNCHANGED, CallFinished, Event, Handled, Result
from sloth.errors import BecomeError, CallError, HostError, ProtocolError, SlothError, Unreachable, Unresponsive
from sloth.payload.session.messages import Reply
from sloth.transport import Session

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

COMMON = ("changed", "failed", "msg", "key", "reason", "diff", "before", "after", "status", "warnings")


class UnknownResult(CallError):
    """A check cannot know what an action that it did not run would have answered."""


@dataclass
class Pending:
    """One call on its way; number: counted per host, since several sessions share it."""

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

    @property
    def title(self) -> str:
        """The call as people name it: "file.copy /etc/motd"."""
        return f"{self.name} {self.subject}".rstrip()


class Calls:
    """What one host was asked to do, in order."""

    def __init__(self, host: str, emit: Callable[[Event], None], check: bool = False) -> None:
        self._host = host
        self._emit = emit
        self._check = check
        self._attempt: list[Pending] = []  # those of the present attempt at a task
        self.is_sending_action = False  # an action is being written, and may run though add() is never called
        self._has_changed = False  # whether any call changed something, or would
        self._order: list[Pending] = []  # not yet reported, oldest first
        self._all: dict[int, Pending] = {}
        self._failure: CallError | None = None
        self._lost: HostError | None = None
        self.epoch = 0
        self.counts = {CHANGED: 0, UNCHANGED: 0, FAILED: 0, SKIPPED: 0}
        self.has_failed = False  # whether any call ever did

    def begin_attempt(self) -> None:
        """Begin to count anew, for a task."""
        self.counts = dict.fromkeys(self.counts, 0)
        self._attempt = []
        self.is_sending_action = False

    def may_repeat(self) -> bool:
        """Return whether the calls of this attempt may be made again, though some answers are missing.

        They may if none of them is an action that has run, or may have.
        """
        return not self.is_sending_action and all(call.is_repeatable or _did_nothing(call) for call in self._attempt)

    def forget_lost(self) -> None:
        """Go on after the connection was lost: what was not answered will not be."""
        self._order.clear()
        self._lost = None
        self._failure = None
        self.epoch += 1

    def session_failure(self, error: HostError, where: str) -> CallError:
        """Return the failure of the call at `where`, whose session could not start or broke."""
        text = error.message.removeprefix(f"{self._host}: ")
        if self._check and self._has_changed and isinstance(error, BecomeError) and error.is_missing:
            # As with everything else that an earlier call may bring: see "Checks" in docs/architecture.md.
            return UnknownResult(f"a check cannot know what this would do: {text}", where=where, host=self._host)
        self.has_failed = True
        return CallError(text, hint=error.hint, where=where, host=self._host)

    def next_number(self) -> int:
        """Return the number of the next call."""
        return len(self._all)

    def add(self, call: Pending) -> None:
        """Take charge of a call that was just written to the wire."""
        self._all[call.number] = call
        self._order.append(call)
        self._attempt.append(call)
        self.is_sending_action = False
        call.reply.add_done_callback(lambda _: self._settle())

    def _settle(self) -> None:
        """Report answered calls, oldest first; what the host skipped after a failure is no result."""
        while self._order and self._order[0].reply.done():
            call = self._order.pop(0)
            if call.reply.cancelled():
                continue
            error = call.reply.exception()
            if error is not None:
                self._end_with(error, call)
                continue
            reply = call.reply.result()
            if reply.status is SKIPPED and self._may_be_skipped(call):
                continue
            if reply.status is SKIPPED:
                self._end_with(ProtocolError(f"{self._host} skipped {call.title} for no reason"), call)
                continue
            failure = self._call_error(call, reply) if reply.status is FAILED else None
            self.has_failed = self.has_failed or failure is not None
            self.counts[reply.status] = self.counts.get(reply.status, 0) + 1
            self._has_changed = self._has_changed or reply.status is CHANGED
            if failure is not None and self._failure is None:
                self._failure = failure
            self._emit(CallFinished(time.time(), self._host, call.task, _result(call, reply, failure)))

    def _may_be_skipped(self, call: Pending) -> bool:
        """Return whether the call was cancelled, or one of its epoch has failed."""
        return call.is_cancelled or self._failure is not None or call.epoch < self.epoch

    def _end_with(self, error: BaseException, call: Pending) -> None:
        """Note that a call will not be answered: the host is lost, or just the call's session."""
        if isinstance(error, Unreachable):
            self._lost = self._lost or error
        elif isinstance(error, HostError) and self._failure is None and call.because:
            self._failure = CallError(call.because, where=call.where, call=call.title, host=self._host)
            self.has_failed = True
        elif isinstance(error, HostError) and self._failure is None:
            self._failure = self.session_failure(error, call.where)

    def _call_error(self, call: Pending, reply: Reply) -> CallError:
        return CallError(
            call.because or reply.error,
            hint=reply.hint,
            where=call.where,
            call=call.title,
            host=self._host,
            detail=reply.detail,
        )

    def failure(self) -> CallError | None:
        """Return the failure that has not surfaced yet, if its answer is here; taking it opens a new epoch.

        Raises HostError when the host is lost.
        """
        if self._lost is not None:
            raise self._lost
        failure = self._failure
        if failure is not None:
            self._failure = None
            self.epoch += 1
        return failure

    async def settled(self) -> CallError | None:
        """Wait for every answer; return the first failure. Raises HostError when the host is lost."""
        while self._order:
            await asyncio.wait([self._order[-1].reply])
            self._settle()
        return self.failure()

    async def sync(self) -> None:
        """Wait for every answer. Raises the first failure, and HostError when the host is lost."""
        failure = await self.settled()
        if failure is not None:
            raise failure

    async def result(self, number: int, field_name: str) -> JsonObject:
        """Wait for call `number` and return its result for Lua; raise the CallError that comes before it, if any."""
        call = self._all[number]
        await asyncio.wait([call.reply])
        self._settle()
        failure = self.failure()
        if failure is not None:
            raise failure
        reply = call.reply.result()
        if reply.unknown and field_name not in COMMON:
            raise UnknownResult(
                f"a check does not run this, so its {field_name} is not known",
                hint=call.unknown_hint,
                where=call.where,
                call=call.title,
                host=self._host,
            )
        return _lua_result(reply)

    async def cancel(self, grace: float, because: str = "") -> CallError | None:
        """Cancel whatever was asked; wait up to `grace` seconds for the host's answers.

        because: the error of the call that is ended, instead of the host's own. Return the first failure.
        """
        waiting = [call for call in self._order if not call.reply.done()]
        for call in waiting:
            call.because = because
            call.is_cancelled = True
        if waiting:
            awaited: list[asyncio.Future[Any]] = [call.reply for call in waiting]
            awaited += [
                asyncio.ensure_future(_cancel(session, self.epoch))
                for session in {c.session for c in waiting}
                if session
            ]
            await asyncio.wait(awaited, timeout=grace)
        for call in waiting:
            if not call.reply.done() and call.session is not None:
                text = f"{self._host} has not ended {call.title} within {grace:g} seconds"
                call.session.end_now(Unresponsive(text))
        self._settle()
        self.epoch += 1
        failure, self._failure = self._failure, None
        return failure

    @property
    def current(self) -> Pending | None:
        """The call that the host is busy with."""
        return self._order[0] if self._order else None

    def on_wire(self, session: Session, wire_id: int) -> Pending | None:
        """Return the unanswered call that `session` knows as `wire_id`."""
        return next((call for call in self._order if call.session is session and call.wire_id == wire_id), None)


async def _cancel(session: Session, epoch: int) -> None:
    with contextlib.suppress(SlothError):  # it is lost; so are its answers
        await session.cancel(epoch)


def _did_nothing(call: Pending) -> bool:
    """Return whether the host answered that it did not run an action."""
    if not call.reply.done() or call.reply.cancelled() or call.reply.exception() is not None:
        return False
    return call.reply.result().status in (UNCHANGED, SKIPPED)


def _result(call: Pending, reply: Reply, failure: CallError | None) -> Result:
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
    )


def _lua_result(reply: Reply) -> JsonObject:
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
