"""Locks in a backend: held by one at a time, until they are released or their time is over by the server's clock.

Every taking of a lock has a greater number than the one before, the fencing number: what refuses smaller ones than it
has seen is safe from a holder that does not know yet that it has lost the lock. A released lock keeps its number.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING

from sloth.errors import StateError
from sloth.frozen import frozen
from sloth.state.backends.backend import Damaged
from sloth.state.backends.documents import KEEP, PATIENCE, Change, change, encode_name, load, patiently
from sloth.state.backends.untrusted import MALFORMED, moment, whole

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json
    from sloth.state.backends.backend import Backend

PREFIX = "locks/"
TTL = 300.0  # seconds for which a lock is held unless its holder says otherwise
LONGEST = 3650 * 86400.0
JUMP = 5.0  # seconds; a lock that was taken so far in the future was taken before a clock was set back


class LockLost(StateError):
    """A lock is not held any more: it has expired, somebody has released it, or another holder has it."""


@frozen
class Lock:
    """A lock that is held. Times are epoch seconds of the backend's clock.

    Attributes:
        taken: since when its holder has it.
        number: the fencing number.
        about: what its holder wants others to know.
    """

    name: str
    holder: str
    taken: float
    expires: float
    number: int = 0
    about: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Return who holds it, for people."""
        return ", ".join([self.holder, *(f"{key} {value}" for key, value in self.about.items())])


@frozen
class Grant:
    """A lock that we hold: its fencing number, and until when at least, by time.monotonic()."""

    number: int
    until: float


@frozen
class _Stored:
    """The content of a lock's document. holder: "" when nobody has it; renewed: when `expires` was set."""

    name: str
    number: int = 0
    holder: str | None = None
    since: float = 0.0
    renewed: float = 0.0
    expires: float = 0.0
    about: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, content: Json) -> _Stored:
        """Raises StateError."""
        if content is None:
            return cls(name)
        try:
            number, holder = whole(content["number"]), content.get("holder")
            if holder is None:
                return cls(str(content["name"]), number)
            since, renewed, expires = (moment(content[key]) for key in ("since", "renewed", "expires"))
            about = {str(key): str(value) for key, value in content.get("about", {}).items()}
            return cls(str(content["name"]), number, str(holder), since, renewed, expires, about)
        except MALFORMED:
            raise StateError(f"the lock {name} is damaged", hint=how_to_unlock(name)) from None

    @classmethod
    def read_any(cls, name: str, content: Json, now: float) -> _Stored:
        """Read one as read() does; one that is damaged is shown as held, so that people can release it."""
        try:
            return cls.read(name, content)
        except StateError:
            return cls(name, 0, "? (damaged)", now, now, now + TTL)

    def plain(self) -> dict[str, Json]:
        if self.holder is None:
            return {"name": self.name, "number": self.number}
        return {
            "name": self.name, "number": self.number, "holder": self.holder, "since": self.since,
            "renewed": self.renewed, "expires": self.expires, "about": dict(self.about),
        }  # fmt: skip

    def after_jump(self, now: float) -> _Stored:
        """Return it as it is when the clock was set back since: it holds as long from now as it was to hold then."""
        if self.holder is None or self.renewed <= now + JUMP:
            return self
        rest = self.expires - self.renewed
        return _Stored(self.name, self.number, self.holder, now, now, now + rest, self.about)

    def lock(self) -> Lock:
        return Lock(self.name, self.holder or "", self.since, self.expires, self.number, self.about)


class SharedLocks:
    """The locks in a backend."""

    def __init__(self, backend: Backend, clock_error: float = 0.0) -> None:
        """clock_error: seconds by which two clients may differ about the server's time.

        For so long after its end nobody else gets a lock, so that its holder knows first that it has ended.
        """
        self._backend = backend
        self._error = clock_error

    async def take(
        self,
        name: str,
        holder: str,
        ttl: float = TTL,
        about: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> Grant | Lock:
        """Take a lock, or renew it if this holder has it; return the Lock of the other holder that has it instead."""
        ttl = _bounded(ttl)

        def decide(content: Json, now: float) -> tuple[Change, Grant | Lock]:
            began = time.monotonic()
            stored = _Stored.read(name, content)
            lock = stored.after_jump(now)
            is_ours = lock.holder == holder and now < lock.expires
            if lock.holder not in (None, holder) and now < lock.expires + self._error:
                return (KEEP if lock is stored else Change(lock.plain())), lock.lock()
            number = lock.number if is_ours else lock.number + 1
            since = lock.since if is_ours else now
            taken = _Stored(name, number, holder, since, now, now + ttl, about or {})
            return Change(taken.plain()), Grant(number, began + ttl)

        taken = await change(self._backend, self._key(name), decide, patience)
        if isinstance(taken, Grant) and taken.until <= time.monotonic() < taken.until + ttl:
            # The answer was lost, and when we knew of it, it was over.
            taken = await change(self._backend, self._key(name), decide, patience)
        return taken

    async def renew(self, name: str, holder: str, number: int, ttl: float, patience: float = PATIENCE) -> Grant:
        """Hold a lock for another `ttl` seconds. Raises LockLost when it is not held any more, under this number."""
        ttl = _bounded(ttl)

        def decide(content: Json, now: float) -> tuple[Change, Grant]:
            began = time.monotonic()
            lock = _Stored.read(name, content).after_jump(now)
            if lock.holder != holder or lock.number != number:
                raise LockLost(f"the lock {name} was lost: {_fate(lock)}")
            if lock.expires <= now:
                raise LockLost(f"the lock {name} was lost: it had expired {now - lock.expires:.0f} seconds ago")
            renewed = _Stored(name, number, holder, lock.since, now, now + ttl, lock.about)
            return Change(renewed.plain()), Grant(number, began + ttl)

        return await change(self._backend, self._key(name), decide, patience)

    async def release(self, name: str, holder: str, patience: float = PATIENCE) -> bool:
        """Release a lock; return whether it was held. Raises LockLost if another holder has it."""

        def decide(content: Json, now: float) -> tuple[Change, bool]:
            lock = _Stored.read(name, content).after_jump(now)
            if lock.holder is None or lock.expires <= now:
                return KEEP, False
            if lock.holder != holder:
                raise LockLost(f"the lock {name} is held by {lock.holder}, not by {holder}")
            return Change(_Stored(lock.name, lock.number).plain()), True

        return await change(self._backend, self._key(name), decide, patience)

    async def release_any(self, name: str, only: Callable[[Lock], bool] = lambda lock: True) -> Lock | None:
        """Release a lock, whoever holds it, if only() returns true; return it, or None when it was not held, or so."""

        def decide(content: Json, now: float) -> tuple[Change, Lock | None]:
            lock = _Stored.read_any(name, content, now)
            if lock.holder is None or lock.expires + self._error <= now or not only(lock.lock()):
                return KEEP, None
            return Change(_Stored(lock.name, lock.number).plain()), lock.lock()

        return await change(self._backend, self._key(name), decide)

    async def find(self, name: str) -> Lock | None:
        """Return a lock; None when nobody holds it."""
        content = await load(self._backend, self._key(name))
        now = await self._clock() if content is not None else 0.0
        lock = _Stored.read_any(name, content, now)
        return lock.lock() if lock.holder is not None and now < lock.expires else None

    async def last(self, name: str) -> tuple[int, str | None]:
        """Return the number of the last taking of a lock, and its holder; None when it was released."""
        stored = _Stored.read(name, await load(self._backend, self._key(name)))
        return stored.number, stored.holder

    async def number(self, name: str) -> int:
        """Return the number of the last taking of a lock; 0 when it was never taken."""
        return _Stored.read(name, await load(self._backend, self._key(name))).number

    async def held(self) -> list[Lock]:
        """Return the locks that are held, sorted by name."""
        names = await patiently(lambda: self._backend.names(PREFIX))
        contents = {key: await load(self._backend, key) for key in names}
        if not contents:
            return []
        now = await self._clock()
        found = [_Stored.read_any(key.removeprefix(PREFIX), content, now) for key, content in contents.items()]
        locks = [lock.lock() for lock in found if lock.holder is not None and now < lock.expires]
        return sorted(locks, key=lambda lock: lock.name)

    async def _clock(self) -> float:
        return await patiently(self._backend.clock)

    def _key(self, name: str) -> str:
        return PREFIX + encode_name(name)


async def keep_numbers(source: Backend, target: Backend) -> None:
    """Let the numbers of locks in a target go on from those in a source: what they protect has seen these already.

    What is held in the source is not held in the target. Raises BackendError.
    """
    for key in await patiently(lambda: source.names(PREFIX)):
        try:
            stored = _Stored.read_any(key, await load(source, key), 0.0)
            await change(target, key, partial(_raise_number, stored))
        except Damaged:
            continue  # its number is not known


def _raise_number(stored: _Stored, content: Json, now: float) -> tuple[Change, None]:
    there = _Stored.read_any(stored.name, content, now)
    if there.number >= stored.number or there.holder is not None:
        return KEEP, None
    return Change(_Stored(stored.name, stored.number).plain()), None


def _bounded(ttl: float) -> float:
    if math.isnan(ttl):
        raise StateError("the ttl of a lock must be a number of seconds")
    return min(float(ttl), LONGEST)


def how_to_unlock(name: str) -> str:
    """Return the command that releases a lock, as a shell takes it."""
    quoted = shlex.quote(name)
    return "sloth-runner state unlock " + (quoted if quoted != name else f"'{name}'")


def _fate(lock: _Stored) -> str:
    if lock.holder is None:
        return "somebody has released it"
    return f"{lock.holder} has taken it since"
