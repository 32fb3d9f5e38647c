"""Calls of which the site decides what became of them, and which are tried again: until, changed_when, failed_when."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sloth.engine.call_options import CallOptions
from sloth.engine.calls import Calls
from sloth.engine.context import RunContext
from sloth.engine.events import CHANGED, FAILED, UNCHANGED, Handled
from sloth.engine.pending import Pending, lua_result
from sloth.errors import HostError
from sloth.payload.kernel.status import Reason
from sloth.payload.session.messages import Reply, recorded_site
from sloth.playbook import Invoke, Judge

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject
    from sloth.transport import Session

TAIL = 20  # lines of a command's output that an error shows


class Judging:
    """The calls of one host that are answered, and not decided yet."""

    def __init__(self, context: RunContext, host: str, calls: Calls) -> None:
        self._context = context
        self._host = host
        self._calls = calls
        self._open: dict[int, tuple[Pending, Verdict]] = {}  # by the number of the call

    async def hold(self, request: Invoke, options: CallOptions, number: int) -> JsonObject:
        """Wait for a call's reply; return what its functions are called with, if they are."""
        pending = await self._calls.answered(number)
        reply = pending.reply.result()
        if reply.status is FAILED:
            self._calls.epoch += 1  # the host skips the later calls of this one
        verdict = Verdict(options, request.attempt, reply, self._context.options.check)
        self._open[number] = pending, verdict
        return {"id": number, "judge": verdict.is_open, "fields": verdict.fields}

    async def judge(self, request: Judge, notify: tuple[str, ...]) -> bool:
        """Take what a call's functions have returned; return whether it is to be tried again.

        notify: the handlers of its task. Raises its failure when it has failed for good.
        """
        pending, verdict = self._open.pop(request.call)
        decided = verdict.decide(request.answers)
        if verdict.is_unknown:
            raise pending.unknown(self._host, "a check does not wait for `until`")
        if verdict.is_again:
            self._calls.noted.retried += 1
            pending.handled = Handled.RETRIED
            self._calls.report(pending, decided)
            await asyncio.sleep(verdict.delay)
            return True
        pending.decided = decided
        names = {*notify, *pending.notify}
        if verdict.has_withdrawn:
            self._calls.noted.withdrawn.update(names)
        failure = self._calls.report(pending, decided)
        if failure is not None:
            raise failure
        if verdict.has_added and names and not self._context.options.check:
            await self._owe(pending, names)
        return False

    async def _owe(self, pending: Pending, names: Iterable[str]) -> None:
        """Let the host of a call remember its handlers. Raises CallError for a delegate, HostError otherwise."""
        assert pending.session is not None  # a call that is decided was sent
        assert pending.decided is not None
        site = self._context.identity
        site = recorded_site(site, self._host) if pending.delegate else site
        try:
            await owe(self._context, pending.session, site, pending.task, names, pending.decided.key)
        except HostError as error:
            if not pending.delegate:
                raise
            raise pending.session_error(self._host, error) from error


class Verdict:
    """What becomes of one try of a call, by its reply and by what the site says of it.

    Attributes:
        is_open: whether its functions are to be called; a check does not know the result of what did not run.
        is_again: whether it is tried again.
        is_unknown: whether a check cannot know if it would.
        has_withdrawn: whether the host has noted handlers for a change that is none.
        has_added: whether it has noted none for a change that is one, as the site has decided.
    """

    def __init__(self, options: CallOptions, attempt: int, reply: Reply, check: bool) -> None:
        self._options = options
        self._attempt = attempt
        self._reply = reply
        self._check = check
        self.is_open = not reply.unknown and bool(options.is_function)
        self.is_again = self.is_unknown = self.has_withdrawn = self.has_added = False

    @property
    def fields(self) -> JsonObject:
        """The result that the functions are called with."""
        return {**lua_result(self._reply), "msg": self._reply.msg or self._reply.error}

    @property
    def delay(self) -> float:
        return self._options.delay

    def decide(self, answers: Mapping[str, Json]) -> Reply:
        """Return the reply as it counts; answers: of the functions, and `error` when one of them failed."""
        reply, options = self._reply, self._options
        if reply.unknown:
            return reply
        failed = self._first(answers.get("failed_when"), options.failed_when, reply.status is FAILED)
        changed = self._first(answers.get("changed_when"), options.changed_when, reply.status is CHANGED)
        text = "" if reply.status is not FAILED else reply.error
        if answers.get("error"):
            failed, text = True, str(answers["error"])
        holds = not options.has_until or bool(answers.get("until"))
        if not failed and not holds and self._check:
            self.is_unknown = True
            return reply
        if (failed or not holds) and self._attempt <= options.retries and not (self._check or answers.get("error")):
            self.is_again = True
        if not failed and not holds:
            failed, text = True, "`until` does not hold"
        if not failed:
            self.has_withdrawn = reply.status is CHANGED and not changed
            self.has_added = reply.status is not CHANGED and changed
            status = CHANGED if changed else UNCHANGED
            return reply.replace(
                status=status, reason=self._reason(reply, changed), error="", hint="", detail="", unknown=False
            )
        return reply.replace(status=FAILED, error=text or "failed_when holds", detail=reply.detail or _tail(reply))

    @staticmethod
    def _first(answer: Json, option: bool | None, otherwise: bool) -> bool:
        if answer is not None:
            return bool(answer)
        return otherwise if option is None else option

    @staticmethod
    def _reason(reply: Reply, changed: bool) -> Reason:
        if not changed:
            return Reason.NONE
        return reply.reason if reply.reason is not Reason.NONE else Reason.RUN


async def owe(context: RunContext, session: Session, site: str, task: str, names: Iterable[str], key: str = "") -> None:
    """Let a host remember the handlers of a change that only the site knows of: the run may not come to its end.

    key: of the call. Raises HostError.
    """
    shown = context.secrets.redact({"site": site, "names": sorted(names), "task": task, "key": key})
    await session.query("owe", shown)


def _tail(reply: Reply) -> str:
    """Return the end of what a command printed, as errors show it."""
    text = reply.values.get("stderr") or reply.values.get("stdout") or ""
    return "\n".join(str(text).splitlines()[-TAIL:])
