"""JSON documents in a backend, changed exactly once though answers are lost.

A document carries the ids of its last writes. After a lost answer we look for our own id: if it is there, the write has
happened. The ids also make every write differ in its bytes: a server whose versions are hashes of the bytes would
otherwise take a value that went away and came back for one that never changed.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from sloth.frozen import frozen
from sloth.state.backends.backend import Backend, BackendUnavailable, Damaged

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

T = TypeVar("T")
IDS = 32  # ids of writes that a document carries: as many may happen between a lost answer and our next look
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
    return None if entry is None else _unpack(backend, key, entry.value)[0]


async def change(backend: Backend, key: str, decide: Callable[[Json, float], tuple[Change, T]]) -> T:
    """Change a document atomically and exactly once; return what the decision returned.

    decide: is called with the content (None: there is none) and the server's time, perhaps several times; it returns
    the change and the result. A content of None stays as a document without content: what is deleted keeps its ids.
    Raises BackendError, and BackendUnavailable when the backend does not answer for PATIENCE seconds.
    """
    mine: dict[str, T] = {}  # results by the ids of our own writes whose answer was lost
    end = time.monotonic() + PATIENCE
    pause = FIRST_PAUSE
    while True:
        try:
            entry = await backend.read(key)
            content, ids = _unpack(backend, key, entry.value) if entry else (None, [])
            for one in ids:
                if one in mine:
                    return mine[one]
            decided, result = decide(content, await backend.clock())
            if decided.keep:
                return result
            new = secrets.token_hex(8)
            mine[new] = result
            data = json.dumps({"ids": [new, *ids[: IDS - 1]], "content": decided.content}).encode("utf-8")
            if await backend.write(key, data, entry.version if entry else None) is not None:
                return result
            del mine[new]
        except BackendUnavailable:
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise BackendUnavailable(f"{backend.url}: {key} is written by others all the time")
        await asyncio.sleep(pause * (0.5 + random.random()))
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
        await asyncio.sleep(pause * (0.5 + random.random()))
        pause = min(pause * 2, LONGEST_PAUSE)


def _unpack(backend: Backend, key: str, data: bytes) -> tuple[Json, list[str]]:
    try:
        document = json.loads(data)
        return document["content"], [str(one) for one in document["ids"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{backend.url}: {key} is damaged: {error}") from error
