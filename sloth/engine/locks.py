"""The shared locks that one host's tasks hold: waited for, renewed while needed, given back whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from sloth.errors import StateError
from sloth.state.shared import Shared
from sloth.state.shared_locks import Grant, LockLost

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

POLL = 0.2  # seconds between two tries
SHORTEST = 0.05  # seconds between two renewals at least
RELEASE = 3.0  # seconds for which a lock is given back of a task that did not come to its end


class _Held:
    """A lock that state.with_lock holds, and what has become of it."""

    def __init__(self, name: str, holder: str, where: str) -> None:
        self.name = name
        self.holder = holder
        self.where = where
        self.lost: StateError | None = None
        self.renewal: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Renew it no longer."""
        if self.renewal is not None:
            self.renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.renewal


class Locks:
    """The locks of state.with_lock; all methods are called on the event loop."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._held: list[_Held] = []

    async def _wait(self, args: list[Json]) -> Grant:
        """Take a lock (name, holder, ttl, wait): try for `wait` seconds. Raises StateError when it is held longer."""
        *lock, wait = args[:4]
        if not isinstance(wait, (int, float)) or isinstance(wait, bool):
            raise StateError("wait must be a number of seconds", hint='state.with_lock("name", fn, {wait = 10})')
        given = self._shared.arguments("lock", lock)
        end = time.monotonic() + wait
        while time.monotonic() < end:
            taken = await self._shared.attempt(*given)
            if isinstance(taken, Grant):
                return taken
            await asyncio.sleep(POLL)
        return await self._shared.take(*given)

    async def hold(self, args: list[Json], where: str) -> int:
        """Wait for a lock (name, holder, ttl, wait), and renew it until it is released; where: the line of the site.

        Raises StateError when another holder keeps it for longer.
        """
        name, holder, ttl = args[:3]
        held = _Held(name, holder, where)
        self._held.append(held)  # by now: an interrupted attempt may have taken it, too
        try:
            grant = await self._wait(args)
        except StateError:
            self._held.remove(held)
            raise
        held.renewal = asyncio.create_task(self._renew(held, grant, float(ttl)))
        return grant.number

    async def _renew(self, held: _Held, grant: Grant, ttl: float) -> None:
        """Renew a lock until it is lost: taken away, or not renewed in time since the backend does not answer."""
        why = ""
        while True:
            await asyncio.sleep(max(SHORTEST, min(ttl / 3, (grant.until - time.monotonic()) / 2)))
            try:
                async with asyncio.timeout(max(SHORTEST, grant.until - time.monotonic())):
                    grant = await self._shared.locks.renew(held.name, held.holder, grant.number, ttl)
                continue
            except LockLost as error:
                held.lost = error
                return
            except StateError as error:
                why = error.message
            except TimeoutError:
                why = why or f"{self._shared.backend.url} does not answer"
            if time.monotonic() >= grant.until:
                held.lost = StateError(f"the lock {held.name} was lost: it could not be renewed in time: {why}")
                return

    def check(self, where: str) -> None:
        """Raise StateError when a lock that state.with_lock holds was lost: others may be at work, too.

        where: the line of what must not be done any more.
        """
        for held in self._held:
            if held.lost is not None:
                raise self._error(held, where)

    async def release(self, args: list[Json]) -> object:
        """Do the end of state.with_lock(name, holder, succeeded): give the lock back.

        Raises StateError when it was lost meanwhile, unless the function has failed, which has an error of its own.
        """
        succeeded = len(args) < 3 or args[2] is not False
        held = next(held for held in reversed(self._held) if [held.name, held.holder] == args[:2])
        self._held.remove(held)
        await held.stop()
        if held.lost is None:
            try:
                if await self._shared.unlock(held.name, held.holder):
                    return True
                held.lost = LockLost(f"the lock {held.name} was lost: at its end nobody had it any more")
            except LockLost as error:
                held.lost = error
        if succeeded:
            raise self._error(held, "")
        return False

    @staticmethod
    def _error(held: _Held, where: str) -> StateError:
        text = held.lost.message if held.lost is not None else ""
        hint = f"{held.where} has taken it: give it a longer ttl, and see whether what it protects is whole"
        return StateError(f"{text}; nothing more is done under it", where=where, hint=hint)

    async def release_all(self) -> None:
        """Give back what a task left behind that did not come to its end."""
        while self._held:
            held = self._held.pop()
            with contextlib.suppress(StateError, TimeoutError):
                async with asyncio.timeout(RELEASE):
                    await held.stop()
                    await self._shared.unlock(held.name, held.holder)
