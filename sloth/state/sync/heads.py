"""The copy of a host's state in a backend: a head, and the pieces that it names.

A piece never changes. A head is written only where it was as it was read, and only to get nearer to what the host has:
the host counts its changes, so what a session brought is applied if it continues what is there, is ignored if it is
older, and replaces all if the host's state file is another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.payload.kernel.record import ReplicaChange
from sloth.state import replicas
from sloth.state.backends.backend import Backend, BackendError, Damaged
from sloth.state.backends.documents import KEEP, Change, change, patiently
from sloth.state.backends.untrusted import MALFORMED, moment, whole
from sloth.state.outbox import Item
from sloth.state.replicas import Position
from sloth.state.sync import entries
from sloth.state.sync.entries import head_key, next_version, piece_key, versions_of, with_versions

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

DELTAS = 8  # pieces after the first one; then all of them become one
TRIES = 10  # when others write the same head


@frozen
class Piece:
    """A piece of a replica: all of it (since is None), or what changed after one sequence number up to another."""

    id: str
    since: int | None
    until: int
    size: int

    @classmethod
    def read(cls, data: Json) -> Piece:
        """Return the piece that a head names. Raises one of MALFORMED."""
        since = data["since"]
        return cls(str(data["id"]), None if since is None else whole(since), whole(data["until"]), whole(data["size"]))

    def plain(self) -> JsonObject:
        """Return it as a head names it."""
        return {"id": self.id, "since": self.since, "until": self.until, "size": self.size}


@frozen
class Head:
    """A version of a replica in a backend.

    Attributes:
        at: when the host was last seen, by the backend's clock.
        run: the last run whose changes are in it; "" when it was no run, or a version did not keep it yet.
    """

    version: int
    position: Position
    at: float
    pieces: tuple[Piece, ...]
    run: str = ""

    @classmethod
    def read(cls, backend: Backend, key: str, data: JsonObject) -> Head:
        """Return a version of a head. Raises Damaged."""
        try:
            pieces = tuple(map(Piece.read, data["pieces"]))
            if not pieces or pieces[0].since is not None or pieces[-1].until != data["seq"]:
                raise ValueError
            position = Position(str(data["store"]), whole(data["seq"]))
            return cls(whole(data["version"]), position, moment(data["at"]), pieces, str(data.get("run", "")))
        except MALFORMED:
            raise Damaged(f"{backend.url}: {key} is damaged", hint=entries.HOW_TO_MEND) from None


class _End(StrEnum):
    """What came of an attempt to write a head."""

    WRITTEN = "written"
    NOT_NEEDED = "not needed"
    OVERTAKEN = "overtaken"  # somebody else has written it since it was read


async def deliver(backend: Backend, path: Path, item: Item, by: JsonObject) -> Position | None:
    """Bring the copy of an agent's replica up to the replica at `path`; return where the copy is then.

    by: who delivers it, for the version. Returns None when the replica is not that of `item` any more. Raises
    BackendError, StateError.
    """
    key = head_key(item.name)
    for _ in range(TRIES):
        found = await entries.load_versions(backend, key)
        head = Head.read(backend, key, found[0]) if found else None
        is_whole = item.whole or (head is not None and _is_long(head))
        packed = await asyncio.to_thread(_pack, path, item, head.position if head is not None else None, is_whole)
        if packed is None:
            return None
        if packed.data is None:
            return packed.position
        piece = Piece(_new_id(), packed.since, packed.position.seq, len(packed.data))
        # Of a lost answer: the name is random, so if there is such a piece by now, it is ours.
        await patiently(lambda: backend.write(piece_key(item.name, piece.id), packed.data or b"", None))  # noqa: B023
        end, unused = await _write(backend, key, item, packed.position, piece, by)
        for one in unused:
            with contextlib.suppress(BackendError):  # state backend check finds what is left
                await backend.forget(piece_key(item.name, one))
        if end is not _End.OVERTAKEN:
            return packed.position
    raise BackendError(f"{backend.url}: {key} is written by others all the time")


@frozen
class _Packed:
    """What is to be delivered; data is None when the copy has it all."""

    position: Position
    since: int | None = None
    data: bytes | None = None


def _pack(path: Path, item: Item, other: Position | None, whole: bool) -> _Packed | None:
    found = replicas.lacking(path, item.store, other, whole)
    if found is None:
        return None
    # A long head is no reason to write one that has nothing new.
    is_old = other is not None and other.store == item.store and other.seq >= found.position.seq
    if found.change is None or (is_old and not item.whole):
        return _Packed(found.position)
    since = None if found.change.whole or other is None else other.seq
    return _Packed(found.position, since, pack_change(item.name, found.change, since))


def _new_id() -> str:
    """Return the id of a new piece, which tells how old it is."""
    return f"{int(time.time()):x}-{secrets.token_hex(6)}"


def pack_change(agent: str, change: ReplicaChange, since: int | None) -> bytes:
    """Return the content of a piece."""
    return entries.pack({
        "format": entries.FORMAT, "agent": agent, "store": change.id, "since": since, "until": change.seq,
        "removed": list(change.removed), "rows": list(change.rows),
    })  # fmt: skip


def unpack_change(backend: Backend, agent: str, head: Head, piece: Piece, data: bytes | None) -> ReplicaChange:
    """Return what a piece holds. Raises Damaged, also when it is not the piece that the head means."""
    try:
        content = entries.unpack(data or b"")
        found = (content["agent"], content["store"], content["since"], content["until"])
        if found != (agent, head.position.store, piece.since, piece.until):
            raise ValueError
        return ReplicaChange(
            id=head.position.store,
            seq=piece.until,
            removed=list(map(str, content["removed"])),
            whole=piece.since is None,
            rows=[dict(row) for row in content["rows"]],
        )
    except MALFORMED:
        what = "is damaged" if data is not None else "is missing"
        key = piece_key(agent, piece.id)
        raise Damaged(f"{backend.url}: {key} {what}", hint=entries.HOW_TO_MEND) from None


def _is_long(head: Head) -> bool:
    """Return whether the pieces of a head had better become one."""
    rest = head.pieces[1:]
    return len(rest) >= DELTAS or sum(piece.size for piece in rest) > max(head.pieces[0].size, 4096)


async def _write(
    backend: Backend, key: str, item: Item, position: Position, piece: Piece, by: JsonObject
) -> tuple[_End, list[str]]:
    """Let the head name a piece; return what came of it, and the pieces that no version names any more."""

    def decide(content: Json, now: float) -> tuple[Change, tuple[_End, list[str]]]:
        found = versions_of(backend, key, content)
        seen = min(item.at + now - time.time(), now)  # by the backend's clock
        head = Head.read(backend, key, found[0]) if found else None
        end = _judge(head, item, position, piece, seen)
        if end is not _End.WRITTEN:
            return KEEP, (end, [piece.id])
        before = [] if piece.since is None or head is None else [one.plain() for one in head.pieces]
        version = next_version(found)
        new = {
            **by, "run": item.run, "version": version, "store": position.store, "seq": position.seq, "at": seen,
            "pieces": [*before, piece.plain()],
        }  # fmt: skip
        changed = with_versions(content, [new, *found])
        named = {one["id"] for each in changed["versions"] for one in each.get("pieces", ())}
        dropped = {one["id"] for each in found for one in each.get("pieces", ())} - named
        return Change({**changed, "agent": item.name}), (_End.WRITTEN, sorted(dropped))

    return await change(backend, key, decide)


def _judge(head: Head | None, item: Item, position: Position, piece: Piece, seen: float) -> _End:
    """Return what is to be done with a piece, as the head is now."""
    if head is None:
        return _End.WRITTEN if piece.since is None else _End.OVERTAKEN
    if head.position.store != position.store:
        if seen < head.at:
            return _End.NOT_NEEDED  # the host was set up anew since
        return _End.WRITTEN if piece.since is None else _End.OVERTAKEN
    if head.position.seq >= position.seq:
        return _End.WRITTEN if item.whole and seen >= head.at and piece.since is None else _End.NOT_NEEDED
    return _End.WRITTEN if piece.since is None or piece.since <= head.position.seq else _End.OVERTAKEN
