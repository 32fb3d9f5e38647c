"""Values of any size: a wrapper of a backend that stores what is above its limit in pieces.

The entry itself is then a head, which names the pieces and their hash. Each write has pieces of its own, so it is
always clear whose they are: they are written before the head, forgotten when the head was not written, and when the
next one has replaced it. A writer that was killed leaves some; they are swept when they are a day old by the server's
clock and no head names them. So a writer that needs longer than an hour for its pieces gives up.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.state.backends.backend import Backend, BackendError, Entry
from sloth.state.backends.documents import patiently
from sloth.state.backends.sealed import Sealed
from sloth.state.backends.untrusted import MALFORMED, parse, whole
from sloth.state.keys import Damaged

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = b"sloth-runner pieces 1 "
PIECES = ".pieces/"  # before the names of pieces, which no caller sees
LIMIT = 256 * 1024 * 1024  # bytes of a value; all of it is in memory
LARGEST_PIECE = 4 * 1024 * 1024
AT_ONCE = 4  # pieces that are read or written at the same time
OLD = 24 * 3600.0  # seconds after which pieces that no head names are swept
GIVE_UP = 3600.0  # seconds for writing the pieces of one value
TRIES = 10
REREAD = 0.05  # seconds before a head is read again whose pieces were replaced


@frozen
class Head:
    """What an entry says of its pieces: the id of the write, how many they are, the size and hash of the value."""

    id: str
    count: int
    size: int
    sha256: str

    def pack(self) -> bytes:
        """Return it as the value of an entry."""
        plain = {"id": self.id, "count": self.count, "size": self.size, "sha256": self.sha256}
        return MARK + json.dumps(plain).encode("ascii")

    @classmethod
    def unpack(cls, key: str, value: bytes) -> Head | None:
        """Return that of an entry; None for a value that is not in pieces. Raises Damaged."""
        if not value.startswith(MARK):
            return None
        try:
            plain = parse(value[len(MARK) :])
            head = cls(str(plain["id"]), whole(plain["count"]), whole(plain["size"]), str(plain["sha256"]))
        except MALFORMED:
            raise Damaged(f"the head of {key} is damaged") from None
        if not 0 < head.count <= LIMIT // 1024 or not 0 <= head.size <= LIMIT or "/" in head.id:
            raise Damaged(f"the head of {key} is damaged")
        return head

    def names(self, key: str) -> list[str]:
        """Return the keys of the pieces."""
        return [f"{PIECES}{key}/{self.id}/{number}" for number in range(self.count)]


class Pieced:
    """A backend whose values may be larger than its limit."""

    limit = LIMIT

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._heads: dict[str, tuple[str, Head]] = {}  # the heads that we have seen, with their versions, by key
        self._swept: set[str] = set()
        self.url = backend.url

    @property
    def piece_size(self) -> int:
        """Return how many bytes an entry may have on the server, and a piece has at most."""
        return min(self._backend.limit, LARGEST_PIECE)

    @property
    def is_sealed(self) -> bool:
        """Return whether values are encrypted on this side."""
        return isinstance(self._backend, Sealed) and self._backend.has_keys

    async def read(self, key: str) -> Entry | None:
        version = ""
        for _ in range(TRIES):
            entry = await self._backend.read(key)
            if entry is None:
                return None
            head = Head.unpack(key, entry.value)
            if head is None:
                self._heads.pop(key, None)
                return entry
            self._heads[key] = entry.version, head
            value = await self._gather(key, head)
            if value is not None:
                return Entry(value, entry.version)
            if entry.version == version:
                raise Damaged(f"{self.url}: pieces of {key} are missing or altered", hint="restore an older version")
            version = entry.version  # it was replaced while we read, unless it is still the same now
            await asyncio.sleep(REREAD)
        raise BackendError(f"{self.url}: {key} is written by others all the time", hint="try again")

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        if key.startswith(PIECES):
            raise BackendError(f"{self.url}: a key cannot begin with {PIECES}")
        if len(value) > self.limit:
            raise BackendError(f"{self.url}: {key} has {len(value)} bytes, and a value may have {self.limit}")
        head = None
        data = value
        if len(value) > self.piece_size or value.startswith(MARK):
            head = await self._write_pieces(key, value)
            data = head.pack()
        version = await self._backend.write(key, data, expected)  # after an error it may be there: the pieces stay
        if version is None:
            await self._forget_pieces(key, head)
            return None
        seen = self._heads.pop(key, None)
        if seen is not None and seen[0] == expected:
            await self._forget_pieces(key, seen[1])
        if head is not None:
            self._heads[key] = version, head
            await self._sweep_once(key)
        return version

    async def names(self, prefix: str) -> list[str]:
        return [name for name in await self._backend.names(prefix) if not name.startswith(PIECES)]

    async def forget(self, key: str) -> None:
        entry = await self._backend.read(key)
        await self._backend.forget(key)
        self._heads.pop(key, None)
        if entry is not None:
            await self._forget_pieces(key, Head.unpack(key, entry.value))

    async def remove(self, key: str, expected: str) -> bool:
        seen = self._heads.get(key)
        is_gone = await self._backend.remove(key, expected)
        if is_gone and seen is not None and seen[0] == expected:
            del self._heads[key]
            await self._forget_pieces(key, seen[1])
        return is_gone

    async def clock(self) -> float:
        return await self._backend.clock()

    async def close(self) -> None:
        await self._backend.close()

    async def sweep(self, prefix: str = "") -> int:
        """Forget the old pieces, of the keys with a prefix, that no head names; return how many it were."""
        now = await self.clock()
        writes: dict[tuple[str, str], list[str]] = {}
        for name in await self._backend.names(PIECES + prefix):
            key, _, rest = name.removeprefix(PIECES).rpartition("/")
            key, _, write = key.rpartition("/")
            if rest.isdigit() and age(write, now) > OLD:
                writes.setdefault((key, write), []).append(name)
        swept = 0
        for (key, write), names in writes.items():
            entry = await self._backend.read(key)
            head = Head.unpack(key, entry.value) if entry is not None else None
            if head is None or head.id != write:
                await self._forget_all(names)
                swept += len(names)
        return swept

    async def _write_pieces(self, key: str, value: bytes) -> Head:
        started = time.monotonic()
        size = self.piece_size
        pieces = [value[at : at + size] for at in range(0, len(value), size)]
        id = f"{int(await self.clock()):x}-{secrets.token_hex(8)}"
        digest = await asyncio.to_thread(lambda: hashlib.sha256(value).hexdigest())
        head = Head(id, len(pieces), len(value), digest)
        limiter = asyncio.Semaphore(AT_ONCE)

        async def write(name: str, piece: bytes) -> None:
            # The name is ours alone: "not as expected" means that an earlier try, whose answer was lost, was written.
            async with limiter:
                await patiently(lambda: self._backend.write(name, piece, None))

        try:
            async with asyncio.TaskGroup() as tasks:
                for name, piece in zip(head.names(key), pieces, strict=True):
                    tasks.create_task(write(name, piece))
        except* BackendError as group:
            await self._forget_pieces(key, head)
            raise _first(group) from None
        if time.monotonic() - started > GIVE_UP:
            await self._forget_pieces(key, head)
            raise BackendError(f"{self.url}: {key} took longer than {GIVE_UP:.0f} s to write")
        return head

    async def _gather(self, key: str, head: Head) -> bytes | None:
        """Return the value of a head; None when its pieces are not as it says."""
        found: dict[int, bytes] = {}
        left = enumerate(head.names(key))
        size = 0

        async def read() -> None:
            nonlocal size
            for number, name in left:  # the others go on where this one is
                entry = await self._backend.read(name)
                size += len(entry.value) if entry is not None else head.size + 1
                if size > head.size:  # one is missing, or the server sends more than there can be
                    return
                found[number] = entry.value if entry is not None else b""

        tasks = [asyncio.ensure_future(read()) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        if len(found) < head.count or size != head.size:
            return None
        value = b"".join(found[number] for number in range(head.count))
        digest = await asyncio.to_thread(lambda: hashlib.sha256(value).hexdigest())
        return value if digest == head.sha256 else None

    async def _forget_pieces(self, key: str, head: Head | None) -> None:
        if head is not None:
            await self._forget_all(head.names(key))

    async def _forget_all(self, names: Sequence[str]) -> None:
        """Forget pieces; those that the server does not let go of now are swept later."""
        for name in names:
            try:
                await self._backend.forget(name)
            except BackendError:
                return

    async def _sweep_once(self, key: str) -> None:
        """Sweep the pieces of a key when it is first written here; that it fails is not the write's failure."""
        if key not in self._swept:
            self._swept.add(key)
            try:
                await self.sweep(f"{key}/")
            except BackendError:
                pass


def age(write: str, now: float) -> float:
    """Return the age in seconds of a write, by its id; 0 for what is no id."""
    try:
        return now - int(write.partition("-")[0], 16)
    except ValueError:
        return 0.0


def _first(group: BaseExceptionGroup[BackendError]) -> BackendError:
    """Return one of the errors, of the same cause most probably."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, BackendError)
    return error
