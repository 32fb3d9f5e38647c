"""The calls of one host: sent without waiting, remembered until they are answered, their failure surfacing in order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Any

from sloth.engine.events import CHANGED, FAILED, SKIPPED, UNCHANGED, CallFinished, Event
from sloth.engine.pending import Pending, UnknownResult, in_doubt, lua_result, result_of
from sloth.errors import BecomeError, CallError, HostError, ProtocolError, SlothError, Unreachable, Unresponsive
from sloth.frozen import mutable
from sloth.payload.session.messages import Reply
from sloth.transport import Session

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

__all__ = ["Calls", "Pending", "UnknownResult"]
COMMON = ("changed", "failed", "msg", "key", "reason", "diff", "before", "after", "status", "warnings")


@mutable
class Notes:
    """What is noted of the calls of one task.

    notified: handlers of calls that changed something; withdrawn: those of calls that changed nothing, as the site has
    decided; retried: how often calls were tried again.
    """

    notified: set[str] = field(default_factory=set)
    withdrawn: set[str] = field(default_factory=set)
    retried: int = 0


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
        self.counts = dict.fromkeys((CHANGED, UNCHANGED, FAILED, SKIPPED), 0)
        self.has_failed = False  # whether any call ever did
        self.noted = Notes()
        self.delegates: dict[Session, str] = {}  # sessions with other hosts that were used, and their names

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

    @property
    def next_number(self) -> int:
        return len(self._all)

    def add(self, call: Pending) -> None:
        """Take charge of a call that was just written to the wire."""
        if call.lane and call.session is not None:
            self.delegates[call.session] = call.delegate
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
            if call.is_held:
                continue
            failure = self.report(call, reply)
            self._failure = self._failure or failure

    def report(self, call: Pending, reply: Reply) -> CallError | None:
        """Count and report what became of a call; return its failure."""
        failure = call.error(self._host, reply) if reply.status is FAILED else None
        self.has_failed = self.has_failed or failure is not None
        self.counts[reply.status] = self.counts.get(reply.status, 0) + 1
        if reply.status is CHANGED:
            self._has_changed = True
            self.noted.notified.update(call.notify)
        self._emit(CallFinished(time.time(), self._host, call.task, result_of(call, reply, failure)))
        return failure

    def _may_be_skipped(self, call: Pending) -> bool:
        """Return whether the call was cancelled, or one of its epoch has failed."""
        return call.is_cancelled or self._failure is not None or call.epoch < self.epoch

    def _end_with(self, error: BaseException, call: Pending) -> None:
        """Note that a call will not be answered: the host is lost, or just the call's session."""
        if call.delegate and isinstance(error, HostError):
            self._failure = self._failure or call.session_error(self._host, error)
            self.has_failed = True
        elif isinstance(error, Unreachable):
            self._lost, unknown = in_doubt(self._lost or error, [] if self._lost else [call, *self._order])
            if unknown is not None:
                self._emit(CallFinished(time.time(), self._host, call.task, unknown))
        elif isinstance(error, HostError) and self._failure is None and call.because:
            self._failure = CallError(call.because, where=call.where, call=call.title, host=self._host)
            self.has_failed = True
        elif isinstance(error, HostError) and self._failure is None:
            self._failure = self.session_failure(error, call.where)

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

    async def answered(self, number: int) -> Pending:
        """Wait for call `number`, and return it. Raises the CallError that comes before it, if any, and HostError."""
        call = self._all[number]
        await asyncio.wait([call.reply])
        self._settle()
        self.raise_failure()
        return call

    def raise_failure(self) -> None:
        """Raise the failure that has not surfaced yet, if there is one; see failure()."""
        failure = self.failure()
        if failure is not None:
            raise failure

    async def result(self, number: int, field_name: str) -> JsonObject:
        """Wait for call `number` and return its result for Lua; raise the CallError that comes before it, if any."""
        call = await self.answered(number)
        reply = call.answer()
        if reply.unknown and field_name not in COMMON:
            raise call.unknown(self._host, f"a check does not run this, so its {field_name} is not known")
        return lua_result(reply)

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
            sessions = {call.session: call.lane for call in waiting if call.session is not None}
            awaited += [asyncio.ensure_future(_cancel(*session, self.epoch)) for session in sessions.items()]
            await asyncio.wait(awaited, timeout=grace)
        for call in waiting:
            if not call.reply.done() and call.session is not None:
                text = f"{self._host} has not ended {call.title} within {grace:g} seconds"
                if call.lane and call.session.running != call.wire_id:
                    call.reply.set_exception(Unresponsive(text))  # it has not begun, and others use the session
                else:
                    call.session.end_now(Unresponsive(text))
        self._settle()
        self.epoch += 1
        failure, self._failure = self._failure, None
        return failure

    def needs_sync(self, session: Session) -> bool:
        """Return whether earlier calls must be answered before one goes to `session`: they went to another one."""
        return bool(self._order) and self._order[-1].session is not session

    @property
    def current(self) -> Pending | None:
        """The call that the host is busy with."""
        return self._order[0] if self._order else None

    def on_wire(self, session: Session, wire_id: int) -> Pending | None:
        """Return the unanswered call that `session` knows as `wire_id`."""
        return next((call for call in self._order if call.session is session and call.wire_id == wire_id), None)


async def _cancel(session: Session, lane: str, epoch: int) -> None:
    with contextlib.suppress(SlothError):  # it is lost; so are its answers
        await session.cancel(epoch, lane)


def _did_nothing(call: Pending) -> bool:
    """Return whether the host answered that it did not run an action."""
    if not call.reply.done() or call.reply.cancelled() or call.reply.exception() is not None:
        return False
    return call.reply.result().status in (UNCHANGED, SKIPPED)
