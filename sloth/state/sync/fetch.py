"""Fetches what other controllers have delivered to a backend, into the local database and replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

from sloth.errors import StateError
from sloth.state import keys
from sloth.state.backends.backend import Backend, Damaged
from sloth.state.backends.documents import patiently
from sloth.state.memory import Memory
from sloth.state.replicas import Position
from sloth.state.run_values import StoredRun
from sloth.state.sync import entries, runs
from sloth.state.sync.entries import NewerFormat, head_key, piece_key, run_key
from sloth.state.sync.heads import Head, Piece, unpack_change

if TYPE_CHECKING:
    from sloth.payload.kernel.record import ReplicaChange

AT_ONCE = 16  # requests
NEWEST = 500  # records of runs that are fetched without being named
UNENDED = 100  # of the newest of them, those that had not ended are read again
BATCH = 50  # records that are written together
TRIES = 3  # when the pieces of a replica are replaced while they are read
SKEW = 60.0  # seconds by which a replica in the backend must be newer to replace one that counts further
T = TypeVar("T")


class Fetching:
    """Fetches from one backend into one Memory.

    Attributes:
        problems: what was damaged or of a newer format, and so is missing.
    """

    def __init__(self, memory: Memory, backend: Backend) -> None:
        self._memory = memory
        self._backend = backend
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.problems: list[StateError] = []

    async def runs(self, prefix: str = "") -> int:
        """Fetch the records of runs that are not known, or had not ended; return how many were new.

        prefix: of those whose id begins so, all; without it, the newest ones. Raises BackendError.
        """
        names = await patiently(lambda: self._backend.names(run_key(prefix)))
        known = self._memory.runs.ends()
        found = sorted((entries.name_in(name) for name in names), reverse=True)
        new = [run for run in found if run not in known]
        new = new if prefix else new[:NEWEST]
        # (False, None) is a run of this controller, which nobody else ends.
        again = [run for run in found[:UNENDED] if run in known and known[run] == (False, self._backend.url)]
        for start in range(0, len(new) + len(again), BATCH):
            batch = [*new, *again][start : start + BATCH]
            read = await self._each(batch, self._run)
            self._memory.runs.keep([one for one in read if one is not None])
        return len(new)

    async def _run(self, run: str) -> StoredRun | None:
        key = run_key(run)
        return runs.read(self._backend, key, await entries.load_versions(self._backend, key))

    async def new_agents(self) -> list[str]:
        """Return the agents of which the backend has a replica, and this controller has none."""
        names = await patiently(lambda: self._backend.names(entries.REPLICAS))
        agents = [entries.name_in(name) for name in names if entries.is_head(name)]
        known = self._memory.seen()
        return [name for name in agents if entries.is_agent(name) and name not in known]

    async def news(self) -> None:
        """Fetch the newest runs, and the replicas that changed by them. Raises BackendError.

        These are those of agents that are not known here, and of hosts on which others have worked since.
        """
        await self.runs()
        begun = self._memory.runs.last_of_others()
        seen = self._memory.seen()
        # A time of whole seconds is a little before what it stands for.
        stale = [name for name, (_, at) in seen.items() if begun.get(name.partition("@")[0], 0.0) > at + 1]
        await self.replicas([*await self.new_agents(), *stale])

    async def replicas(self, agents: Collection[str]) -> None:
        """Bring the replicas of these agents up to those in the backend. Raises BackendError."""
        skew = await self._backend.clock() - time.time()
        here = self._memory.seen()
        agents = [agent for agent in agents if entries.is_agent(agent)]
        heads = await self._each(agents, self._head)
        wanted = [
            agent
            for agent, head in zip(agents, heads, strict=True)
            if head is not None and _is_ahead(head, here.get(agent), skew)
        ]
        await self._each(wanted, lambda agent: self._replica(agent, skew))

    async def _head(self, agent: str) -> Head | None:
        key = head_key(agent)
        versions = await entries.load_versions(self._backend, key)
        return Head.read(self._backend, key, versions[0]) if versions else None

    async def _replica(self, agent: str, skew: float) -> None:
        for attempt in range(TRIES):
            head = await self._head(agent)
            known = self._memory.seen().get(agent)
            if head is None or not _is_ahead(head, known, skew):
                return
            pieces = _lacking(head, known[0] if known is not None else None)
            data = [await self._piece(agent, piece) for piece in pieces]
            if None in data and attempt + 1 < TRIES:
                continue  # they were replaced since
            changes = [
                unpack_change(self._backend, agent, head, piece, one) for piece, one in zip(pieces, data, strict=True)
            ]
            if self._apply(agent, head, pieces, changes, skew) or pieces == list(head.pieces):
                return
            changes = [
                unpack_change(self._backend, agent, head, piece, await self._piece(agent, piece))
                for piece in head.pieces
            ]
            self._apply(agent, head, head.pieces, changes, skew)
            return

    async def _piece(self, agent: str, piece: Piece) -> bytes | None:
        entry = await patiently(lambda: self._backend.read(piece_key(agent, piece.id)))
        return None if entry is None else entry.value

    def _apply(
        self, agent: str, head: Head, pieces: Sequence[Piece], changes: Sequence[ReplicaChange], skew: float
    ) -> bool:
        """Write pieces into the replica; return False when it lacks what is before them."""
        for piece, change in zip(pieces, changes, strict=True):
            if self._memory.take_over(agent, change, change.rows, piece.since, head.at - skew) is None:
                return False
        return True

    async def _each(self, names: Sequence[str], read: Callable[[str], Awaitable[T | None]]) -> list[T | None]:
        """Return what read() returns for each; of what cannot be read None, with a note in `problems`."""

        async def one(name: str) -> T | None:
            async with self._slots:
                try:
                    return await read(name)
                except (Damaged, NewerFormat, keys.Damaged) as error:
                    self.problems.append(error)
                    return None

        return list(await asyncio.gather(*map(one, names)))


def _is_ahead(head: Head, known: tuple[Position, float] | None, skew: float) -> bool:
    """Return whether a replica in the backend is nearer to the host than ours."""
    if known is None:
        return True
    position, seen_at = known
    if head.position.store == position.store and head.position.seq > position.seq:
        return True
    # Another file, or the same one with a smaller count: the host was set up anew, or restored from a backup.
    later = head.at - (seen_at + skew)
    return later > (SKEW if head.position.store == position.store else 0.0) and head.position != position


def _lacking(head: Head, position: Position | None) -> list[Piece]:
    """Return the pieces that a replica at a position lacks."""
    base, rest = head.pieces[0], head.pieces[1:]
    if position is None or position.store != head.position.store or position.seq < base.until:
        return list(head.pieces)
    if position.seq > head.position.seq:
        return list(head.pieces)
    return [piece for piece in rest if piece.until > position.seq]
