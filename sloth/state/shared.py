"""The shared values and locks of Lua's `state` table, in a backend: every run with this backend sees the same ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from sloth.errors import StateError
from sloth.frozen import frozen
from sloth.payload.kernel.redact import MASK
from sloth.state.backends.documents import LONGEST_NAME, Change, change, encode_name, load, patiently
from sloth.state.backends.untrusted import MALFORMED
from sloth.state.shared_locks import TTL, Grant, Lock, SharedLocks, how_to_unlock

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject
    from sloth.state.backends.backend import Backend

PREFIX = "shared/"
SEALED = "sealed "  # what the text of an encrypted value begins with
TOGETHER = 16  # values that are read at the same time for a list


class Sealer(Protocol):
    """Encrypts the values that need it."""

    def seal(self, name: str, value: Json) -> str | None:
        """Return the text to store, which begins with SEALED; None for a value that need not be encrypted."""

    def open(self, name: str, text: str) -> Json:
        """Return the value of such a text. Raises StateError."""

    def check_name(self, name: str) -> None:
        """Raise StateError when a name, or a lock's holder, may not be stored as it is."""


class _Kind(StrEnum):
    """What an argument must be; the value is what an error says."""

    ANY = "plain data"
    STRING = "a string"
    NUMBER = "a number"
    SECONDS = "a number of seconds"
    OPTIONS = "a table such as {ttl = 60}"

    def accepts(self, value: object) -> bool:
        if self is _Kind.STRING:
            return isinstance(value, str)
        if self is _Kind.OPTIONS:
            return isinstance(value, (dict, list))
        if self in (_Kind.NUMBER, _Kind.SECONDS):
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            return is_number and (value == value or self is _Kind.NUMBER)
        return True


@frozen
class _Parameter:
    """A parameter of an operation; `default` is Lua text for its usage line, "" where a value is required."""

    name: str
    kind: _Kind = _Kind.ANY
    default: str = ""
    is_null_kept: bool = False  # whether nil is passed on, rather than left to the default

    def __str__(self) -> str:
        return f"{self.name} = {self.default}" if self.default else self.name


_NAME = _Parameter("name", _Kind.STRING)
_HOLDER = _Parameter("holder", _Kind.STRING)
_TTL = _Parameter("ttl", _Kind.SECONDS, f"{TTL:.0f}")
_OPTIONS = _Parameter("options", _Kind.OPTIONS, "{ttl = seconds}", is_null_kept=True)
# The operations of Lua's `state` that are methods of Shared.
_OPERATIONS: dict[str, tuple[_Parameter, ...]] = {
    "get": (_NAME, _Parameter("default", default="nil")),
    "set": (_NAME, _Parameter("value"), _OPTIONS),
    "cas": (_NAME, _Parameter("expected"), _Parameter("value"), _OPTIONS),
    "delete": (_NAME,),
    "list": (_Parameter("prefix", _Kind.STRING, '""'),),
    "incr": (_NAME, _Parameter("by", _Kind.NUMBER, "1")),
    "lock": (_NAME, _HOLDER, _TTL),
    "try_lock": (_NAME, _HOLDER, _TTL),
    "unlock": (_NAME, _HOLDER),
}

# Inside the class, `list` is an operation.
Names = list[str]
Arguments = list["Json"]


class Shared:
    """Shared values, which are any plain data, and shared locks. Once expired, either counts as absent."""

    def __init__(self, backend: Backend, clock_error: float = 0.0) -> None:
        """Open nothing yet: most runs share nothing. clock_error: see SharedLocks."""
        self.backend = backend
        self.clock_error = clock_error
        self.locks = SharedLocks(backend, clock_error)
        self.sealer: Sealer | None = None  # of a run; people are not shown what is sealed

    async def close(self) -> None:
        """Close the backend's connections. They are opened again when they are used again."""
        await self.backend.close()

    async def call(self, op: str, args: Sequence[Json]) -> Json:
        """Perform the operation `op` of Lua's `state` table. Raises StateError, also for invalid arguments."""
        if op == "holder":
            return os.urandom(16).hex()
        given = self.arguments(op, args)
        method: Callable[..., Awaitable[Json]] = getattr(self, op)
        return await method(*given)

    def arguments(self, op: str, args: Sequence[Json]) -> Arguments:
        """Return the arguments of an operation. Raises StateError for invalid ones."""
        parameters = _OPERATIONS.get(op)
        if parameters is None:
            raise StateError(f"unknown function state.{op}")
        usage = f"state.{op}({', '.join(map(str, parameters))})"
        required = sum(not parameter.default for parameter in parameters)
        if not required <= len(args) <= len(parameters):
            raise StateError(f"state.{op}: invalid number of arguments: {len(args)}", hint=usage)
        given: Arguments = []
        for parameter, value in zip(parameters, args, strict=False):
            if value is None and parameter.default:
                if parameter.is_null_kept:
                    given.append(value)
                continue
            if not parameter.kind.accepts(value):
                raise StateError(f"state.{op}: {parameter.name} must be {parameter.kind.value}", hint=usage)
            given.append(value)
        return given

    # Values

    async def get(self, name: str, default: Json = None) -> Json:
        content = await load(self.backend, _key(name))
        now = await patiently(self.backend.clock) if _expires(content) is not None else 0.0
        return self._value(name, content, default) if _is_present(content, now) else default

    def _value(self, name: str, content: JsonObject, default: Json = None) -> Json:
        if "sealed" not in content:
            return content.get("value", default)
        return MASK if self.sealer is None else self.sealer.open(name, str(content["sealed"]))

    def _content(self, name: str, value: Json, ttl: float | None, now: float) -> JsonObject:
        sealed = self.sealer.seal(name, value) if self.sealer is not None else None
        held = {"value": value} if sealed is None else {"sealed": sealed}
        return {"name": name, **held, "expires": None if ttl is None else now + ttl}

    async def set(self, name: str, value: Json, options: Json = None) -> Json:
        """Set a value and return it; None deletes it. options: {"ttl": seconds}."""
        if value is None:
            await self.delete(name)
            return None
        ttl = _ttl(name, options)

        def decide(content: Json, now: float) -> tuple[Change, None]:
            return Change(self._content(name, value, ttl, now)), None

        await change(self.backend, _key(name), decide)
        return value

    async def cas(self, name: str, expected: Json, value: Json, options: Json = None) -> bool:
        """Set a value if it equals `expected` (None: there is none), atomically; return whether it was set."""
        ttl = _ttl(name, options)

        def decide(content: Json, now: float) -> tuple[Change, bool]:
            held = self._value(name, content) if _is_present(content, now) else None
            if not _is_same(held, expected):
                return Change(keep=True), False
            if value is None:
                return Change({"name": name}) if content is not None else Change(keep=True), True
            return Change(self._content(name, value, ttl, now)), True

        return await change(self.backend, _key(name), decide)

    async def delete(self, name: str) -> bool:
        """Delete a value; return whether there was one."""

        def decide(content: Json, now: float) -> tuple[Change, bool]:
            if not _is_held(content):
                return Change(keep=True), False
            return Change({"name": name, "deleted": now}), _is_present(content, now)

        return await change(self.backend, _key(name), decide)

    async def list(self, prefix: str = "") -> Names:
        """Return the names of all values that begin with `prefix`, sorted."""
        start = encode_name(prefix)[:LONGEST_NAME] if prefix else ""
        keys = await patiently(lambda: self.backend.names(PREFIX + start))
        slots = asyncio.Semaphore(TOGETHER)

        async def read(key: str) -> Json:
            async with slots:
                return await load(self.backend, key)

        found = [content for content in await asyncio.gather(*map(read, keys)) if _is_held(content)]
        now = await patiently(self.backend.clock) if any(map(_expires, found)) else 0.0
        names = (str(content.get("name", "?")) for content in found if _is_present(content, now))
        return sorted(name for name in names if name.startswith(prefix))

    async def incr(self, name: str, by: float = 1) -> float:
        """Add `by` to a number (0 if there is none), atomically; return the sum. Raises StateError."""

        def decide(content: Json, now: float) -> tuple[Change, float]:
            value = self._value(name, content) if _is_present(content, now) else 0
            if not _Kind.NUMBER.accepts(value):
                raise StateError(f"state.incr: {name} is not a number")
            total: float = value + by
            return Change(self._content(name, total, None, now)), total

        return await change(self.backend, _key(name), decide)

    # Locks

    async def try_lock(self, name: str, holder: str, ttl: float = TTL) -> int | bool:
        """Take or renew a lock for `ttl` seconds; return its fencing number, False if another holder has it."""
        taken = await self.attempt(name, holder, ttl)
        return taken.number if isinstance(taken, Grant) else False

    async def attempt(self, name: str, holder: str, ttl: float = TTL) -> Grant | Lock:
        """Take or renew a lock, and return the Lock of another holder that has it instead."""
        for text in (name, holder):
            if self.sealer is not None:
                self.sealer.check_name(text)
        return await self.locks.take(name, holder, ttl)

    async def lock(self, name: str, holder: str, ttl: float = TTL) -> int:
        """Take or renew a lock; return its fencing number. Raises StateError if another holder has it."""
        return (await self.take(name, holder, ttl)).number

    async def take(self, name: str, holder: str, ttl: float = TTL) -> Grant:
        """Take or renew a lock as lock() does. Raises StateError, with the holder and the time left."""
        taken = await self.attempt(name, holder, ttl)
        if isinstance(taken, Grant):
            return taken
        left = max(0.0, taken.expires - await patiently(self.backend.clock))
        raise StateError(
            f"the lock {name} is held by {taken.holder} for another {left:.0f} seconds",
            hint=how_to_unlock(name),
        )

    async def unlock(self, name: str, holder: str) -> bool:
        """Release a lock; return whether it was held. Raises StateError if another holder has it."""
        return await self.locks.release(name, holder)


def _key(name: str) -> str:
    return PREFIX + encode_name(name)


def _is_held(content: Json) -> bool:
    """Return whether there is a value, perhaps an expired one: what was deleted leaves its document."""
    return isinstance(content, dict) and ("value" in content or "sealed" in content)


def _expires(content: Json) -> float | None:
    expires = content.get("expires") if isinstance(content, dict) else None
    try:
        return None if expires is None else float(expires)
    except MALFORMED:
        raise StateError("a shared value is damaged: its time is no number", hint="set it again") from None


def _is_present(content: Json, now: float) -> bool:
    expires = _expires(content)
    return _is_held(content) and (expires is None or expires > now)


def _is_same(one: Json, other: Json) -> bool:
    """Return whether Lua takes both for the same data: an empty object is an empty list there, and true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(item, other[key]) for key, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other or (one in ({}, []) and other in ({}, []))


def _ttl(name: str, options: Json) -> float | None:
    ttl = options.get("ttl") if isinstance(options, dict) else None
    if ttl is not None and not _Kind.SECONDS.accepts(ttl):
        raise StateError(f"the ttl of {name} must be a number of seconds", hint='state.set("name", value, {ttl = 60})')
    return None if ttl is None else float(ttl)
