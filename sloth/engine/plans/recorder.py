"""Records a check as a plan: what each host's program requests, and what the hosts answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from sloth.engine.events import Event, HostFinished, OrphansFound, TaskFinished
from sloth.engine.interpreter import SITE
from sloth.engine.planned_handlers import cannot_be_taken_back
from sloth.engine.plans.references import References, has_secret
from sloth.engine.plans.values import HostPlan, Pause, PlannedAsset, PlannedCall, PlannedTask, Step
from sloth.engine.secrets import Secrets
from sloth.errors import StateError
from sloth.frozen import mutable
from sloth.payload.kernel.content import TEXT_LIMIT
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.status import Reason, Status
from sloth.playbook import Done, Error, Fetch, Hook, Invoke, Program, Request, Shared, SharedOp, Site, Sleep, Task, Turn
from sloth.transport import Asset

if TYPE_CHECKING:
    from sloth.inventory import Host
    from sloth.payload.kernel.values import Arguments, Json, JsonObject
    from sloth.payload.session.messages import Reply

_READS = (SharedOp.GET, SharedOp.LIST)
_UNPLANNED = (Hook.UNTIL, Hook.FAILED_WHEN, Hook.CHANGED_WHEN, Hook.CONFIRM_CHECK)  # Lua decides


@mutable
class _Step:
    """A request of the program, and what became of it."""

    request: Invoke | Sleep
    call: PlannedCall | None = None
    reply: asyncio.Future[Reply] | None = None
    assets: Sequence[Asset] = ()
    subject: str = ""
    is_read: bool = False


@mutable
class _Task:
    task: Task
    steps: dict[str, list[_Step]] = field(default_factory=dict)  # by hook; "": `run`
    unplanned: str = ""  # what it did that a plan cannot hold
    end: TaskFinished | None = None


@mutable
class _Host:
    tasks: dict[tuple[str, bool], _Task] = field(default_factory=dict)
    current: _Task | None = None
    hook: str = ""
    sent: dict[int, _Step] = field(default_factory=dict)  # by the number of the call
    program: Program | None = None
    orphans: tuple[str, ...] = ()
    is_partial: bool = True
    status: Status | None = None


class Recorder:
    """Records what the programs of a check's hosts do.

    Attributes:
        contents: the assets to put into the plan, by hash.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self.contents: dict[str, Asset] = {}

    # What happens

    def watch(self, host: str, program: Program) -> None:
        """Take note of a host's program; its tasks are known once it is loaded."""
        self._host(host).program = program

    def began(self, host: str, task: Task, hook: Hook | None) -> None:
        """Take note that a function of a task begins."""
        one = self._host(host)
        key = (task.name, task.handler)
        former = one.tasks.get(key)
        is_again = former is not None and hook is None and "" in former.steps
        if former is None or (is_again and (former.end is None or task.handler)):
            one.tasks[key] = _Task(task)  # another attempt begins anew, and so does a handler that runs again
        one.current, one.hook = one.tasks[key], str(hook or "")
        one.current.steps.setdefault(one.hook, [])

    def requested(self, host: str, request: Request) -> None:
        """Take note of a request of the program."""
        one = self._host(host)
        if isinstance(request, Fetch) and request.call in one.sent:
            one.sent[request.call].is_read = True
        elif isinstance(request, Sleep):
            self._add(one, _Step(request))
        elif isinstance(request, Shared) and request.op not in _READS and one.current is not None:
            what = "locks" if "lock" in request.op or request.op in (SharedOp.HOLD, SharedOp.RELEASE) else "values"
            one.current.unplanned = one.current.unplanned or (
                f"{request.where}: state.{request.op}: a plan has no shared {what}"
            )

    def sent(
        self,
        host: str,
        number: int,
        request: Invoke,
        args: Arguments,
        assets: Sequence[Asset],
        subject: str,
        reply: asyncio.Future[Reply],
        functions: Sequence[str] = (),
    ) -> None:
        """Take note of a call that was sent; functions: those of its options that are functions of its result."""
        call = PlannedCall(
            request.name, dict(args), request.where, str(request.directory),
            protected=request.protected, rescued=request.rescued, subject=subject,
        )  # fmt: skip
        step = _Step(request, call, reply, assets, subject)
        one = self._host(host)
        one.sent[number] = step
        if functions and one.current is not None:
            text = f"{request.where}: a plan cannot evaluate `{functions[0]}` of {request.name}"
            one.current.unplanned = one.current.unplanned or text
        self._add(one, step)

    def happened(self, event: Event) -> None:
        """Take note of an event of the run."""
        if isinstance(event, TaskFinished):
            one = self._host(event.host)
            key = (event.task, event.handler)
            declared = one.program.tasks if one.program is not None and not event.handler else ()
            for task in declared if key not in one.tasks else ():
                if task.name == event.task and not task.is_flush:  # skipped before anything of it was evaluated
                    one.tasks[key] = _Task(task)
            if key in one.tasks:
                one.tasks[key].end = event
            one.current = None
        elif isinstance(event, OrphansFound):
            self._host(event.host).orphans = tuple(orphan.key for orphan in event.orphans)
        elif isinstance(event, HostFinished):
            self._host(event.host).status = event.status

    def evaluated(self, host: str, is_partial: bool) -> None:
        """Take note that a host has come to the end of its tasks; is_partial: something was not evaluated."""
        self._host(host).is_partial = is_partial

    def _host(self, name: str) -> _Host:
        return self._hosts.setdefault(name, _Host())

    def _add(self, one: _Host, step: _Step) -> None:
        if one.current is None:  # at the top level of the site
            key = (SITE, False)
            one.tasks.setdefault(key, _Task(Task(SITE, "", 0), {"": []}))
            one.tasks[key].steps[""].append(step)
        else:
            one.current.steps[one.hook].append(step)

    # What is planned

    def calls(self, host: str) -> list[PlannedCall]:
        """Return the calls that were answered, in order, as they are compared with those of a plan."""
        found: list[PlannedCall] = []
        for task in self._host(host).tasks.values():
            for steps in task.steps.values():
                found += [_answered(step) for step in steps if step.call is not None]
        return found

    def status(self, host: str) -> Status | None:
        """Return how a host ended; None before it has."""
        return self._host(host).status

    def plan(self, host: Host, secrets: Secrets) -> HostPlan:
        """Return what is planned for a host. Raises StateError for a secret that cannot be referred to."""
        one = self._host(host.name)
        references = References(secrets.named)
        tasks = [self._planned(found, references, secrets) for key, found in one.tasks.items() if not key[1]]
        for before, flush in _flushes(one.program.tasks if one.program is not None else ()):
            at = [number for number, task in enumerate(tasks) if task.task.name in before]
            tasks.insert(max(at, default=-1) + 1, PlannedTask(flush, is_planned=True))
        handlers: list[PlannedTask] = []
        for handler in one.program.handlers if one.program is not None else ():
            ran = one.tasks.get((handler.name, True))
            task = secrets.redact(replace(handler, hooks=frozenset(), tags=()))
            handlers.append(self._planned(ran, references, secrets) if ran else PlannedTask(task))
        _refuse_secrets(tasks, handlers)
        return HostPlan(host.name, address_of(host), one.is_partial, tuple(tasks), tuple(handlers), one.orphans)

    def _planned(self, found: _Task, references: References, secrets: Secrets) -> PlannedTask:
        end = found.end
        hooks = found.task.hooks & {Hook.ALWAYS}
        is_skipped = end is not None and end.skip is not None
        if is_skipped:
            hooks = frozenset({Hook.WHEN})
        unknown = found.unplanned or (end.unknown if end is not None else "")
        unplanned = [hook for hook in _UNPLANNED if hook in found.task.hooks]
        if unplanned and not unknown:
            unknown = f"a plan cannot evaluate `{unplanned[0]}`"
        # Whom it concerns was decided, and what it depends on besides may not be in the plan of this host.
        # What a task says of all of its calls each of them has by itself.
        task = secrets.redact(replace(found.task, hooks=hooks, hosts=None, tags=(), delegate_to="", environment={}))
        return PlannedTask(
            task,
            self._steps(found.steps.get("", ()), references, secrets),
            self._steps(found.steps.get(Hook.ALWAYS, ()), references, secrets),
            is_skipped,
            True,
            secrets.redact(unknown),
            end.status if end is not None else PlannedTask(task).status,
        )

    def _steps(self, steps: Sequence[_Step], references: References, secrets: Secrets) -> tuple[Step, ...]:
        found: list[Step] = []
        for step in steps:
            if isinstance(step.request, Sleep):
                found.append(Pause(step.request.seconds, step.request.where))
            else:
                found.append(self._call(step, references, secrets))
        return tuple(found)

    def _call(self, step: _Step, references: References, secrets: Secrets) -> PlannedCall:
        call = _answered(step)
        args = {name: value for name, value in call.args.items() if name != "_local"}
        encoded = references.encode(args)
        assets = tuple(self._asset(asset, references, secrets) for asset in step.assets)
        held = secrets.held_by([encoded, [asset.parts for asset in assets]])
        if held or not isinstance(encoded, dict):
            raise StateError(
                f"{call.where}: {secrets.redact(call.title)} has a secret in it that a plan cannot refer to",
                hint="read it with secret() in the site; one that comes from a shared value has no name",
            )
        return replace(
            call, args=encoded, assets=assets, where=secrets.redact(call.where), subject=secrets.redact(call.subject),
            msg=secrets.redact(call.msg), error=secrets.redact(call.error), diff=secrets.redact(call.diff),
            values=secrets.redact(call.values),
        )  # fmt: skip

    def _asset(self, asset: Asset, references: References, secrets: Secrets) -> PlannedAsset:
        parts = None
        if asset.open is not None and asset.size <= TEXT_LIMIT and secrets.named:
            text = b"".join(asset.open()).decode("utf-8", "surrogateescape")
            parts = references.parts(text)
            if parts is None and secrets.held_by(text):
                parts = [text]  # the caller refuses it
        if asset.open is not None and parts is None:
            self.contents.setdefault(asset.sha256, asset)
        sha256 = "" if parts is not None else asset.sha256
        size = 0 if parts is not None else asset.size
        return PlannedAsset(asset.name, sha256, size, asset.mode, asset.dir, parts)


def _flushes(tasks: Sequence[Task]) -> list[tuple[set[str], Task]]:
    """Return the calls of flush_handlers() in a site, each after the names of the tasks that are declared before it."""
    found: list[tuple[set[str], Task]] = []
    before: set[str] = set()
    for task in tasks:
        if task.is_flush:
            found.append((set(before), replace(task, tags=())))
        before.add(task.name)
    return found


def _refuse_secrets(tasks: Sequence[PlannedTask], handlers: Sequence[PlannedTask]) -> None:
    """Raise StateError for what an apply would refuse: a handler that the host must keep, with a secret in it."""
    kept = {name for task in tasks if task.task.confirm is not None for name in task.task.notify}
    for handler in handlers:
        for call in handler.calls if handler.task.name in kept else ():
            if has_secret(call.args) and cannot_be_taken_back(find(call.name), call.args):
                raise StateError(
                    f"{call.where}: {call.name} in the handler {handler.task.name} of a task with `confirm` has a "
                    "secret in it, which the host must not keep",
                    hint="let the task write a file that has the secret, and the handler read it",
                )


def _answered(step: _Step) -> PlannedCall:
    """Return the call of a step with what the host answered."""
    assert step.call is not None
    reply = step.reply
    if reply is None or not reply.done() or reply.cancelled() or reply.exception() is not None:
        return replace(step.call, read=step.is_read)
    answer = reply.result()
    return replace(
        step.call,
        read=step.is_read,
        status=answer.status,
        key=answer.key,
        reason=answer.reason.value if answer.reason is not Reason.NONE else "",
        msg=answer.msg,
        error=answer.error,
        diff=answer.diff,
        before=answer.before,
        after=answer.after,
        values=dict(answer.values),
        unknown=answer.unknown,
    )


def address_of(host: Host) -> str:
    """Return where a host is reached, "user@address:port", without what its settings leave out."""
    user = f"{host.user}@" if host.user else ""
    return f"{user}{host.address}" + (f":{host.port}" if host.port else "")


class RecordedProgram(Program):
    """A program whose requests a Recorder sees."""

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        site: Site,
        *,
        host: JsonObject,
        groups: Mapping[str, Sequence[str]],
        vars: Mapping[str, Json],
        modules: Mapping[str, Sequence[str]],
        check: bool,
    ) -> None:
        """name: of the host; the rest is that of Program."""
        super().__init__(site, host=host, groups=groups, vars=vars, modules=modules, check=check)
        self._recorder = recorder
        self._name = name
        self._last: Request | None = None
        recorder.watch(name, self)

    def load(self) -> Request:
        return self._seen(super().load())

    def start(self, task: Task) -> Request:
        self._recorder.began(self._name, task, None)
        return self._seen(super().start(task))

    def start_hook(self, task: Task, hook: Hook, argument: str = "") -> Request:
        self._recorder.began(self._name, task, hook)
        return self._seen(super().start_hook(task, hook, argument))

    def resume(self, answer: object) -> Request:
        return self._seen(super().resume(answer))

    def _seen(self, request: Request) -> Request:
        if request is not self._last and not isinstance(request, (Turn, Done, Error)):
            self._last = request
            self._recorder.requested(self._name, request)
        return request
