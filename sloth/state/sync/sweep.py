"""Sweeps what nobody needs any more out of a backend, so that it does not grow without bound.

Once a day the first run that ends sweeps, for a short time; `state backend sweep` does all of it at once. Who begins is
decided by an entry that is written under a condition, so two controllers never do the same; that they would is no
harm either. What somebody could write at the same moment is deleted under the condition that it is as it was read.
"""

from __future__ import annotations

import asyncio
import re
from calendar import timegm
from functools import partial
from time import strptime
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.state.backends.backend import Backend, Damaged, Unsupported
from sloth.state.backends.documents import KEEP, Change, change, load, patiently, unpack
from sloth.state.backends.pieced import Pieced
from sloth.state.sync import entries
from sloth.state.sync.heads import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sloth.payload.kernel.values import Json

DONE = "sweep"  # the entry that has when it was done last
DAY = 86400.0
OLD = DAY  # seconds after which what was deleted, or has expired, is swept
KEPT_RUNS = 1000  # records of runs that stay, however old they are
RUN_AGE = 365 * DAY  # seconds for which all records of runs stay
AT_ONCE = 8
_RUN_TIME = re.compile(r"\d{8}-\d{6}")


@frozen
class Swept:
    """How many entries were swept. can_remove: whether the server can delete values safely."""

    values: int
    runs: int
    pieces: int
    can_remove: bool


async def is_due(backend: Backend) -> bool:
    """Return whether it is time to sweep, and take it on: nobody else does for a day. Raises BackendError."""

    def decide(content: Json, now: float) -> tuple[Change, bool]:
        at = content.get("at") if isinstance(content, dict) else None
        if isinstance(at, (int, float)) and now - DAY < at <= now + DAY:
            return KEEP, False
        return Change({"at": now}), True

    return await change(backend, DONE, decide)


async def sweep(backend: Backend, kept_runs: int = KEPT_RUNS, run_age: float = RUN_AGE) -> Swept:
    """Sweep everything: deleted values, old records of runs, pieces that nothing names. Raises BackendError."""
    now = await patiently(backend.clock)
    values, can_remove = await _values(backend, now)
    runs = await _runs(backend, now, kept_runs, run_age)
    pieces = await _pieces(backend, now)
    if isinstance(backend, Pieced):
        pieces += await backend.sweep()
    return Swept(values, runs, pieces, can_remove)


async def forget_host(backend: Backend, agent: str) -> int:
    """Forget the copy of a host's state; return how many entries it had. Raises BackendError."""
    head = entries.head_key(agent)
    names = await patiently(partial(backend.names, head.removesuffix("head")))
    # The head is the first: one that names pieces which are not there would be damaged.
    for name in sorted(names, key=lambda name: name != head):
        await _forget(backend, name)
    return len(names)


async def _values(backend: Backend, now: float) -> tuple[int, bool]:
    """Sweep shared values that were deleted, or have expired, a day ago.

    Locks stay: each must have a greater number than the one before, also a year later.
    """
    can_remove = True

    async def one(name: str) -> int:
        nonlocal can_remove
        entry = await patiently(partial(backend.read, name))
        if entry is None or not can_remove:
            return 0
        try:
            content = unpack(backend, name, entry.value)[0]
        except Damaged:
            return 0
        if not _is_over(content, now):
            return 0
        try:
            return int(await patiently(partial(backend.remove, name, entry.version)))
        except Unsupported:
            can_remove = False
            return 0

    names = await patiently(partial(backend.names, "shared/"))
    return sum(await _each(names, one)), can_remove


def _is_over(content: Json, now: float) -> bool:
    if not isinstance(content, dict):
        return False
    is_held = "value" in content or "sealed" in content
    end = content.get("expires") if is_held else content.get("deleted", 0.0)  # 0: from a version that did not keep it
    return isinstance(end, (int, float)) and end < now - OLD


async def _runs(backend: Backend, now: float, kept: int, age: float) -> int:
    names = sorted(await patiently(partial(backend.names, entries.RUNS)), key=entries.name_in, reverse=True)
    old = [name for name in names[kept:] if _began(entries.name_in(name)) < now - age]
    return sum(await _each(old, partial(_forget, backend)))


def _began(run: str) -> float:
    """Return when a run began, by its id; infinity for what is no id of ours."""
    found = _RUN_TIME.match(run)
    try:
        return float(timegm(strptime(found[0], "%Y%m%d-%H%M%S"))) if found else float("inf")
    except ValueError:
        return float("inf")


async def _pieces(backend: Backend, now: float) -> int:
    """Sweep old pieces of replicas that no version names: those of deliveries that were killed."""
    pieces: dict[str, list[str]] = {}
    for name in await patiently(partial(backend.names, entries.REPLICAS)):
        if entries.is_piece(name) and _age(name, now) > OLD:
            pieces.setdefault(entries.name_in(name), []).append(name)

    async def one(agent: str) -> int:
        key = entries.head_key(agent)
        try:
            versions = entries.versions_of(backend, key, await load(backend, key))
            named = {piece.id for each in versions for piece in Head.read(backend, key, each).pieces}
        except Damaged:
            return 0  # it may name them
        unnamed = [name for name in pieces[agent] if name.rpartition("/")[2] not in named]
        return sum(await _each(unnamed, partial(_forget, backend)))

    return sum(await _each(list(pieces), one))


def _age(name: str, now: float) -> float:
    try:
        return now - int(name.rpartition("/")[2].partition("-")[0], 16)
    except ValueError:
        return 0.0


async def _forget(backend: Backend, name: str) -> int:
    await patiently(partial(backend.forget, name))
    return 1


async def _each(names: list[str], work: Callable[[str], Coroutine[object, object, int]]) -> list[int]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> int:
        async with slots:
            return await work(name)

    return await asyncio.gather(*map(one, names))
