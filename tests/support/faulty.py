"""Backends in a file that lose answers, have no more space, stop in the middle, or do not answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sloth.state.backends.backend import BackendError, Entry, Unsure
from sloth.state.backends.sqlite import SQLite
from sloth.state.database import Database

T = TypeVar("T")


class Lossy(SQLite):
    """Answers to writes are lost, as often as `chance` says; what they wrote is there, or not."""

    def __init__(self, path: Path, chance: float, seed: int) -> None:
        super().__init__(path)
        self._chance, self._random = chance, random.Random(seed)

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        if self._random.random() < self._chance / 2:
            raise Unsure("the request was lost")
        version = await super().write(key, value, expected)
        await asyncio.sleep(0)
        if self._random.random() < self._chance:
            raise Unsure("the answer was lost")
        return version


class Failing(SQLite):
    """A backend whose disk is full after some writes."""

    left = 10**9

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        if self.left == 0:
            raise BackendError("no space left")
        self.left -= 1
        return await super().write(key, value, expected)


class Stopping(SQLite):
    """Does so many requests more, and none after that: as when the one who asks is killed.

    Attributes:
        left: how many.
        is_late: whether the next one is done all the same, and only its answer is lost.
    """

    left = 10**9
    is_late = False

    async def _do(self, work: Callable[[Database], T]) -> T:
        if self.left < 0 or (self.left == 0 and not self.is_late):
            raise BackendError("stopped")
        self.left -= 1
        done = await super()._do(work)
        if self.left < 0:
            raise BackendError("stopped")
        return done


class Hanging(SQLite):
    """Does not answer what begins with one of `keys`, to no read and no question for the time (of the key "clock").

    Attributes:
        most: how many reads there were at once.
    """

    def __init__(self, path: Path, *keys: str) -> None:
        super().__init__(path)
        self.keys = keys
        self.asked = asyncio.Event()
        self.most = self._now = 0

    async def read(self, key: str) -> Entry | None:
        await self._hang(key)
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await asyncio.sleep(0.001)
            return await super().read(key)
        finally:
            self._now -= 1

    async def clock(self) -> float:
        await self._hang("clock")
        return await super().clock()

    async def _hang(self, key: str) -> None:
        if key.startswith(self.keys):
            self.asked.set()
            await asyncio.Event().wait()
