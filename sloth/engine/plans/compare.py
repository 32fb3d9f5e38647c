"""Finds what has changed on a host since it was planned for: the plan's calls are only looked at, and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sloth.engine.calls import Calls, UnknownResult
from sloth.engine.context import RunContext
from sloth.engine.interpreter import Interpreter, Work
from sloth.engine.plans.program import PlannedProgram
from sloth.engine.plans.recorder import Recorder, address_of
from sloth.engine.plans.values import HostPlan, Plan, PlannedCall
from sloth.errors import StalePlan
from sloth.inventory import Host
from sloth.payload.kernel.redact import MASK, is_keyed_hash
from sloth.payload.kernel.status import Status
from sloth.playbook import Error, Hook, Program, Request
from sloth.transport import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sloth.payload.kernel.values import Attributes, Json

SHOWN = 5  # differences that an error lists
_PASSING = frozenset({"atime", "seconds", "started", "ended", "elapsed"})  # values that every look changes


async def refuse_if_applied(plan: Plan, sessions: Mapping[str, Session]) -> None:
    """Raise StalePlan when a plan has been applied to a host before."""
    for session in sessions.values():
        runs = await session.ask("applied_plan", {"plan": plan.id}, lambda row: str(row["run"]))
        if runs:
            raise StalePlan(f"the plan was applied before, in run {runs[0]}", hint="make a new plan")


async def look_again(context: RunContext, host: Host, interpreter: Interpreter, calls: Calls) -> bool:
    """Make the calls of the plan as in a check, in the run's sessions; raise StalePlan when they find other things.

    interpreter, calls: those that will apply the plan. Returns whether the plan is partial.
    """
    saved = context.saved
    assert saved is not None
    plan = saved.plan.hosts[host.name]
    refuse_address(host, plan)
    recorder = Recorder()
    options = dataclasses.replace(context.options, check=True)
    quiet = dataclasses.replace(context, emit=lambda event: None, options=options, recorder=recorder)
    looking = Calls(host.name, quiet.emit, check=True)
    other = Interpreter(quiet, host, looking)
    other.sessions = interpreter.sessions
    program: Program = PlannedProgram(plan, saved.contents, saved.plan.site, recorder, is_look=True)

    async def drive(begin: Callable[[], Request]) -> None:
        end = await other.drive(program, begin)
        await looking.settled()
        cause = end.cause if isinstance(end, Error) else None
        has_failed = any(call.status is Status.FAILED for call in recorder.calls(host.name))
        if cause is not None and not isinstance(cause, UnknownResult) and not has_failed:
            raise cause  # the host did not get to see the call: a secret is missing, say

    other.work = Work(check=True)
    await drive(program.load)
    for planned in (*plan.tasks, *plan.handlers):
        task = planned.task
        if not planned.is_planned or not task.index:
            continue
        other.work = Work(task.name, task.become, task.notify, check=True, resolve=program.resolve)
        await drive(partial(program.start, task))
        if planned.always:
            await drive(partial(program.start_hook, task, Hook.ALWAYS))
    calls.epoch = looking.epoch + 1
    interpreter.shipped |= other.shipped
    await refuse_if_applied(saved.plan, interpreter.sessions.open)
    refuse_differences(plan, recorder, host.name)
    for session in interpreter.sessions.open.values():
        await session.query("begin_plan", {"plan": saved.plan.id})
    return plan.is_partial


async def refuse_stale(context: RunContext, host: Host, sessions: Mapping[str, Session]) -> None:
    """Raise StalePlan unless a check of the plan has found what was planned."""
    saved = context.saved
    assert saved is not None
    assert context.recorder is not None
    plan = saved.plan.hosts[host.name]
    refuse_address(host, plan)
    await refuse_if_applied(saved.plan, sessions)
    refuse_differences(plan, context.recorder, host.name)


def refuse_address(host: Host, plan: HostPlan) -> None:
    """Raise StalePlan when the inventory says now that a host is somewhere else."""
    if address_of(host) != plan.address:
        raise StalePlan(
            f"the plan was made for {plan.address}, and the inventory now says {address_of(host)}",
            hint="make a new plan",
        )


def refuse_differences(plan: HostPlan, recorder: Recorder, host: str) -> None:
    """Raise StalePlan when the calls of a plan have found now what they had not found when it was made."""
    # What is made on another host has effects of other hosts' calls in it: that is not compared.
    planned = [call for _, call in plan.calls() if not call.is_delegated]
    found = [call for call in recorder.calls(host) if not call.is_delegated]
    differences: list[str] = []
    for index, was in enumerate(planned):
        now = found[index] if index < len(found) else None
        text = difference(was, now)
        if text:
            differences.append(f"{was.where}: {was.key or was.title}: {text}")
    if differences:
        more = f" and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise StalePlan(
            f"the host has changed since the plan: {'; '.join(differences[:SHOWN])}{more}",
            hint="nothing was touched there; make a new plan",
        )


def difference(was: PlannedCall, now: PlannedCall | None) -> str:
    """Return how what a call finds now differs from what it found when it was planned; "" when it does not."""
    if now is None or now.status is Status.SKIPPED:
        return "" if was.status in (Status.FAILED, Status.SKIPPED) else "it was not reached"
    if now.status is not was.status:
        why = f" ({now.error})" if now.error else ""
        return f"planned as {was.status.value}, and now {now.status.value}{why}"
    names = _names(was.before, now.before, was.after)
    names += [f"desired {name}".strip() for name in _names(was.after, now.after)]
    if was.read and not was.unknown:
        names += _names(was.values, now.values)
    if "" in names:
        return "it exists now" if was.before is None else "it does not exist any more"
    found = list(dict.fromkeys(names))
    return f"{', '.join(found)} differ{'s' * (len(found) == 1)}" if found else ""


def _names(was: Attributes | None, now: Attributes | None, only: Attributes | None = None) -> list[str]:
    """Return the names of attributes that differ, "" for the whole; only: those that matter."""
    if was is None or now is None:
        return [] if was is now else [""]
    names = [name for name in dict.fromkeys((*was, *now)) if only is None or name in only]
    return [name for name in names if name not in _PASSING and not _is_same(was.get(name), now.get(name))]


def _is_same(was: Json, now: Json) -> bool:
    """Return whether two values are the same, or nobody can tell: keyed hashes and hidden secrets."""
    if is_keyed_hash(was) and is_keyed_hash(now):
        return True
    if isinstance(was, str) and isinstance(now, str) and (MASK in was or MASK in now):
        return True
    if isinstance(was, dict) and isinstance(now, dict):
        return was.keys() == now.keys() and all(_is_same(was[name], now[name]) for name in was)
    if isinstance(was, (list, tuple)) and isinstance(now, (list, tuple)):
        return len(was) == len(now) and all(map(_is_same, was, now))
    return bool(was == now)
