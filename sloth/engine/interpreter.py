"""Answers what one host's Lua program asks for: calls, results, facts, shared values, templates, secrets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.calls import Calls, Pending
from sloth.engine.context import RunContext, lua_host
from sloth.engine.events import (
    FAILED,
    SKIPPED,
    UNCHANGED,
    CallFinished,
    Handled,
    Log,
    Result,
)
from sloth.engine.fetch import Destination, destination
from sloth.engine.host_sessions import HostSessions
from sloth.engine.locks import Locks
from sloth.engine.patience import patiently
from sloth.errors import CallError, HostError, SlothError, StateError, Unreachable, UsageError
from sloth.frozen import frozen
from sloth.inventory import Host
from sloth.inventory.resolve import magic
from sloth.inventory.templated import Templated
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Action, ArgumentError
from sloth.payload.kernel.resource import Call as AnyCall
from sloth.payload.session.messages import Call
from sloth.playbook import (
    Done,
    Error,
    Facts,
    Fetch,
    HostFacts,
    HostVars,
    Invoke,
    Output,
    Program,
    Raise,
    Render,
    Request,
    Secret,
    Shared,
    Sleep,
    Sync,
    Turn,
    Variable,
)
from sloth.transport import Asset, Session

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Json, JsonObject

SITE = "(site)"  # the task that calls at the top level of a site belong to


@frozen
class Work:
    """What the program works on now: the task that its calls belong to, and how they are made."""

    task: str = SITE
    become: bool | str | None = None
    notify: tuple[str, ...] = ()
    eager: bool = False  # a call waits for its answer
    handled: Handled = Handled.NONE  # what becomes of a call's failure
    check: bool = False  # calls are only looked at, though the run is no check


class Interpreter:
    """Stands between the program, the host's sessions and its calls in flight."""

    def __init__(self, context: RunContext, host: Host, calls: Calls) -> None:
        self._context = context
        self.host = self._host = host
        self.calls = self._calls = calls
        self._facts: JsonObject | None = None
        self.work = Work(eager=context.options.eager)
        self.locks = Locks(context.shared)
        self.sessions = HostSessions(context, host, calls)
        self.has_lost_names = False  # a lost session knew what the site has named
        self.guarded: str | None = None  # the account whose changes must be confirmed; see confirm.py
        self.shipped: set[str] = set()  # hashes of contents that the host has got
        self._secrets: set[str] = set()  # what this host's program has read; no other host's

    async def drive(self, program: Program, begin: Callable[[], Request]) -> Done | Error:
        """Let the program begin, and answer its requests until it is done. Raises Unreachable."""
        await self._context.turns.wait()
        request = begin()
        while not isinstance(request, (Done, Error)):
            try:
                answer: object = await self.answer(request)
            except Unreachable:
                raise
            except (CallError, StateError, UsageError, HostError) as error:
                failure = await self._calls.settled()  # an earlier call's failure comes first
                if failure is None and isinstance(error, HostError):
                    failure = self._calls.session_failure(error, request.where)
                answer = Raise(failure or self._located(error, request.where))
            await self._context.turns.wait()
            request = program.resume(answer)
        return request

    async def _prepare(self, request: Invoke) -> tuple[type[AnyCall], Arguments, Arguments, list[Asset]]:
        """Return the class of a call, its arguments, those to send, and its assets. Raises CallError, StateError."""
        try:
            cls = find(request.name)
            if self._context.saved is not None:
                from sloth.engine.plans.invoke import prepare  # no other run needs it

                return prepare(cls, request, self._secret)
            args = cls.check(request.args)
        except ArgumentError as error:
            raise CallError(error.message, hint=error.hint, where=request.where) from error
        given = {name: value for name, value in args.items() if value is not None}
        try:
            variables = partial(self._variables, request.directory)
            given, assets = await self._context.shipper.prepare(cls, given, variables, request.sources)
        except CallError as error:
            error.call = error.call or f"{request.name} {cls.subject_of(args)}".rstrip()
            raise
        return cls, args, given, assets

    def _report_unsent(self, request: Invoke, error: SlothError) -> None:
        """Report the failure of a call that the host never got: its arguments or files were wrong."""
        self._calls.has_failed = True
        subject = error.call.partition(" ")[2] if isinstance(error, CallError) else ""
        result = Result(
            key=f"{request.name.replace('.', ':')}:{subject}",
            module=request.name,
            status=FAILED,
            subject=subject,
            where=request.where,
            error=str(error),
            handled=self.handled(request),
        )
        self._context.emit(CallFinished(time.time(), self._host.name, self.work.task, result))

    def handled(self, request: Invoke) -> Handled:
        """Return what becomes of a call's failure, should it fail."""
        return Handled.RESCUED if request.rescued else self.work.handled

    def _located(self, error: SlothError, where: str) -> SlothError:
        error.where = error.where or where
        if isinstance(error, CallError) and not error.host:
            error.host = self._host.name
        return error

    async def answer(self, request: Request) -> object:
        """Return the answer to a request. Raises SlothError, which Lua gets."""
        match request:
            case Invoke():
                return await self._invoke(request)
            case Fetch():
                return await self._calls.result(request.call, request.field)
            case Turn():
                pass
            case Sync():
                await self.sync()
            case Output():
                await self.sync()
                self._context.emit(
                    Log(time.time(), self._host.name, self.work.task, request.level, request.text, request.where)
                )
            case Facts():
                return await self._gather()
            case Sleep():
                await self.sync()
                if not self._context.options.check:
                    await asyncio.sleep(request.seconds)
            case Variable():
                return await self._variable(request)
            case HostVars():
                templates = self._context.shipper.templates((self._context.site.files[0].directory,))
                return await self._context.others.evaluated(self._context, request.host, templates)
            case HostFacts() if request.host == self._host.name:
                return await self._gather()
            case HostFacts():
                return await self._context.others.facts(self._context, request.host)
            case Shared():
                await self.sync()
                return await self._shared(request)
            case Render():
                templates = self._context.shipper.templates(request.sources)
                facts = await templates.needs_facts(request.source)
                variables = {**await self._variables(request.directory, facts), **request.args}
                return await templates.render(request.source, variables)
            case Secret():
                return self._secret(request.name, request.directory)
            case _:
                raise TypeError(f"unknown request {request!r}")
        return None

    async def sync(self) -> None:
        """Wait until every call is answered. Raises the first failure."""
        await self._calls.sync()

    def _secret(self, name: str, directory: Path) -> str:
        value = self._context.secrets.get(name, directory)
        if value:
            self._secrets.add(value)
        return value

    # Calls

    async def _invoke(self, request: Invoke) -> int:
        """Send a call; return its number."""
        failure = self._calls.failure()
        if failure is not None:
            raise failure
        try:
            cls, args, given, assets = await self._prepare(request)
        except (CallError, StateError, UsageError) as error:
            failure = await self._calls.settled()
            if failure is None:
                self._report_unsent(request, self._located(error, request.where))
            raise failure or error from None
        if issubclass(cls, Action) and cls.reconnects and not (self._context.options.check or self.work.check):
            from sloth.engine.reconnection import reconnect  # most sites have no such call

            return await reconnect(self, self._context, request, cls, args)
        subject = cls.subject_of(args)
        fetched: Destination | None = None
        if cls.fetches:
            fetched = destination(request.directory, self._host.name, args)
            given["_local"] = await asyncio.to_thread(fetched.look)
        session = await self._session()
        if self.guarded is not None and self.sessions.open.get(self.guarded) is not session:
            raise CallError("in a task with `confirm` all calls are made as its own account", where=request.where)
        work = self.work
        secrets = self._context.secrets.found_in(args, assets)
        await session.send_secrets(self._secrets | secrets)
        known = self._context.sessions.known(self._host.name).assets
        epoch, sensitive = self._calls.epoch, bool(secrets)
        # Words of the site's own, which the host keeps. It does not know which of the secrets are in them.
        task, where, notify = self._context.secrets.redact((work.task, request.where, work.notify))
        is_repeatable = not issubclass(cls, Action) or bool(args.get("read_only"))
        if session.end is not None:
            raise session.end  # before anything of this call is written
        self._calls.is_sending_action = not is_repeatable
        wire_id, reply = await session.submit(
            lambda number: Call(
                id=number,
                epoch=epoch,
                name=request.name,
                args=given,
                task=task,
                where=where,
                notify=list(notify),
                sensitive=sensitive,
                check=work.check,
            ),
            assets,
            lambda asset: asset.sha256 not in known,
        )
        self.shipped.update(asset.sha256 for asset in assets if not asset.dir)
        number = self._calls.next_number()
        if self._context.recorder is not None:
            self._context.recorder.sent(self._host.name, number, request, given, assets, subject, reply)
        self._calls.add(
            Pending(
                number,
                wire_id,
                request.name,
                subject,
                request.where,
                work.task,
                session,
                epoch,
                reply,
                unknown_hint=cls.unknown_hint,
                handled=self.handled(request),
                destination=fetched.path if fetched is not None else None,
                is_repeatable=is_repeatable,
            )
        )
        if work.eager or request.protected:
            await self._calls.result(number, "status")
        return number

    async def _session(self) -> Session:
        return await self.sessions.get(self.work.become, self.work.task)

    async def _gather(self) -> JsonObject:
        """Return the host's facts, which are queried once."""
        if self._facts is None:
            session = await self._session()
            epoch, task = self._calls.epoch, self._context.secrets.redact(self.work.task)
            _, reply = await session.submit(
                lambda number: Call(id=number, epoch=epoch, name="facts.gather", args={}, task=task)
            )
            answer = await reply
            if answer.status is SKIPPED:
                await self.sync()
            if answer.status is not UNCHANGED:
                raise CallError(answer.error, hint=answer.hint, call="facts", host=self._host.name)
            self._facts = answer.values
        return self._facts

    async def _shared(self, request: Shared) -> object:
        """Answer state.*: the controller's shared values, and for `delete` the host's own records, too."""
        if request.op == "delete" and request.args:
            session = await self._session()
            rows = await session.query("delete", {"key": str(request.args[0])})
            if rows and rows[0].get("deleted"):
                return True
        if request.op == "lock" and len(request.args) > 3:
            return await self.locks.wait(request.args)
        if request.op == "hold":
            return await self.locks.hold(request.args)
        if request.op == "release":
            return await self.locks.release(request.args)
        return await patiently(lambda: self._context.shared.call(request.op, request.args))

    # Variables

    async def _variable(self, request: Variable) -> Json:
        """Return the value of a variable of the inventory that has Jinja in it."""
        variables = await self._variables(request.directory, facts=False)
        templates = self._context.shipper.templates((request.directory,))
        return await templates.evaluate(request.name, variables.get(request.name), variables)

    def site_variables(self) -> dict[str, Json]:
        """Return the host's variables with those of the command line on top."""
        return {**self._host.vars, **self._context.options.extra}

    async def _variables(self, directory: Path, facts: bool) -> Mapping[str, Json]:
        """Return what a template sees: vars by name and as `vars`, `host`, `groups`, and `facts` if asked.

        directory: that of the site's file, beside which secrets are looked for.
        """
        variables = self.site_variables()
        seen = {**variables, "vars": variables, "host": lua_host(self._host), "groups": self._context.groups}
        seen["secret"] = partial(self._secret, directory=directory)
        templated = [value for value in variables.values() if isinstance(value, Templated)]
        if templated:
            seen = {**magic(self._host.name, self._host.groups), **seen, "sealed_files": self._host.sealed}
        if facts or any("facts" in str(value.value) for value in templated):
            seen["facts"] = await self._gather()
        return seen
