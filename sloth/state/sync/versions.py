"""The versions of run records and of replicas in a backend, and how one of them becomes the newest again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sloth.errors import StateError, UsageError
from sloth.frozen import frozen
from sloth.state.backends.backend import Backend
from sloth.state.backends.documents import Change, change, patiently
from sloth.state.sync import entries, runs
from sloth.state.sync.entries import next_version, versions_of, with_versions
from sloth.state.sync.heads import Head, unpack_change

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject


@frozen
class Version:
    """A version of an entry. `what` is what tells it from others, one sentence."""

    version: int
    at: float
    by: str
    origin: str
    what: str


def versioned_key(name: str) -> str:
    """Return the key that a user means: runs/RUN, replicas/AGENT. Raises UsageError for one that has no versions."""
    if name.startswith(entries.RUNS) and name != entries.RUNS:
        return name
    if name.startswith(entries.REPLICAS) and name != entries.REPLICAS:
        agent = name.removeprefix(entries.REPLICAS).removesuffix("/head")
        if "/" not in agent:
            return entries.REPLICAS + agent + "/head"
    raise UsageError(f"{name} has no versions", hint="runs/RUN and replicas/AGENT have: runs/20261126-015828-09408c")


async def versions(backend: Backend, key: str) -> list[Version]:
    """Return the versions of an entry, the newest first. Raises StateError when there is no such entry."""
    found = await entries.load_versions(backend, key)
    if not found:
        raise StateError(f"{backend.url}: no entry {key}", hint="see sloth-runner runs list, and state list --cached")
    return [
        Version(
            one["version"],
            float(one.get("at", 0)),
            str(one.get("by", "")),
            str(one.get("origin", "")),
            _describe(key, one),
        )
        for one in found
    ]


def _describe(key: str, one: JsonObject) -> str:
    restored = f", restored from version {one['restored']}" if one.get("restored") else ""
    if entries.is_head(key):
        size = sum(int(piece.get("size", 0)) for piece in one.get("pieces", ()))
        return f"up to change {one.get('seq')} of {str(one.get('store'))[:8]}, {size} bytes{restored}"
    record = one.get("record") or {}
    end = f"ended with status {record.get('status')}" if one.get("has_ended") else "not finished"
    return f"{record.get('site')} on {record.get('hosts')} hosts by {record.get('who')}, {end}{restored}"


async def restore(backend: Backend, key: str, number: int, by: JsonObject) -> int:
    """Make a version the newest one again; return its new number. Raises StateError when it is not kept, or damaged."""
    await _verify(backend, key, _select(backend, key, await entries.load_versions(backend, key), number))

    def decide(content: Json, now: float) -> tuple[Change, int]:
        found = versions_of(backend, key, content)
        again = _select(backend, key, found, number)
        version = next_version(found)
        new = {**again, **by, "version": version, "at": now, "restored": number}
        return Change(with_versions(content, [new, *found])), version

    return await change(backend, key, decide)


def _select(backend: Backend, key: str, found: list[JsonObject], number: int) -> JsonObject:
    for one in found:
        if one.get("version") == number:
            return one
    kept = ", ".join(str(one.get("version")) for one in found) or "none"
    raise StateError(f"{backend.url}: {key} has no version {number}", hint=f"kept are {kept}")


async def _verify(backend: Backend, key: str, one: JsonObject) -> None:
    """Raise Damaged unless all that a version needs is there."""
    if not entries.is_head(key):
        runs.read(backend, key, [one])
        return
    agent = entries.name_in(key)
    head = Head.read(backend, key, one)
    for piece in head.pieces:
        name = entries.piece_key(agent, piece.id)
        entry = await patiently(partial(backend.read, name))
        unpack_change(backend, agent, head, piece, entry.value if entry is not None else None)
