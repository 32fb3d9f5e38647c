"""A host that goes away on purpose and comes back: host.reboot and host.wait, in the middle of a run."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from sloth.engine.calls import Calls
from sloth.engine.context import RunContext
from sloth.engine.events import HostPhase, Phase, PhaseKind
from sloth.engine.host_sessions import HostSessions
from sloth.engine.pending import Pending
from sloth.errors import CallError, HostError, HostKeyError, ProtocolError, StateError, WrongMachine
from sloth.inventory import ConnectionType, Host
from sloth.payload.kernel.status import Reason, Status
from sloth.payload.session.messages import Call, Reply

if TYPE_CHECKING:
    from sloth.engine.call_options import CallOptions
    from sloth.engine.interpreter import Interpreter
    from sloth.payload.kernel.resource import Action
    from sloth.payload.kernel.values import Arguments, JsonObject
    from sloth.playbook import Invoke
    from sloth.transport import Session

LEAVING = 15.0  # seconds that a host has to end the connection by itself once it reboots
PAUSE = 1.0  # seconds between two attempts
QUERY = 20.0  # seconds for a query of a session that was just opened
UNCHANGED = "it answers, and has not booted again"


class Reconnection:
    """Lets one host come back."""

    def __init__(self, context: RunContext, host: Host, sessions: HostSessions, calls: Calls) -> None:
        self._context = context
        self._host = host
        self._sessions = sessions
        self._calls = calls
        self.is_partial = False  # it is not known any more what a session has named

    async def reboot(self, account: str, call: Call, title: str, args: Arguments) -> Reply:
        """Make a call that reboots the host, wait until it is back, and open all sessions again; return the reply.

        The sessions know what the site has named, as before. Raises HostError.
        """
        begun = time.monotonic()
        session = await self._sessions.get(account or False, call.task)
        named = await self._named()
        boot = await self._boot(session)
        key = "host:reboot:reboot"
        if not boot.strip("/"):
            text = f"it cannot be known when {self._host.name} has booted again: its /proc cannot be read"
            hint = "nothing was done; run the command that reboots it, and use host.wait"
            return Reply(id=0, status=Status.FAILED, error=text, hint=hint, key=key)
        await asyncio.sleep(float(args["pre_delay"]))
        try:
            _, future = await session.submit(lambda number: call.replace(id=number))
            reply = await future
            key = reply.key
            if reply.status is not Status.CHANGED:
                return reply
        except HostError:  # it was faster than its answer
            pass
        phase = Phase(PhaseKind.WORKING, task=call.task, call=title)
        self._context.emit(HostPhase(time.time(), self._host.name, phase))
        end = begun + float(args["timeout"])
        await session.wait_for_end(min(LEAVING, args["timeout"] / 3))
        why = await self._come_back(account, call.task, args, end, boot)
        if why:
            text = f"the host was not back within {args['timeout']:g} seconds: {why}"
            hint = "something keeps it from rebooting: see its journal" if why == UNCHANGED else ""
            return Reply(id=0, status=Status.FAILED, error=text, hint=hint, key=key)
        await asyncio.sleep(float(args["post_delay"]))
        await self._name_again(named, call.task)
        values: JsonObject = {"rebooted": True, "elapsed": int(time.monotonic() - begun)}
        return Reply(id=0, status=Status.CHANGED, reason=Reason.RUN, values=values, key=key)

    async def wait(self, account: str, task: str, args: Arguments) -> Reply:
        """Wait until the host can be reached by a new connection; return the reply of the call. Raises HostError."""
        begun = time.monotonic()
        named = await self._named()
        await asyncio.sleep(float(args["delay"]))
        end = begun + float(args["delay"]) + float(args["timeout"])
        why = await self._come_back(account, task, args, end, None)
        key = "host:wait:connection"
        if why:
            text = args["msg"] or f"the host was not reachable within {args['timeout']:g} seconds: {why}"
            return Reply(id=0, status=Status.FAILED, error=text, key=key)
        await self._name_again(named, task)
        elapsed = int(time.monotonic() - begun)
        return Reply(id=0, status=Status.UNCHANGED, values={"elapsed": elapsed}, key=key)

    async def _named(self) -> dict[str, list[str]]:
        """Return what each session knows that the site has named, by account, where it answers."""
        named: dict[str, list[str]] = {}
        for account, session in self._sessions.open.items():
            try:
                keys = await asyncio.wait_for(session.ask("named", {}, lambda row: str(row["key"])), QUERY)
            except (TimeoutError, HostError):
                self.is_partial = True
                continue
            named[account] = keys
        return named

    async def _name_again(self, named: dict[str, list[str]], task: str) -> None:
        for account, keys in named.items():
            session = await self._sessions.get(account or False, task)
            await session.query("named", {"keys": keys})

    async def _come_back(self, account: str, task: str, args: Arguments, end: float, boot: str | None) -> str:
        """Connect until it works and the host has booted since `boot`; return why it did not, "" when it did."""
        why = ""
        limit = float(args["connect_timeout"]) + QUERY
        while True:
            await self._sessions.disconnect()
            left = end - time.monotonic()
            if left <= 0:
                return why or "no attempt was made"
            try:
                async with asyncio.timeout(min(left, limit)):
                    session = await self._sessions.get(account or False, task)
                    await session.ready
                    if boot is not None and await self._boot(session) == boot:
                        why = UNCHANGED
                    else:
                        why = await self._test(session, args)
                        if not why:
                            return ""
            except (HostKeyError, WrongMachine):
                raise
            except (HostError, StateError, CallError) as error:
                why = str(error)
            except TimeoutError:  # an attempt that was cut short says less than one before it
                why = why if why and left < limit else f"no answer within {min(left, limit):.0f} seconds"
            await asyncio.sleep(float(args.get("sleep") or PAUSE))

    async def _boot(self, session: Session) -> str:
        """Return what identifies the host's present boot. Raises HostError."""
        found = await asyncio.wait_for(session.ask("boot", {}, lambda row: str(row["boot"])), QUERY)
        if not found:
            raise ProtocolError(f"{self._host.name} has not answered the query boot")
        return found[0]

    async def _test(self, session: Session, args: Arguments) -> str:
        """Run the test command; return why it has failed, "" when it has not."""
        if args["test_command"] is None:
            return ""
        given = {"cmd": args["test_command"], "read_only": True, "timeout": QUERY}
        _, reply = await session.submit(
            lambda number: Call(id=number, epoch=self._calls.epoch, name="exec.run", args=given)
        )
        answer = await reply
        if answer.status is Status.FAILED:
            self._calls.epoch += 1  # the host skips what follows a failure in its epoch
            return f"test_command: {answer.error}"
        return ""


async def reconnect(
    interpreter: Interpreter,
    context: RunContext,
    request: Invoke,
    cls: type[Action],
    args: Arguments,
    options: CallOptions,
) -> int:
    """Make a call after which the host is connected to again; return its number. Raises CallError, HostError."""
    await interpreter.sync()
    calls, sessions, work = interpreter.calls, interpreter.sessions, interpreter.work
    account = sessions.account(work.become_of(options))
    task, where, notify, given = context.secrets.redact((work.task, request.where, work.notify_of(options), args))
    call = Call(id=0, epoch=calls.epoch, name=request.name, args=given, task=task, where=where, notify=list(notify))
    subject = cls.subject_of(given)
    host = interpreter.host
    reconnection = Reconnection(context, host, sessions, calls)
    if host.connection is not ConnectionType.SSH:
        text = f"{host.name} is not connected to by SSH: it cannot be left and connected to again"
        reply = Reply(id=0, status=Status.FAILED, error=text, key=f"{request.name.replace('.', ':')}:")
    elif cls.only_waits:
        reply = await reconnection.wait(account, work.task, args)
    else:
        reply = await reconnection.reboot(account, call, f"{request.name} {subject}".rstrip(), args)
    interpreter.has_lost_names = interpreter.has_lost_names or reconnection.is_partial
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    future.set_result(reply)
    session = sessions.open.get(account)
    pending = Pending(
        calls.next_number, 0, request.name, subject, request.where, work.task, session, calls.epoch, future,
        handled=interpreter.handled(request), notify=options.notify,
    )  # fmt: skip
    calls.add(pending)
    await calls.answered(pending.number)  # the host does not know that it has failed, and would do what follows
    return pending.number
