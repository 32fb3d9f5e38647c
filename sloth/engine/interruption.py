"""Whether the user has interrupted a run: hosts look, and what waits for a server is woken."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal, TypeVar

T = TypeVar("T")


class Interruption:
    """An event that happens once in a run, or never."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def happened(self) -> bool:
        """Return whether it has happened."""
        return self._event.is_set()

    def set(self) -> None:
        """Let it happen."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Wait for it, for so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()

    async def precedes(self, work: asyncio.Future[T]) -> bool:
        """Wait until a piece of work has ended, or this happens; return whether this came first."""
        happening = asyncio.ensure_future(self._event.wait())
        both: set[asyncio.Future[T] | asyncio.Future[Literal[True]]] = {work, happening}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            happening.cancel()
        return not work.done()
