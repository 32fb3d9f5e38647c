"""Compares what a host's state was at the ends of two runs, as the versions of its replica in a backend have it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from sloth.errors import StateError, StateNotFound
from sloth.state.backends.backend import Backend
from sloth.state.backends.documents import patiently
from sloth.state.memory import Memory
from sloth.state.queries import Difference
from sloth.state.run_records import RunRecord
from sloth.state.sync import entries
from sloth.state.sync.entries import head_key, piece_key
from sloth.state.sync.heads import Head, Piece, unpack_change

if TYPE_CHECKING:
    from sloth.payload.kernel.record import ReplicaChange
    from sloth.payload.kernel.values import Diff, JsonObject

States = dict[str, "JsonObject"]  # rows of the table `resources`, by key
_ASK_THE_HOST = "leave out --cached: the host has its whole history"


async def compare(backend: Backend, memory: Memory, agent: str, first: str, last: str) -> list[Difference]:
    """Return what differs between the ends of two runs on one host, whatever happened in between.

    first, last: ids, beginnings of ids, or `last` for the newest run that has reached the host. Raises StateError when
    the backend does not have the state of that time.
    """
    low, high = sorted((_find(memory, agent, name) for name in (first, last)), key=lambda run: run.started)
    key = head_key(agent)
    found = await entries.load_versions(backend, key)
    if not found:
        raise StateNotFound(f"{backend.url}: no replica of {agent}", hint="a run creates it")
    # A version that somebody has restored is what the backend had, and not what the host was.
    heads = [Head.read(backend, key, one) for one in found if not one.get("restored")]
    sides = []
    for run in (low, high):
        head = await _head_after(backend, memory, agent, heads, run)
        sides.append(await _states(backend, agent, head) if head is not None else {})
    before, after = sides
    return [
        difference
        for name in sorted({*before, *after})
        if (difference := _difference(name, before.get(name), after.get(name))) is not None
    ]


def _find(memory: Memory, agent: str, name: str) -> RunRecord:
    """Return the run that is meant, which has reached the host. Raises StateError."""
    host = agent.partition("@")[0]
    if name != "last":
        run = memory.runs.find(name)
        if not any(row.host == host and row.status != "unreachable" for row in memory.runs.hosts(run.run)):
            raise StateNotFound(f"run {run.run} has not reached {host}", hint="see sloth-runner runs show")
        return run
    newest = memory.runs.newest_of(host)
    if newest is None:
        raise StateNotFound(f"no run on {host} is recorded", hint="see sloth-runner runs list")
    return newest


async def _head_after(backend: Backend, memory: Memory, agent: str, heads: list[Head], run: RunRecord) -> Head | None:
    """Return the version that has the state of the end of a run; None when that state was empty. Raises StateError.

    heads: all versions, the newest first.
    """
    for head in heads:
        if head.run == run.run:
            return head
    since, former = float("-inf"), None
    for head in heads:
        if (began := _began(memory, head)) <= run.started:
            since, former = began, head
            break
    unknown = f"the backend does not have what {agent} was at the end of run {run.run}"
    if former is None and not (heads and heads[-1].version == 1):
        raise StateError(f"{unknown}: it keeps {entries.KEPT} versions", hint=_ASK_THE_HOST)
    kept = {head.run for head in heads}
    host = agent.partition("@")[0]
    lost = {key for one, key in memory.runs.changes(host, since, run.started) if one not in kept}
    if lost and await _are_of(backend, agent, heads, lost):  # they were delivered with a later run's
        raise StateError(unknown, hint=_ASK_THE_HOST)
    return former


async def _are_of(backend: Backend, agent: str, heads: list[Head], keys: set[str]) -> bool:
    """Return whether one of these resources of a host may be of this agent, and not only of another account."""
    host = agent.partition("@")[0]
    names = await patiently(partial(backend.names, head_key(host).removesuffix("/head")))
    agents = {entries.name_in(name) for name in names if entries.is_head(name)}
    if not any(name != agent and name.partition("@")[0] == host for name in agents):
        return True
    for piece, one in {piece: head for head in heads for piece in head.pieces}.items():
        change = await _change(backend, agent, one, piece)
        if not keys.isdisjoint([*(str(row["key"]) for row in change.rows), *change.removed]):
            return True
    return False


def _began(memory: Memory, head: Head) -> float:
    """Return when the run of a version began, or when the version was written if that is not known."""
    try:
        return memory.runs.find(head.run).started if head.run else head.at
    except StateError:
        return head.at


async def _states(backend: Backend, agent: str, head: Head) -> States:
    """Return the records that a version has. Raises Damaged."""
    states: States = {}
    for piece in head.pieces:  # the first one is all of it
        change = await _change(backend, agent, head, piece)
        states.update({str(row["key"]): row for row in change.rows})
        for key in change.removed:
            states.pop(key, None)
    return states


async def _change(backend: Backend, agent: str, head: Head, piece: Piece) -> ReplicaChange:
    """Return what a piece of a version holds. Raises Damaged."""
    entry = await patiently(partial(backend.read, piece_key(agent, piece.id)))
    return unpack_change(backend, agent, head, piece, entry.value if entry is not None else None)


def _difference(key: str, before: JsonObject | None, after: JsonObject | None) -> Difference | None:
    """Return how a record differs, None when it does not."""
    old, new = _observed(before), _observed(after)
    if before is None and after is not None:
        old = _json(after, "before_first_change")
    if old == new:
        return None
    diff: Diff = {}
    if (old is None) != (new is None):
        diff["exists"] = {"before": old is not None, "after": new is not None}
    one, other = old or {}, new or {}
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            diff[name] = {"before": one.get(name), "after": other.get(name)}
    return Difference(key=key, before=old, after=new, diff=diff)


def _observed(row: JsonObject | None) -> JsonObject | None:
    return None if row is None else _json(row, "observed")


def _json(row: JsonObject, name: str) -> JsonObject | None:
    try:
        found = json.loads(row.get(name) or "null")
    except (RecursionError, TypeError, ValueError):
        return None
    return found if isinstance(found, dict) else None
