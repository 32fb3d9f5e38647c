"""Makes the calls of one host: with their options, on the host itself or delegated, and as often as the site wants."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.call_options import CallOptions, Work
from sloth.engine.calls import Calls
from sloth.engine.context import RunContext
from sloth.engine.delegates import Delegates, find_delegate
from sloth.engine.events import CallFinished
from sloth.engine.fetch import destination
from sloth.engine.host_sessions import account_of
from sloth.engine.judging import Judging
from sloth.engine.pending import Pending, delegate_error, masked_subject, unsent_result
from sloth.engine.prepared import Prepared
from sloth.errors import CallError, HostError, SlothError, StateError, UsageError
from sloth.frozen import frozen
from sloth.inventory import Host
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Action, ArgumentError
from sloth.payload.session.messages import Call, Reply
from sloth.playbook import Invoke, Judge
from sloth.transport import Asset, Session

if TYPE_CHECKING:
    from sloth.engine.interpreter import Interpreter
    from sloth.transport.in_flight import Frames


@frozen
class _Target:
    """Where a call is made. delegate: None for the host itself."""

    session: Session
    known: frozenset[str]  # hashes of contents that the account was known to have
    shipped: set[str]  # of those that it has got in this run
    delegate: str = ""
    lane: str = ""


class Caller:
    """Sends the calls of one host."""

    def __init__(self, context: RunContext, host: Host, calls: Calls, interpreter: Interpreter) -> None:
        self._context = context
        self._host = host
        self._calls = calls
        self._interpreter = interpreter
        self.judging = Judging(context, host.name, calls)

    @property
    def _work(self) -> Work:
        return self._interpreter.work

    async def invoke(self, request: Invoke) -> object:
        """Send a call; return its number, or what judge() needs when the site decides what became of it."""
        self._calls.raise_failure()
        prepared, environment = self._context.prepared, self._work.environment
        try:
            call = prepared.find(request, environment)
            call = call or prepared.keep(request, environment, await self._prepare(request))
        except (CallError, StateError, UsageError) as error:
            raise await self._refused(request, error) from None
        if (
            issubclass(call.cls, Action)
            and call.cls.reconnects
            and not (self._context.options.check or self._work.check)
        ):
            from sloth.engine.reconnection import reconnect  # most sites have no such call

            if call.options.is_judged or self._delegate(call.options):
                raise CallError("this cannot be delegated, nor be tried again by itself", where=request.where)
            return await reconnect(self._interpreter, self._context, request, call.cls, call.args, call.options)
        try:
            target = await self._target(request, call)
        except CallError as error:
            raise await self._refused(request, error, call.subject) from None
        if self._context.saved is not None and call.options.is_judged:
            return await self._decided(request, call, target)
        number = await self._send(request, call, target)
        if request.attempt:
            return await self.judging.hold(request, call.options, number)
        if self._work.eager or request.protected:
            await self._calls.result(number, "status")
        return number

    async def _decided(self, request: Invoke, call: Prepared, target: _Target) -> int:
        """Make a call of a saved plan as often as it takes: its options have no functions."""
        while True:
            request = dataclasses.replace(request, attempt=request.attempt + 1)
            number = await self._send(request, call, target)
            await self.judging.hold(request, call.options, number)
            if not await self.judging.judge(Judge(number, {}, request.where), self._work.notify):
                return number

    # Before a call

    async def _prepare(self, request: Invoke) -> Prepared:
        """Check a call and resolve what it ships. Raises CallError, StateError, UsageError."""
        try:
            cls = find(request.name)
            planned: list[Asset] | None = None
            given = request.args
            if self._context.saved is not None:
                from sloth.engine.plans.invoke import prepare  # no other run needs it

                given, planned = prepare(request, self._interpreter.secret)
            options = CallOptions.of(cls, given, self._work)
        except ArgumentError as error:
            raise CallError(error.message, hint=error.hint, where=request.where) from error
        try:
            args = cls.check(options.arguments)
        except ArgumentError as error:
            hidden = f"{request.name} has invalid arguments, which are hidden, since the call is sensitive"
            text, hint = (hidden, "") if options.sensitive else (error.message, error.hint)
            raise CallError(text, hint=hint, where=request.where) from error
        if options.notify:
            options = dataclasses.replace(options, notify=self._work.resolve(options.notify, request.where))
        complete = {name: value for name, value in args.items() if value is not None}
        subject = cls.subject_of(args)
        if options.sensitive:
            subject = masked_subject(subject)
        if planned is not None:
            return Prepared(cls, args, complete, planned, options, subject)
        try:
            variables = partial(self._interpreter.variables.seen, request.directory)
            connect = None if self._delegate(options) else self._interpreter.sessions.connect
            shipper = self._context.shipper
            complete, assets = await shipper.prepare(cls, complete, variables, request.sources, connect)
        except CallError as error:
            error.call = error.call or f"{request.name} {subject}".rstrip()
            raise
        return Prepared(cls, args, complete, assets, options, subject)

    def _delegate(self, options: CallOptions) -> str:
        """Return the name of the host on which a call is made, "" for the host itself."""
        name = options.delegate_to or self._work.delegate_to
        return "" if name == self._host.name else name

    async def _target(self, request: Invoke, call: Prepared) -> _Target:
        """Return where a call is made. Raises CallError when its delegate cannot be reached, and HostError."""
        become = self._work.become_of(call.options)
        name = self._delegate(call.options)
        guarded = self._interpreter.guarded
        if guarded is not None and (name or self._interpreter.sessions.account(become) != guarded):
            raise CallError("in a task with `confirm` all calls are made as its own account", where=request.where)
        if not name:
            session = await self._interpreter.sessions.get(become, self._work.task)
            known = self._context.sessions.known(self._host.name).assets
            return _Target(session, known, self._interpreter.shipped)
        delegate = find_delegate(self._context.inventory, name, request.where)
        account = account_of(delegate, become)
        try:
            session = await self._context.delegates.get(delegate, account, self._host.name, self._calls)
            if session.end is not None:
                raise session.end
        except HostError as error:
            title = f"{request.name} {call.subject}".rstrip()
            raise delegate_error(self._host.name, name, title, request.where, error) from error
        known = self._context.sessions.known(name).assets
        return _Target(session, known, self._context.delegates.shipped(delegate, account), name, self._host.name)

    async def _refused(self, request: Invoke, error: SlothError, subject: str = "") -> SlothError:
        """Report the failure of a call that no host got; return it, or that of an earlier call."""
        failure = await self._calls.settled()
        if failure is not None:
            return failure
        self._interpreter.located(error, request.where)
        self._calls.has_failed = True
        result = unsent_result(request, error, subject, self._interpreter.handled(request))
        self._context.emit(CallFinished(time.time(), self._host.name, self._work.task, result))
        return error

    async def _send(self, request: Invoke, call: Prepared, target: _Target) -> int:
        """Write a call; return its number."""
        cls, given, options, session, work = call.cls, call.given, call.options, target.session, self._work
        path = await _look_at_destination(request, self._host.name, call) if cls.fetches else None
        if self._calls.needs_sync(session):
            await self._calls.sync()  # calls elsewhere come after those before them
        secrets = self._context.secrets.found_in({**call.args, "": dict(options.environment)}, call.assets)
        await session.send_secrets(self._interpreter.secrets | secrets)
        epoch, sensitive = self._calls.epoch, bool(secrets) or options.sensitive
        # The site's own words, which the host keeps. It does not know which of the secrets are in them.
        words = (work.task, request.where, work.notify_of(options))
        task, where, notify = self._context.secrets.redact(words)
        is_repeatable = not issubclass(cls, Action) or bool(call.args.get("read_only"))
        frames = self._context.prepared.frames(call, where, task, notify, epoch, sensitive, work.check, target.lane)
        await _begin(self._context.delegates, target)
        self._calls.is_sending_action = not is_repeatable
        wire_id, reply = await _submit(
            self._context.delegates,
            target,
            lambda number: Call(
                id=number,
                epoch=epoch,
                name=request.name,
                args=given,
                task=task,
                where=where,
                notify=list(notify),
                sensitive=sensitive,
                masked=options.sensitive,
                environment=dict(options.environment),
                lane=target.lane,
                check=work.check,
            ),
            call.assets,
            frames,
        )
        target.shipped.update(asset.sha256 for asset in call.assets if not asset.dir)
        number = self._calls.next_number
        if self._context.recorder is not None:
            planned = {**given, **options.plain(target.delegate)}
            self._context.recorder.sent(
                self._host.name, number, request, planned, call.assets, call.subject, reply, options.is_function
            )
        self._calls.add(
            Pending(
                number,
                wire_id,
                request.name,
                call.subject,
                request.where,
                work.task,
                session,
                epoch,
                reply,
                unknown_hint=cls.unknown_hint,
                handled=self._interpreter.handled(request),
                destination=path,
                is_repeatable=is_repeatable,
                lane=target.lane,
                delegate=target.delegate,
                notify=options.notify,
                is_sensitive=options.sensitive,
                is_held=bool(request.attempt),
            )
        )
        return number


async def _look_at_destination(request: Invoke, host: str, call: Prepared) -> Path:
    """Return where the file that a call fetches goes, and let the call say what is there now."""
    fetched = destination(request.directory, host, call.args)
    call.given["_local"] = await asyncio.to_thread(fetched.look)
    return fetched.path


async def _begin(delegates: Delegates, target: _Target) -> None:
    """Wait until a call may be written. Raises HostError when its session has ended: nothing of it is written then."""
    if target.delegate:
        await delegates.begin_call(target.delegate)
    if target.session.end is not None:
        if target.delegate:
            delegates.end_call(target.delegate)
        raise target.session.end


async def _submit(
    delegates: Delegates,
    target: _Target,
    make: Callable[[int], Call],
    assets: Sequence[Asset],
    frames: Frames | None,
) -> tuple[int, asyncio.Future[Reply]]:
    """Write a call to its session. Raises HostError."""
    try:
        number, reply = await target.session.submit(
            make, assets, lambda asset: asset.sha256 not in target.known, frames
        )
    except BaseException:
        if target.delegate:
            delegates.end_call(target.delegate)
        raise
    if target.delegate:
        reply.add_done_callback(lambda _: delegates.end_call(target.delegate))
    return number, reply
