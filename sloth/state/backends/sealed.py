"""Values that are encrypted on this side: a wrapper of a backend, which sees names, sizes and times, and no content.

A sealed value is a line "sloth-runner sealed 1 HEADER", where the header names the keys, and a Fernet token of the
compressed value and its name. The name is bound in: a server that swaps two values is found out. That it brings an old
version back is not.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from typing import TypeVar

from sloth.errors import StateError
from sloth.state.backends.backend import Backend, BackendError, Entry
from sloth.state.backends.untrusted import MALFORMED, decompress, parse
from sloth.state.keys import HOW_TO_GIVE_A_KEY, Damaged, KeyHeader, Keyring, Keys

T = TypeVar("T")
MARK = b"sloth-runner sealed 1 "
SALT = "encryption"  # the entry that holds how keys are derived from the passphrase
LARGE = 64 * 1024  # bytes from which the work is done in a thread
ROOM = 2048  # bytes for the mark, the header, the name and what encryption adds


class NotEncrypted(StateError):
    """A value is there in plain text, where all of them must be encrypted."""


class Sealed:
    """A backend whose values are encrypted with our keys; without keys, it refuses to read those of others."""

    def __init__(self, backend: Backend, keys: Keys | None) -> None:
        self._backend = backend
        self._keys = keys
        self._writing: tuple[Keyring, KeyHeader] | None = None
        self._reading: dict[str, Keyring] = {}  # by header
        self.url = backend.url
        self.limit = backend.limit if keys is None else (backend.limit - ROOM) * 3 // 4 - 64

    @property
    def has_keys(self) -> bool:
        """Return whether values are encrypted."""
        return self._keys is not None

    async def read(self, key: str) -> Entry | None:
        entry = await self._backend.read(key)
        return None if entry is None else Entry(await self.open(key, entry.value), entry.version)

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        if len(value) > self.limit:
            raise BackendError(f"{self.url}: {key} has {len(value)} bytes, and a value may have {self.limit}")
        if self._keys is not None:
            value = await self._seal(key, value)
        return await self._backend.write(key, value, expected)

    async def names(self, prefix: str) -> list[str]:
        return [name for name in await self._backend.names(prefix) if self._keys is None or name != SALT]

    async def forget(self, key: str) -> None:
        await self._backend.forget(key)

    async def remove(self, key: str, expected: str) -> bool:
        return await self._backend.remove(key, expected)

    async def clock(self) -> float:
        return await self._backend.clock()

    async def close(self) -> None:
        await self._backend.close()

    async def _seal(self, key: str, value: bytes) -> bytes:
        ring, header = await self._for_writing()

        def work() -> bytes:
            name = key.encode("utf-8", "surrogateescape")
            plain = b"%d %s%s" % (len(name), name, value)
            return b"%s%s\n%s" % (MARK, json.dumps(header.plain()).encode("ascii"), ring.encrypt(_compress(plain)))

        return await _in_thread(work, len(value))

    async def open(self, key: str, data: bytes) -> bytes:
        """Return the value of what the server has for a key. Raises StateError."""
        header = self.header(key, data)
        what = f"{self.url}: {key}"
        if self._keys is None:
            if header is None:
                return data
            hint = f"set encrypt = true; {HOW_TO_GIVE_A_KEY}"
            raise StateError(f"{what} is encrypted with the key {', '.join(header.keys)}", hint=hint)
        if header is None:
            hint = "sloth-runner state rekey encrypts what is there; or remove encrypt = true"
            raise NotEncrypted(f"{what} is not encrypted, and everything here must be", hint=hint)
        ring = self._for_reading(header, what)

        def work() -> bytes:
            plain = decompress(ring.decrypt(data.partition(b"\n")[2]))
            length, _, rest = plain.partition(b" ")
            name = rest[: int(length)].decode("utf-8", "surrogateescape")
            if name != key:
                raise Damaged(f"{what} holds what was written as {name}", hint="somebody has moved it on the server")
            return rest[int(length) :]

        try:
            return await _in_thread(work, len(data))
        except Damaged as error:
            if error.hint:
                raise
            used = ", ".join(header.keys)
            raise Damaged(f"{what} is damaged: it was encrypted with the key {used}, and altered since") from None
        except ValueError:
            raise Damaged(f"{what} is damaged: it was encrypted with the key {', '.join(header.keys)}") from None

    async def header_for_writing(self) -> KeyHeader:
        """Return the header of what is written from now on."""
        return (await self._for_writing())[1]

    def header(self, key: str, data: bytes) -> KeyHeader | None:
        """Return the header of a sealed value, and None for a plain one. Raises Damaged."""
        if not data.startswith(MARK):
            return None
        try:
            header = KeyHeader.read(parse(data[len(MARK) : data.index(b"\n")]))
        except MALFORMED:
            header = None
        if header is None:
            raise Damaged(f"{self.url}: the header of {key} is damaged")
        return header

    def _for_reading(self, header: KeyHeader, what: str) -> Keyring:
        name = json.dumps(header.plain())
        if name not in self._reading:
            assert self._keys is not None
            self._reading[name] = self._keys.for_reading(header, what)
        return self._reading[name]

    async def _for_writing(self) -> tuple[Keyring, KeyHeader]:
        """Return the Keyring to encrypt with, and its header."""
        if self._writing is None:
            assert self._keys is not None
            ring, header = self._keys.for_writing()
            if header.kdf is not None:
                # One salt for all writers: a key for each one's own would cost its 0.1 s again and again.
                entry = await self._backend.read(SALT)
                if entry is None:
                    data = json.dumps(header.plain()).encode("ascii")
                    await self._backend.write(SALT, data, None)
                    entry = await self._backend.read(SALT)
                header = self._salt_header(entry)
                ring = self._keys.for_reading(header, self.url)
            self._writing = ring, header
        return self._writing

    def _salt_header(self, entry: Entry | None) -> KeyHeader:
        try:
            header = KeyHeader.read(parse(entry.value)) if entry else None
        except MALFORMED:
            header = None
        if header is None:
            raise Damaged(f"{self.url}: {SALT} is damaged")
        return header


def _compress(data: bytes) -> bytes:
    """Return the data compressed, or as they are where that does not pay, in the same format."""
    packed = zlib.compress(data, 6)
    return packed if len(packed) < len(data) else zlib.compress(data, 0)


async def _in_thread(work: Callable[[], T], size: int) -> T:
    """Return what work() returns; large work does not stop what else is going on."""
    return work() if size < LARGE else await asyncio.to_thread(work)
