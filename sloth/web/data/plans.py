"""Saved plans: which there are, and what each would do, for review."""

from __future__ import annotations

import asyncio
import json
import shlex
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sloth.engine.plans.file import read_plan
from sloth.errors import SlothError, StateNotFound
from sloth.frozen import frozen
from sloth.report.plans import count
from sloth.state.keys import Keys
from sloth.state.sync import plans as backend_plans
from sloth.web.data.runs import ABOUT, COLUMNS, RunRow, read_run
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.engine.plans.values import Plan
    from sloth.payload.kernel.values import JsonObject
    from sloth.state.backends.backend import Backend
    from sloth.web.view import Query

T = TypeVar("T")
SHOWN = 50  # runs that applied a plan


@frozen
class PlanRow:
    """A saved plan.

    Attributes:
        problem: why it cannot be read.
        applied: the newest run that applied it, as far as this controller knows; "" for none.
    """

    name: str
    id: str
    site: str
    created: float | None
    who: str
    origin: str
    hosts: int
    changes: int
    changed_hosts: int
    unchanged: int
    problem: str
    applied: str


@frozen
class PlannedChange:
    """What would change, on each of `hosts` alike."""

    what: str
    key: str
    why: str
    text: str
    task: str
    place: str
    hosts: tuple[str, ...]
    diff: dict[str, object]


@frozen
class PlannedUnknown:
    """What is not known before it is done."""

    task: str
    place: str
    what: str
    hosts: tuple[str, ...]


@frozen
class OnePlan:
    """What a saved plan would do.

    Attributes:
        applied: the runs that applied it, the newest first.
        unreachable: hosts that it leaves out.
        orphans: what its site no longer names: "KEY on HOST"; a plan leaves it.
        apply: the command that does it.
    """

    plan: PlanRow
    changes: tuple[PlannedChange, ...]
    unknowns: tuple[PlannedUnknown, ...]
    applied: tuple[RunRow, ...]
    unreachable: tuple[str, ...]
    orphans: tuple[str, ...]
    apply: str


@frozen
class Plans:
    """The plans that were named on the command line, and those of the backend."""

    rows: tuple[PlanRow, ...]


def list_plans(source: Source, query: Query) -> Plans:
    """Return the saved plans."""
    rows = []
    applied = _newest_applications(source)
    for name, read in _readers(source).items():
        try:
            plan = read()
            rows.append(_row(name, plan, applied.get(plan.id, "")))
        except SlothError as error:
            rows.append(PlanRow(name, "", "", None, "", "", 0, 0, 0, 0, str(error), ""))
    return Plans(tuple(rows))


def find_plan(source: Source, query: Query) -> OnePlan:
    """Return one saved plan, by the name of its file. Raises StateNotFound, StateError."""
    name = query.text("name")
    read = _readers(source).get(name)
    if read is None:
        raise StateNotFound(f"plan {name} not found", hint="sloth-runner web --plan FILE shows one")
    plan = read()
    changes: dict[str, tuple[JsonObject, list[str]]] = {}
    unknowns: dict[tuple[str, str, str], list[str]] = {}
    for host in plan.hosts.values():
        for task, call in host.changes():
            one: JsonObject = {
                "what": call.title, "key": call.key, "why": call.reason, "text": call.msg, "task": task,
                "place": call.where, "diff": call.diff or {},
            }  # fmt: skip
            changes.setdefault(json.dumps(one, sort_keys=True, default=str), (one, []))[1].append(host.name)
        for unknown in host.unknowns():
            unknowns.setdefault(unknown, []).append(host.name)
    applied = _applied(source, plan)
    return OnePlan(
        plan=_row(name, plan, applied[0].run if applied else ""),
        applied=applied,
        changes=tuple(PlannedChange(**one, hosts=tuple(names)) for one, names in changes.values()),
        unknowns=tuple(PlannedUnknown(*what, tuple(names)) for what, names in unknowns.items()),
        unreachable=plan.unreachable,
        orphans=tuple(f"{key} on {host.name}" for host in plan.hosts.values() for key in host.orphans),
        apply=f"sloth-runner apply {shlex.quote(name)}" + (" --allow-unknown" if unknowns else ""),
    )


def _newest_applications(source: Source) -> dict[str, str]:
    """Return the newest run that applied each plan, by the plan's id."""
    plan = ABOUT.format("plan")
    rows = source.database.rows(
        f"SELECT {plan}, run, max(started) FROM runs WHERE kind='run' AND {plan} IS NOT NULL GROUP BY {plan}"
    )
    return {str(row[0]): str(row[1]) for row in rows}


def _applied(source: Source, plan: Plan) -> tuple[RunRow, ...]:
    """Return the newest runs that applied a plan."""
    rows = source.database.rows(
        f"SELECT {COLUMNS} FROM runs WHERE kind='run' AND {ABOUT.format('plan')}=? ORDER BY started DESC LIMIT ?",
        (plan.id, SHOWN),
    )
    return tuple(map(read_run, rows))


def _readers(source: Source) -> dict[str, Callable[[], Plan]]:
    """Return what reads each plan, by its name: files are called as briefly as they are unique, others @NAME."""
    names = [path.name for path in source.plans]
    found: dict[str, Callable[[], Plan]] = {}
    for path in source.plans:
        found[path.name if names.count(path.name) == 1 else str(path)] = partial(_read, path)
    for name in _in_backend(source, backend_plans.names) or ():
        found[f"@{name}"] = partial(_read_shared, source, name)
    return found


def _in_backend(source: Source, work: Callable[[Backend], Awaitable[T]]) -> T | None:
    """Return what work() does with the backend; None when there is none."""

    async def run() -> T | None:
        storage = source.storage()
        backend = storage.backend()
        if backend is None:
            return None
        try:
            return await work(backend)
        finally:
            await storage.close()

    return asyncio.run(run())


def _read_shared(source: Source, name: str) -> Plan:
    data = _in_backend(source, lambda backend: backend_plans.read(backend, name))
    with tempfile.NamedTemporaryFile(prefix="sloth-plan-") as file:
        file.write(data or b"")
        file.flush()
        return _read(Path(file.name))


def _read(path: Path) -> Plan:
    saved = read_plan(path, Keys())
    saved.spool.close()
    return saved.plan


def _row(name: str, plan: Plan, applied: str) -> PlanRow:
    changes, on, unchanged = count(plan)
    return PlanRow(
        name, plan.id, plan.site, plan.created, plan.who, plan.origin, len(plan.hosts), changes, on, unchanged, "",
        applied,
    )  # fmt: skip
