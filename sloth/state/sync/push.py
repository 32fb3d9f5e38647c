"""Makes everything due that a controller has: for a new backend, and to mend a damaged one."""

from __future__ import annotations

from functools import partial

from sloth.state import keys
from sloth.state.backends.backend import Backend, Damaged
from sloth.state.backends.documents import patiently
from sloth.state.memory import Memory
from sloth.state.replicas import Position
from sloth.state.sync import entries, runs
from sloth.state.sync.entries import head_key, piece_key, run_key
from sloth.state.sync.heads import Head, unpack_change

UNREADABLE = (Damaged, keys.Damaged)


async def make_due(memory: Memory, backend: Backend) -> list[str]:
    """Make all runs of this controller and all its replicas due; forget what is damaged in the backend.

    Returns the keys of what is damaged and what this controller has not got as far: it stays. Raises StateError.
    """
    assert memory.outbox is not None
    left: list[str] = []
    there = set(await patiently(lambda: backend.names("")))
    for run, (_, source) in memory.runs.ends().items():
        if source is None:
            if run_key(run) in there and not await _is_run_sound(backend, run):
                await backend.forget(run_key(run))
            memory.outbox.add_run(run)
    memory.outbox.forget_delivered()
    for agent, (position, seen_at) in memory.seen().items():
        if not memory.replica_path(agent).exists() or not position.store:
            continue
        if head_key(agent) in there:
            has, is_sound = await _state_of_replica(backend, agent)
            if not is_sound:
                if has is not None and has.store == position.store and has.seq > position.seq:
                    left.append(head_key(agent))
                    continue
                await backend.forget(head_key(agent))
        memory.outbox.add_replica(agent, position, at=seen_at)
    return left


async def _is_run_sound(backend: Backend, run: str) -> bool:
    try:
        runs.read(backend, run_key(run), await entries.load_versions(backend, run_key(run)))
    except UNREADABLE:
        return False
    return True


async def _state_of_replica(backend: Backend, agent: str) -> tuple[Position | None, bool]:
    """Return up to where a replica is, if that can be read, and whether all of it can."""
    position = None
    try:
        versions = await entries.load_versions(backend, head_key(agent))
        if not versions:
            return None, True
        head = Head.read(backend, head_key(agent), versions[0])
        position = head.position
        for piece in head.pieces:
            entry = await patiently(partial(backend.read, piece_key(agent, piece.id)))
            unpack_change(backend, agent, head, piece, entry.value if entry is not None else None)
    except UNREADABLE:
        return position, False
    return position, True
