"""What a session writes: frames in order, many of them together, each write within a deadline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine

from sloth.errors import ConnectionLost, HostError
from sloth.payload.session import wire
from sloth.payload.session.messages import Message
from sloth.transport.connection import RemoteProcess

SOON = 0.005  # seconds that a frame may wait for others to go with it
SOON_BYTES = 32 * 1024  # bytes that may
STALLED = 60.0  # seconds that a write may take before the host counts as stalled


class Outbox:
    """Writes to one payload. Until it has confirmed that it runs, everything is kept to be written again."""

    def __init__(self, host: str, spawn: Callable[[Coroutine[object, object, None]], None]) -> None:
        """spawn: runs a coroutine in the background, and ends the session when it fails."""
        self._host = host
        self._spawn = spawn
        self._process: RemoteProcess | None = None
        self._unconfirmed: list[bytes] | None = []  # None: the payload runs
        self._writing = asyncio.Lock()
        self._waiting: list[bytes] = []
        self._waiting_since = 0.0
        self.end: HostError | None = None  # why nothing can be written any more

    async def begin(self, process: RemoteProcess, header: bytes) -> None:
        """Write `header` to a new process, then everything that an earlier one did not confirm."""
        async with self._writing:
            self._process = process
            with contextlib.suppress(OSError):  # how it ended is what the reading side finds out
                await self._bounded(header + b"".join(self._unconfirmed or ()))

    def confirm(self) -> None:
        """The payload runs: what was written need not be kept."""
        self._unconfirmed = None

    async def send(self, message: Message) -> None:
        """Write a message now, after what waits. Raises HostError when the session has ended."""
        await self.write(wire.pack(message))

    async def write(self, frames: bytes) -> None:
        """Write packed frames now, after what waits. Raises HostError when the session has ended."""
        self._check()
        self._waiting.append(frames)
        await self._flush()

    async def write_soon(self, frames: bytes) -> None:
        """Write frames together with those that come at once: a packet and a wake-up for each is expensive.

        They wait for the event loop's next turn, and only for SOON seconds or SOON_BYTES bytes when it does not come.
        """
        self._check()
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._waiting_since = loop.time()
            loop.call_soon(lambda: self._spawn(self._flush()))
        self._waiting.append(frames)
        if loop.time() - self._waiting_since > SOON or sum(map(len, self._waiting)) > SOON_BYTES:
            await self._flush()

    def _check(self) -> None:
        if self.end is not None:
            raise self.end

    async def _flush(self) -> None:
        async with self._writing:
            data = b"".join(self._waiting)
            self._waiting.clear()
            if not data:
                return
            if self._unconfirmed is not None:
                self._unconfirmed.append(data)
            with contextlib.suppress(OSError):  # the reading side reports how it ended
                await self._bounded(data)

    async def _bounded(self, data: bytes) -> None:
        assert self._process is not None
        try:
            async with asyncio.timeout(STALLED):
                await self._process.write(data)
        except TimeoutError:
            raise ConnectionLost(
                f"{self._host} has read nothing for {STALLED:g} seconds",
                hint="is its disk stuck, or the process stopped?",
            ) from None
