"""JSON documents in a backend, changed exactly once though answers are lost.

A document carries the ids of its last writes. After a lost answer we look for our own id: if it is there, the write has
happened; if not, but the one that it was to follow is, it has not. The ids also make every write differ in its bytes: a
server whose versions are hashes of the bytes would otherwise take a value that went away and came back for one that
never changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from sloth.frozen import frozen
from sloth.state.backends.backend import Backend, BackendUnavailable, Damaged, Unsure
from sloth.state.backends.untrusted import MALFORMED, parse

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

T = TypeVar("T")
IDS = 128  # ids of writes that a document carries: as many may happen between a lost answer and our next look
LONGEST_NAME = 400  # bytes of a name in a key; what is longer is cut, and told apart by its hash
PATIENCE = 30.0  # seconds for which a change is tried
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0  # seconds between two tries


@frozen
class Change:
    """What a decision makes of a document: the new content, or with `keep` none, and no write at all."""

    content: Json = None
    keep: bool = False


KEEP = Change(keep=True)


async def load(backend: Backend, key: str) -> Json:
    """Return the content of a document, None if there is none. Raises BackendError."""
    entry = await patiently(lambda: backend.read(key))
    return None if entry is None else unpack(backend, key, entry.value)[0]


async def change(
    backend: Backend, key: str, decide: Callable[[Json, float], tuple[Change, T]], patience: float = PATIENCE
) -> T:
    """Change a document atomically and exactly once; return what the decision returned.

    decide: is called with the content (None: there is none) and the server's time, perhaps several times; it returns
    the change and the result. A content of None stays as a document without content: what is deleted keeps its ids.
    patience: seconds for which it is tried. Raises BackendError; BackendUnavailable when the backend does not answer
    for so long; Unsure when an answer was lost, and too much was written since to know whether ours was among it.
    """
    mine: dict[str, T] = {}  # results by the ids of our own writes whose answer was lost
    parent: str | None = None  # the write that the last of them was to follow
    end = time.monotonic() + patience
    pause = FIRST_PAUSE
    while True:
        try:
            entry = await backend.read(key)
            content, ids = unpack(backend, key, entry.value) if entry else (None, [])
            for one in ids:
                if one in mine:
                    return mine[one]
            newest = ids[0] if ids else None
            if mine and newest != parent:
                if len(ids) >= IDS and parent not in ids:
                    raise _forgotten(backend, key)
                mine.clear()  # another write has followed the one that ours were to follow: ours cannot happen any more
            decided, result = decide(content, await backend.clock())
            if decided.keep:
                return result
            new = os.urandom(6).hex()  # short: a document carries many
            mine[new], parent = result, ids[0] if ids else None
            data = pack(decided.content, [new, *ids])
            if await backend.write(key, data, entry.version if entry else None) is not None:
                return result
            del mine[new]
        except _Forgotten:
            raise
        except Unsure:
            if time.monotonic() > end:
                raise
            pause = FIRST_PAUSE  # look soon: rivals may write so much meanwhile that it cannot be known any more
        except BackendUnavailable:
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise BackendUnavailable(f"{backend.url}: {key} is written by others all the time")
        await asyncio.sleep(_about(pause))
        pause = min(pause * 2, LONGEST_PAUSE)


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what ask() returns, asking again while the backend does not answer, for PATIENCE seconds.

    For requests that may be made twice. Raises BackendError.
    """
    end = time.monotonic() + PATIENCE
    pause = FIRST_PAUSE
    while True:
        try:
            return await ask()
        except BackendUnavailable:
            if time.monotonic() > end:
                raise
        await asyncio.sleep(_about(pause))
        pause = min(pause * 2, LONGEST_PAUSE)


def _about(seconds: float) -> float:
    """Return half to one and a half of it, at random: else rivals would meet again and again."""
    return seconds * (0.5 + os.urandom(1)[0] / 255)


def pack(content: Json, ids: Sequence[str]) -> bytes:
    """Return a document as it is stored, with the ids of its last writes, the newest first."""
    return json.dumps({"ids": ids[:IDS], "content": content}).encode("utf-8")


def encode_name(name: str) -> str:
    """Return a name as a part of a key that every server takes: few characters of ASCII, no "/", and not too long.

    Names that begin alike do so here, too, up to LONGEST_NAME.
    """
    text = quote(name.encode("utf-8", "surrogatepass"), safe=":@")
    if text.startswith("."):  # "." and ".." are no names for servers that have files
        text = "%2E" + text[1:]
    if len(text) > LONGEST_NAME:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        text = f"{text[:LONGEST_NAME]}~{digest}"
    return text or "%7e"  # what no name gives: quote() writes capitals, and leaves "~" as it is


class _Forgotten(Unsure):
    """Too much was written since our write whose answer was lost."""


def _forgotten(backend: Backend, key: str) -> _Forgotten:
    text = f"{backend.url}: the answer to a change of {key} was lost, and too much was written since to know of it"
    return _Forgotten(text, hint="look at the value, and do it again if it has not happened")


def unpack(backend: Backend, key: str, data: bytes) -> tuple[Json, list[str]]:
    """Return the content of a document, and the ids of its last writes. Raises Damaged."""
    try:
        document = parse(data)
        return document["content"], [str(one) for one in document["ids"]]
    except MALFORMED as error:
        raise Damaged(f"{backend.url}: {key} is damaged: {error}") from error
