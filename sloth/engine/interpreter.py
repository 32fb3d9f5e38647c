"""Answers what one host's Lua program asks for: calls, results, facts, shared values, templates, secrets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.call_options import SITE, Work
from sloth.engine.caller import Caller
from sloth.engine.calls import Calls
from sloth.engine.context import RunContext
from sloth.engine.events import SKIPPED, UNCHANGED, Handled, Log
from sloth.engine.host_sessions import HostSessions
from sloth.engine.host_variables import HostVariables
from sloth.engine.locks import Locks
from sloth.errors import CallError, HostError, SlothError, StateError, Unreachable, UsageError
from sloth.inventory import Host
from sloth.payload.session.messages import Call
from sloth.playbook import (
    Done,
    Error,
    Evaluate,
    Facts,
    Fetch,
    HostFacts,
    HostVars,
    Invoke,
    Judge,
    Matching,
    Output,
    Program,
    Prompt,
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
from sloth.transport import Session

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

__all__ = ["SITE", "Interpreter", "Work"]


class Interpreter:
    """Stands between the program, the host's sessions and its calls in flight."""

    def __init__(self, context: RunContext, host: Host, calls: Calls) -> None:
        self._context = context
        self.host = self._host = host
        self.calls = self._calls = calls
        self._facts: JsonObject | None = None
        self.variables = HostVariables(context, host, self.secret, self._gather)
        self.work = Work(eager=context.options.eager)
        self.locks = Locks(context.shared)
        self.sessions = HostSessions(context, host, calls)
        self.has_lost_names = False  # a lost session knew what the site has named
        self.guarded: str | None = None  # the account whose changes must be confirmed; see confirm.py
        self.shipped: set[str] = set()  # hashes of contents that the host has got
        self.secrets: set[str] = set()  # what this host's program has read; no other host's
        self._caller = Caller(context, host, calls, self)

    async def drive(self, program: Program, begin: Callable[[], Request]) -> Done | Error:
        """Let the program begin, and answer its requests until it is done.

        Raises Unreachable; what the program began then comes to no end, and it holds no locks any more.
        """
        await self._context.turns.wait()
        request = begin()
        while not isinstance(request, (Done, Error)):
            try:
                answer: object = await self.answer(request)
            except Unreachable:
                await self.locks.release_all()
                raise
            except (CallError, StateError, UsageError, HostError) as error:
                failure = await self._calls.settled()  # an earlier call's failure comes first
                if failure is None and isinstance(error, HostError):
                    failure = self._calls.session_failure(error, request.where)
                answer = Raise(failure or self.located(error, request.where))
            await self._context.turns.wait()
            request = program.resume(answer)
        return request

    def handled(self, request: Invoke) -> Handled:
        """Return what becomes of a call's failure, should it fail."""
        return Handled.RESCUED if request.rescued else self.work.handled

    def located(self, error: SlothError, where: str) -> SlothError:
        error.where = error.where or where
        if isinstance(error, CallError) and not error.host:
            error.host = self._host.name
        return error

    async def answer(self, request: Request) -> object:
        """Return the answer to a request. Raises SlothError, which Lua gets."""
        if isinstance(request, (Invoke, Sleep)) or (isinstance(request, Shared) and request.op != "release"):
            self.locks.check(request.where)
        match request:
            case Invoke():
                return await self._caller.invoke(request)
            case Judge():
                return await self._caller.judging.judge(request, self.work.notify)
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
                return await self.variables.variable(request)
            case HostVars():
                templates = self._context.shipper.templates((self._context.site.files[0].directory,))
                return await self._context.others.evaluated(self._context, request.host, templates)
            case HostFacts():
                return await self.variables.facts(request.host)
            case Shared():
                await self.sync()
                return await self._shared(request)
            case Render():
                return await self.variables.render(request)
            case Evaluate():
                return await self.variables.expression(request)
            case Matching():
                return await self._context.shipper.match(request)
            case Prompt():
                return self._answer_prompt(request)
            case Secret():
                return self.secret(request.name, request.directory)
            case _:
                raise TypeError(f"unknown request {request!r}")
        return None

    async def sync(self) -> None:
        """Wait until every call is answered. Raises the first failure."""
        await self._calls.sync()

    def _answer_prompt(self, request: Prompt) -> str:
        answer = self._context.options.prompts.answer(request)
        if request.secret and answer:
            self._context.secrets.learn([answer])
            self.secrets.add(answer)
        return answer

    def secret(self, name: str, directory: Path) -> str:
        value = self._context.secrets.get(name, directory)
        if value:
            self.secrets.add(value)
        return value

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
            self._context.note_facts(self._host.name, answer.values)
        return self._facts

    async def _shared(self, request: Shared) -> object:
        """Answer state.*: the controller's shared values, and for `delete` the host's own records, too."""
        if request.op == "delete" and request.args:
            session = await self._session()
            if any(await session.ask("delete", {"key": str(request.args[0])}, lambda row: row.get("deleted"))):
                return True
        if request.op == "hold":
            return await self.locks.hold(request.args, request.where)
        if request.op == "release":
            return await self.locks.release(request.args)
        return await self._context.shared.call(request.op, request.args)
