"""Encrypts everything that a server has with another key: complete, or to be repeated.

Each value is written anew under the condition that it is as it was read, so at every moment each of them is readable
with the old keys or with the new ones. A value in pieces gets new pieces, which are there before its head names them:
encrypted, the same bytes need more of them.
"""

from __future__ import annotations

from functools import partial

from sloth.state.backends.backend import Backend, BackendError
from sloth.state.backends.documents import patiently
from sloth.state.backends.pieced import GIVE_UP, PIECES, Head, Pieced, age
from sloth.state.backends.sealed import SALT, Sealed
from sloth.state.backends.untrusted import MALFORMED, parse
from sloth.state.keys import KeyHeader, Keys, WrongKey

TRIES = 5
PASSES = 5  # over what was written with an old key meanwhile


async def rekey(backend: Backend, old: Keys, new: Keys) -> int:
    """Encrypt every value of a server with the first of the new keys, plain ones too; return how many it were.

    backend: the server itself (open_server). Nobody else may write meanwhile with the old keys: those who read it later
    could not. Safe to repeat after an interruption, with old keys that open what is there. Raises StateError.
    """
    both = _Both(backend, old, new)
    pieced = Pieced(both)
    has_passphrase = new.for_writing()[1].kdf is not None
    if has_passphrase and not await _is_salt_of(backend, new):
        await patiently(partial(backend.forget, SALT))
    done = 0
    for _ in range(PASSES):
        count = 0
        for name in await patiently(partial(pieced.names, "")):
            count += await _rekey_one(both, pieced, name)
        if not count:
            break
        done += count
    else:
        raise BackendError(f"{backend.url} is written all the time", hint="let nobody use it, and repeat the command")
    await _rekey_unnamed(both)
    if not has_passphrase:
        await patiently(partial(backend.forget, SALT))
    return done


class _Both(Sealed):
    """A server whose values are read with the old keys or the new ones, or in plain text, and written with the new."""

    def __init__(self, backend: Backend, old: Keys, new: Keys) -> None:
        super().__init__(backend, new)
        self.server = backend
        self._old = Sealed(backend, old)

    async def names(self, prefix: str) -> list[str]:
        return [name for name in await self.server.names(prefix) if name != SALT]

    async def is_done(self, key: str, value: bytes) -> bool:
        """Return whether what the server has for a key is encrypted with the first new key."""
        used = self.header(key, value)
        return used is not None and used.keys == (await self.header_for_writing()).keys

    async def open(self, key: str, data: bytes) -> bytes:
        if self.header(key, data) is None:
            return data
        if await self.is_done(key, data):
            return await super().open(key, data)
        return await self._old.open(key, data)


async def _is_salt_of(backend: Backend, keys: Keys) -> bool:
    """Return whether the passphrase is that of the salt that is there."""
    entry = await patiently(partial(backend.read, SALT))
    try:
        header = KeyHeader.read(parse(entry.value)) if entry else None
    except MALFORMED:
        header = None
    if header is None:
        return False
    try:
        keys.for_reading(header, backend.url)
    except WrongKey:
        return False
    return True


async def _rekey_one(both: _Both, pieced: Pieced, name: str) -> bool:
    for _ in range(TRIES):
        raw = await patiently(partial(both.server.read, name))
        if raw is None or await both.is_done(name, raw.value):  # its pieces were, too, before it was written
            return False
        entry = await patiently(partial(pieced.read, name))
        if entry is None:
            return False
        # After a lost answer it is as we have written it, which the next try finds.
        if await patiently(partial(pieced.write, name, entry.value, entry.version)) is not None:
            return True
    raise BackendError(f"{both.url}: {name} is written by others all the time", hint="try again")


async def _rekey_unnamed(both: _Both) -> None:
    """Encrypt pieces that no head names, and that nobody has swept yet; old ones are forgotten."""
    now = await patiently(both.clock)
    heads: dict[str, str] = {}
    for piece in await patiently(partial(both.names, PIECES)):
        key, write, _ = piece.removeprefix(PIECES).rsplit("/", 2)
        raw = await patiently(partial(both.server.read, piece))
        if raw is None or await both.is_done(piece, raw.value):
            continue
        if key not in heads:
            entry = await patiently(partial(both.read, key))
            head = Head.unpack(key, entry.value) if entry is not None else None
            heads[key] = head.id if head is not None else ""
        if write != heads[key] and age(write, now) > GIVE_UP:
            await patiently(partial(both.forget, piece))
            continue
        value = await both.open(piece, raw.value)
        if len(value) <= both.limit:
            await patiently(partial(both.write, piece, value, raw.version))
