"""One host's way through the site: its Lua program, its sessions, its tasks, from the first connect to the last bye.

It is one class because it is one conversation: what Lua asks for, which task asks, and as whom, decide each answer.
What can stand apart does: calls in flight (calls), what follows the tasks (aftermath), locks (holds), fetched files.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sloth.engine.calls import Calls, UnknownResult, subject_of
from sloth.engine.events import (
    CHANGED,
    FAILED,
    SKIPPED,
    UNCHANGED,
    UNKNOWN,
    UNREACHABLE,
    CallOutput,
    HostFinished,
    HostPhase,
    HostStarted,
    Log,
    TaskFinished,
    TaskStarted,
)
from sloth.engine.fetch import FileSink, destination
from sloth.engine.handlers import Aftermath
from sloth.engine.locks import Holds
from sloth.errors import CallError, HostError, SiteError, SlothError, StateError, Unreachable, UsageError
from sloth.inventory import Host
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import ArgumentError
from sloth.playbook import (
    Done,
    Error,
    Facts,
    Fetch,
    Invoke,
    OnFailure,
    Output,
    Program,
    Raise,
    Render,
    Request,
    Secret,
    Shared,
    Sync,
    Task,
)
from sloth.transport import Session

if TYPE_CHECKING:
    from sloth.engine.run import Run

GRACE = 10.0  # seconds that a cancelled call has to answer
SITE = "(site)"  # the task that calls at the top level of a site belong to


class _Stop(Exception):
    """No further task runs on this host."""


class HostRun:
    """Runs the site on one host. It never raises: what went wrong is in the events."""

    def __init__(self, run: Run, host: Host) -> None:
        self._run = run
        self._host = host
        self._emit = run.emit
        self._calls = Calls(host.name, run.emit)
        self._sessions: dict[str, Session] = {}
        self._facts: dict[str, Any] | None = None
        self._task = SITE
        self._task_become: bool | str | None = None
        self._eager = run.options.eager
        self._notified: set[str] = set()
        self._task_notify: tuple[str, ...] = ()
        self._after = Aftermath(run, host.name, self._sessions)
        self._holds = Holds(run.shared)
        self._statuses: list[str] = []
        self._first_error: str | None = None
        self._shipped: set[str] = set()
        self.status = SKIPPED
        self.error: str | None = None

    # The whole

    async def run(self) -> None:
        """Run every task that this host has; emit HostFinished in the end, whatever happened."""
        begun = time.monotonic()
        self._emit(HostStarted(time.time(), self._host.name))
        interrupted = False
        try:
            await self._work()
        except asyncio.CancelledError:
            interrupted = True
            await self._calls.cancel(GRACE)
        except Unreachable as error:
            self.status, self.error = UNREACHABLE, str(error)
        except SlothError as error:
            self.status, self.error = FAILED, str(error)
        except Exception as error:
            self.status, self.error = FAILED, _defect(error)
        await self._holds.release_all()
        self._after.partial = self._after.partial or interrupted or self.error is not None
        try:
            pruned = await self._after.prune() if self._run.options.prune and not interrupted else None
            self._statuses += [pruned] if pruned else []
            if pruned == FAILED:
                self._first_error = self._first_error or "not everything that the site no longer names could be removed"
        except asyncio.CancelledError:
            interrupted = True
        except Exception as error:
            self.status = FAILED
            self.error = str(error) if isinstance(error, SlothError) else _defect(error)
        if self.error is None:
            self.status = _worst(self._statuses, interrupted)
        await self._close(interrupted)
        await self._run.barriers.ended(self._host.name)
        self._emit(
            HostFinished(
                time.time(), self._host.name, self.status, time.monotonic() - begun, self.error or self._first_error
            )
        )

    async def _work(self) -> None:
        program = Program(
            self._run.site,
            host=self._lua_host(),
            groups=self._run.groups,
            vars=self._variables(),
            modules=self._run.modules,
            check=self._run.options.check,
        )
        try:
            await self._top_level(program)
            tasks = [task for task in self._run.plan(program.tasks) if self._concerns(task)]
            await self._run.barriers.loaded(self._host.name, [task.name for task in tasks])
            try:
                for task in tasks:
                    await self._one(program, task)
            except _Stop:
                self._after.partial = True
            await self._handle(program)
            if not self._sessions and (self._run.options.check or self._run.options.prune):
                await self._session()  # also a site that names nothing here any more may have left something
        finally:
            program.close()

    async def _handle(self, program: Program) -> None:
        """Run the handlers that this run, or one that did not come to its end, has notified."""
        wanted = self._notified | await self._after.owed()
        for handler in program.handlers:
            if handler.name not in wanted:
                self._after.spared.add(handler.name)
            elif await self._attempt(program, handler):
                await self._after.settle([handler.name])
        await self._after.forget({handler.name for handler in program.handlers})

    def _concerns(self, task: Task) -> bool:
        options = self._run.options
        self._after.partial = self._after.partial or bool(options.tags or options.skip_tags)
        if not options.selects(task.tags):
            self._after.spared.add(task.name)
            return False
        return not task.hosts or self._run.matches(task.hosts, self._host, task.where)

    async def _top_level(self, program: Program) -> None:
        """Load the site; module calls outside of any task are a task of their own."""
        begun = time.monotonic()
        end = await self._drive(program, program.load())
        failure = await self._calls.settled()
        called = sum(self._calls.counts.values())
        if called:
            error = failure or (end.cause if isinstance(end, Error) else None)
            status = FAILED if error else CHANGED if self._calls.counts[CHANGED] else UNCHANGED
            text = str(error) if error else None
            self._emit(TaskFinished(time.time(), self._host.name, SITE, status, time.monotonic() - begun, text))
            self._statuses.append(status)
        if failure is not None:
            raise failure
        if isinstance(end, Error):
            raise end.cause or SiteError(end.message, where=end.where, hint=end.hint)

    # Tasks

    async def _one(self, program: Program, task: Task) -> None:
        """Run one task when its turn has come. Raises _Stop when nothing may follow."""
        why = await self._run.barriers.enter(self._host.name, task, self._run.pause)
        failed = bool(why) and not why.startswith("runs once")
        self._after.partial = self._after.partial or failed
        try:
            if why:
                self._skip(task, why)
                if task.serial and why.startswith("stopped"):
                    raise _Stop
                return
            failed = not await self._attempt(program, task)
            if failed and not task.ignore_errors:
                raise _Stop
            failed = failed and not task.ignore_errors
        finally:
            await self._run.barriers.passed(self._host.name, task.name, failed)

    def _skip(self, task: Task, why: str) -> None:
        self._after.spared.add(task.name)
        self._statuses.append(SKIPPED)
        self._emit(
            TaskFinished(time.time(), self._host.name, task.name, SKIPPED, 0.0, handler=task.handler, reason=why)
        )

    async def _attempt(self, program: Program, task: Task) -> bool:
        """Run a task or handler with its retries; return whether it succeeded (or was skipped)."""
        begun = time.monotonic()
        self._task, self._task_become, self._task_notify = task.name, task.become, task.notify
        # Where Lua can go on after a failure, a call must not return before its answer: see docs/architecture.md.
        self._eager = self._run.options.eager or task.ignore_errors or task.retries > 0
        self._emit(TaskStarted(time.time(), self._host.name, task.name, task.handler))
        if task.has_when:
            end = await self._drive(program, program.start_when(task))
            if isinstance(end, Done) and not end.value:
                self._skip(task, "when")
                return True
            if isinstance(end, Error):
                return self._finish(task, begun, await self._failure_of(end))
        changed = False
        for attempt in range(task.retries + 1):
            if attempt:
                self._emit(HostPhase(time.time(), self._host.name, f"task {task.name}, try {attempt + 1}"))
                await asyncio.sleep(task.delay)
            self._calls.forget()
            error = await self._body(program, task)
            changed = changed or self._calls.counts[CHANGED] > 0
            if error is None or isinstance(error, UnknownResult):
                break
        await self._holds.release_all()
        failed = error is not None and not isinstance(error, UnknownResult)
        if failed and task.on_failure is OnFailure.ROLLBACK and not self._run.options.check:
            changed = await self._after.take_back(task, self._notified)
        return self._finish(task, begun, error, changed)

    async def _body(self, program: Program, task: Task) -> SlothError | None:
        """Run the task's function once; return what ended it, None when it came to its end."""
        try:
            async with asyncio.timeout(task.timeout):
                end = await self._drive(program, program.start(task))
                return await self._failure_of(end)
        except TimeoutError:
            busy = self._calls.current
            await self._calls.cancel(GRACE)
            doing = f" in {busy.name} {busy.subject} ({busy.where})" if busy else ""
            return CallError(f"task {task.name} did not end within {task.timeout:g} seconds{doing}", where=task.where)

    async def _failure_of(self, end: Done | Error) -> SlothError | None:
        """What a task failed of: the first call that failed comes before whatever Lua said later."""
        failure = await self._calls.settled()
        if failure is not None:
            return failure
        if isinstance(end, Error):
            return end.cause or CallError(end.message, where=end.where, hint=end.hint, detail=end.traceback)
        return None

    def _finish(self, task: Task, begun: float, error: SlothError | None, changed: bool = False) -> bool:
        """Report the end of a task; return whether it succeeded."""
        unknown = isinstance(error, UnknownResult)
        succeeded = CHANGED if changed else UNCHANGED
        status = UNKNOWN if unknown else FAILED if error is not None else succeeded
        ignored = status == FAILED and task.ignore_errors
        text = str(error) if error is not None else None
        self._emit(
            TaskFinished(
                time.time(), self._host.name, task.name, status, time.monotonic() - begun,
                None if unknown else text, ignored, task.handler, (text or "") if unknown else "",
            )
        )  # fmt: skip
        self._statuses.append(UNCHANGED if ignored else status)
        self._after.partial = self._after.partial or error is not None or self._calls.failed
        if status == FAILED and not ignored:
            self._first_error = self._first_error or text
        if changed:
            self._notified.update(task.notify)
        return status != FAILED

    # What Lua asks for

    async def _drive(self, program: Program, request: Request) -> Done | Error:
        """Answer the program's requests until it is done."""
        while not isinstance(request, (Done, Error)):
            try:
                answer: object = await self._answer(request)
            except (CallError, StateError, UsageError) as error:
                failure = await self._calls.settled()  # an earlier call's failure comes first
                answer = Raise(failure or self._placed(error, request.where))
            request = program.resume(answer)
        return request

    def _placed(self, error: SlothError, where: str) -> SlothError:
        error.where = error.where or where
        if isinstance(error, CallError) and not error.host:
            error.host = self._host.name
        return error

    async def _answer(self, request: Request) -> object:
        match request:
            case Invoke():
                return await self._invoke(request)
            case Fetch():
                return await self._calls.result(request.call, request.field)
            case Sync():
                await self._sync()
            case Output():
                await self._sync()
                self._emit(Log(time.time(), self._host.name, self._task, request.level, request.text, request.where))
            case Facts():
                return await self._gather()
            case Shared():
                await self._sync()
                return await self._shared(request)
            case Render():
                variables = {**await self._seen(self._run.shipper.renderer.needs_facts(request.source)), **request.args}
                return self._run.shipper.renderer.render(request.source, variables)
            case Secret():
                return self._run.vault.secret(request.name)
            case _:
                raise TypeError(f"the program asks for {request!r}")
        return None

    async def _sync(self) -> None:
        failure = await self._calls.settled()
        if failure is not None:
            raise failure

    async def _invoke(self, request: Invoke) -> int:
        failure = self._calls.failure()
        if failure is not None:
            raise failure
        try:
            cls = find(request.name)
            args = cls.check(request.args)
        except ArgumentError as error:
            raise CallError(error.message, hint=error.hint, where=request.where) from error
        subject = subject_of(args)
        given = {name: value for name, value in args.items() if value is not None}
        try:
            given, assets = await self._run.shipper.prepare(cls.ships, given, self._seen)
        except CallError as error:
            error.call = error.call or f"{request.name} {subject}".rstrip()
            raise
        fetched = None
        if request.name == "file.fetch":
            fetched = destination(self._run.site.directory, self._host.name, args)
            given["_local"] = await asyncio.to_thread(fetched.look)
        session = await self._session()
        await session.reveal(self._run.vault.revealed)
        sent = await session.submit(
            request.name,
            given,
            assets,
            epoch=self._calls.epoch,
            task=self._task,
            where=request.where,
            push=lambda asset: asset.sha256 not in self._run.known(self._host.name).assets,
            notify=self._task_notify,
            sealed=self._run.vault.is_in(args, assets),
        )
        self._shipped.update(asset.sha256 for asset in assets if not asset.dir)
        number = self._calls.add(request.name, subject, request.where, self._task, session, sent)
        if fetched is not None:
            self._calls.expect_file(number, fetched.path)
        if self._eager or request.protected:
            await self._calls.result(number, "status")
        return number

    async def _gather(self) -> dict[str, Any]:
        """The host's facts, asked for once."""
        if self._facts is None:
            session = await self._session()
            _, reply = await session.submit(
                "facts.gather", {}, [], epoch=self._calls.epoch, task=self._task, where="", push=lambda _: False
            )
            answer = await reply
            if answer.status == SKIPPED:
                await self._sync()
            if answer.status != UNCHANGED:
                raise CallError(answer.error, hint=answer.hint, call="facts", host=self._host.name)
            self._facts = answer.values
        return self._facts

    async def _shared(self, request: Shared) -> object:
        """state.*: the controller's shared values, except that `delete` knows the host's own records, too."""
        if request.op == "delete" and request.args:
            session = await self._session()
            rows = await session.store("delete", {"key": str(request.args[0])})
            if rows and rows[0].get("deleted"):
                return True
        if request.op == "lock" and len(request.args) > 3:
            return await self._holds.wait(request.args)
        if request.op == "hold":
            return await self._holds.hold(request.args)
        if request.op == "release":
            return await self._holds.release(request.args)
        return self._run.shared.call(request.op, request.args)

    # Variables

    def _variables(self) -> dict[str, Any]:
        return {**self._host.vars, **self._run.options.extra}

    def _lua_host(self) -> dict[str, Any]:
        host = self._host
        return {
            "name": host.name,
            "address": host.address,
            "port": host.port,
            "user": host.user,
            "groups": list(host.groups),
        }

    async def _seen(self, facts: bool) -> Mapping[str, Any]:
        """What a template sees: vars by their own names and as `vars`, `host`, `groups`, and `facts` if it asks."""
        variables = self._variables()
        seen = {**variables, "vars": variables, "host": self._lua_host(), "groups": self._run.groups}
        seen["secret"] = self._run.vault.secret
        if facts:
            seen["facts"] = await self._gather()
        return seen

    # Sessions

    def _account(self) -> str:
        """The account that the current task runs as: "" is the one we log in as."""
        become = self._task_become
        if become is None:
            return self._host.become or ""
        if become is True:
            return self._host.become or "root"
        return become or ""

    async def _session(self) -> Session:
        account = self._account()
        if account not in self._sessions:
            await self._sync()  # calls as another account come after those before them
            self._sessions[account] = await self._run.open_session(self._host, account, self._on_phase, self)
        return self._sessions[account]

    def _on_phase(self, text: str) -> None:
        self._emit(HostPhase(time.time(), self._host.name, text))

    def on_output(self, session: Session, wire_id: int, stream: str, data: str) -> None:
        """A running command printed something."""
        call = self._calls.on_wire(session, wire_id)
        if call is not None:
            name = f"{call.name} {call.subject}".rstrip()
            self._emit(CallOutput(time.time(), self._host.name, call.task, name, stream, data))

    def on_fetch(self, session: Session, wire_id: int) -> FileSink:
        """The host begins to send the file of a file.fetch. Raises OSError when it cannot be stored."""
        call = self._calls.on_wire(session, wire_id)
        if call is None or call.destination is None:
            raise HostError(f"{self._host.name} sends a file that nobody asked for")
        return FileSink(call.destination)

    async def _close(self, interrupted: bool) -> None:
        for account, session in self._sessions.items():
            try:
                replica = await session.close(self._after.whole())
            except HostError as error:
                if self.error is None and not interrupted:
                    self.status = UNREACHABLE if isinstance(error, Unreachable) else FAILED
                    self.error = str(error)
                await session.abort()
                continue
            if not self._run.options.prune:
                self._after.tell(session.orphans)
            self._run.remember(self._host, account, replica, self._shipped)
        await self._run.disconnect(self._host)


def _defect(error: Exception) -> str:
    """An error that nobody foresaw: where it was, and what to do about it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"{type(error).__name__}: {error} ({where}); hint: this is a defect of sloth-runner: please report it"


def _worst(statuses: list[str], interrupted: bool) -> str:
    for status in (FAILED, UNKNOWN, CHANGED, UNCHANGED):
        if status in statuses:
            return status
    return SKIPPED
