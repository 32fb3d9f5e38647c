"""The calls of one host: sent without waiting, remembered until they are answered, their failure surfacing in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sloth.engine.events import CHANGED, FAILED, SKIPPED, UNCHANGED, CallFinished, Event, Result
from sloth.errors import CallError, HostError, SlothError
from sloth.transport import Reply, Session

COMMON = ("changed", "failed", "msg", "key", "reason", "diff", "before", "after", "status", "warnings")


class UnknownResult(CallError):
    """A check cannot know what an action that it did not run would have answered."""


@dataclass
class Pending:
    """One call on its way."""

    number: int
    wire_id: int
    name: str
    subject: str
    where: str
    task: str
    session: Session
    epoch: int
    reply: asyncio.Future[Reply]
    begun: float = field(default_factory=time.monotonic)
    destination: Path | None = None  # where a file.fetch goes on the controller


class Calls:
    """What one host was asked, in order. Numbers are this room's own: several sessions share them."""

    def __init__(self, host: str, emit: Callable[[Event], None]) -> None:
        self._host = host
        self._emit = emit
        self._order: list[Pending] = []  # not yet reported, oldest first
        self._all: dict[int, Pending] = {}
        self._failure: CallError | None = None
        self._failed: Pending | None = None
        self._lost: HostError | None = None
        self.epoch = 0
        self.counts = {CHANGED: 0, UNCHANGED: 0, FAILED: 0, SKIPPED: 0}
        self.failed = False  # whether any call ever did

    def forget(self) -> None:
        """A task begins: results of earlier ones stay readable only through what Lua has kept of them."""
        self.counts = dict.fromkeys(self.counts, 0)

    def add(
        self,
        name: str,
        subject: str,
        where: str,
        task: str,
        session: Session,
        sent: tuple[int, asyncio.Future[Reply]],
    ) -> int:
        """Take charge of a call that was just written to the wire as `sent`; return its number."""
        call = Pending(len(self._all), sent[0], name, subject, where, task, session, self.epoch, sent[1])
        self._all[call.number] = call
        self._order.append(call)
        call.reply.add_done_callback(lambda _: self._settle())
        return call.number

    def expect_file(self, number: int, path: Path) -> None:
        """Call `number` fetches a file that goes to `path`."""
        self._all[number].destination = path

    def _settle(self) -> None:
        """Report answered calls, oldest first; what a failed one made the host skip is no result."""
        while self._order and self._order[0].reply.done():
            call = self._order.pop(0)
            if call.reply.cancelled():
                continue
            error = call.reply.exception()
            if error is not None:
                if isinstance(error, HostError) and self._lost is None:
                    self._lost = error
                continue
            reply = call.reply.result()
            if reply.status == SKIPPED:
                continue
            failure = self._call_error(call, reply) if reply.status == FAILED else None
            self.failed = self.failed or failure is not None
            self.counts[reply.status] = self.counts.get(reply.status, 0) + 1
            self._emit(CallFinished(time.time(), self._host, call.task, _result(call, reply, failure)))
            if failure is not None and self._failure is None:
                self._failure, self._failed = failure, call

    def _call_error(self, call: Pending, reply: Reply) -> CallError:
        return CallError(
            reply.error,
            hint=reply.hint,
            where=call.where,
            call=f"{call.name} {call.subject}".rstrip(),
            host=self._host,
            detail=reply.detail,
        )

    def failure(self) -> CallError | None:
        """The failure that has not surfaced yet, if its answer is already here; taking it opens a new epoch."""
        if self._lost is not None:
            raise self._lost
        failure = self._failure
        if failure is not None:
            self._failure = self._failed = None
            self.epoch += 1
        return failure

    async def settled(self) -> CallError | None:
        """Wait for every answer; return the first failure. Raises HostError when the host is lost."""
        while self._order:
            await asyncio.wait([self._order[-1].reply])
            self._settle()
        return self.failure()

    async def result(self, number: int, field_name: str) -> dict[str, Any]:
        """Wait for call `number` and return its result for Lua; raise the CallError that stands before it, if any."""
        call = self._all[number]
        await asyncio.wait([call.reply])
        self._settle()
        failure = self.failure()
        if failure is not None:
            raise failure
        reply = call.reply.result()
        if reply.values.get("_unknown") and field_name not in COMMON:
            hint = "read_only = true runs a command that changes nothing in a check, too"
            raise UnknownResult(
                f"a check does not run this, so its {field_name} is not known",
                hint=hint if call.name == "exec.run" else "",
                where=call.where,
                call=f"{call.name} {call.subject}".rstrip(),
                host=self._host,
            )
        return _lua_result(reply)

    async def cancel(self, grace: float) -> None:
        """Nothing that was asked is wanted any more; wait up to `grace` seconds for the hosts' answers."""
        waiting = [call for call in self._order if not call.reply.done()]
        for session in {call.session for call in waiting}:
            try:
                await session.cancel(self.epoch)
            except SlothError:
                continue  # it is gone; so are its answers
        if waiting:
            await asyncio.wait([call.reply for call in waiting], timeout=grace)
        self._settle()
        self.epoch += 1
        self._failure = None

    @property
    def current(self) -> Pending | None:
        """The call that the host is busy with."""
        return self._order[0] if self._order else None

    def on_wire(self, session: Session, wire_id: int) -> Pending | None:
        """The unanswered call that `session` knows as `wire_id`."""
        return next((call for call in self._order if call.session is session and call.wire_id == wire_id), None)


def _result(call: Pending, reply: Reply, failure: CallError | None) -> Result:
    values = {name: value for name, value in reply.values.items() if not name.startswith("_")}
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
        values=values,
        warnings=reply.warnings,
    )


def _lua_result(reply: Reply) -> dict[str, Any]:
    result: dict[str, Any] = dict(reply.values)
    result.update(
        changed=reply.status == CHANGED,
        failed=reply.status == FAILED,
        status=reply.status,
        msg=reply.msg,
        key=reply.key,
        reason=reply.reason,
        diff=reply.diff,
        before=reply.before,
        after=reply.after,
    )
    return {name: value for name, value in result.items() if value is not None}


def subject_of(args: Mapping[str, Any]) -> str:
    """What a call is about, for people: the first telling argument it has."""
    for name in ("dest", "path", "name", "user", "src", "cmd", "key", "host"):
        value = args.get(name)
        if isinstance(value, str) and value:
            return value if len(value) <= 80 else value[:77] + "..."
        if isinstance(value, list) and value:
            return " ".join(str(item) for item in value)[:80]
    return ""
