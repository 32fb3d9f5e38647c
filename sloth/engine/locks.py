"""The shared locks that one host's tasks hold: waited for, renewed while needed, given back whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from sloth.engine.patience import patiently
from sloth.errors import StateError
from sloth.state.shared import Shared

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

POLL = 0.2  # seconds between two tries
SHORTEST = 0.05  # seconds between two renewals at least


class Locks:
    """The locks of state.with_lock; all methods are called on the event loop."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._renewals: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._lost: dict[tuple[str, str], StateError] = {}

    async def wait(self, args: list[Json]) -> object:
        """Do state.lock(name, holder, ttl, wait): try for `wait` seconds. Raises StateError when it is held longer."""
        *lock, wait = args[:4]
        if not isinstance(wait, (int, float)) or isinstance(wait, bool):
            raise StateError("wait must be a number of seconds", hint='state.with_lock("name", fn, {wait = 10})')
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if await self._call("try_lock", lock):
                return True
            await asyncio.sleep(POLL)
        return await self._call("lock", lock)

    async def hold(self, args: list[Json]) -> object:
        """Wait for a lock as wait() does, and renew it until it is released."""
        await self.wait(args)
        name, holder, ttl = args[:3]
        self._renewals[(name, holder)] = asyncio.create_task(self._renew(name, holder, float(ttl)))
        return True

    async def _renew(self, name: str, holder: str, ttl: float) -> None:
        while True:
            await asyncio.sleep(max(SHORTEST, ttl / 3))
            try:
                await self._call("lock", [name, holder, ttl])
            except StateError as error:
                self._lost[(name, holder)] = error
                return

    async def release(self, args: list[Json]) -> object:
        """Give a lock back. Raises StateError when it was lost meanwhile: others may have been at work, too."""
        name, holder = args[:2]
        await self._stop((name, holder))
        lost = self._lost.pop((name, holder), None)
        if lost is not None:
            raise StateError(f"the lock {name} was lost while needed: {lost.message}", hint="give it a longer ttl")
        return await self._call("unlock", [name, holder])

    async def _call(self, op: str, args: list[Json]) -> Json:
        return await patiently(lambda: self._shared.call(op, args))

    async def _stop(self, key: tuple[str, str]) -> None:
        task = self._renewals.pop(key, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def release_all(self) -> None:
        """Give back what a task left behind that did not come to its end."""
        for name, holder in list(self._renewals):
            with contextlib.suppress(StateError):
                await self.release([name, holder])
