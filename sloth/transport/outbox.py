"""What goes to one payload: in order, many frames in one write, and no write without a deadline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine

from sloth.errors import ConnectionLost, HostError
from sloth.payload.session import wire
from sloth.payload.session.messages import Message
from sloth.transport.connection import RemoteProcess

SOON = 0.005  # seconds that a frame may wait for others to go with it
SOON_BYTES = 32 * 1024  # bytes that may wait for others
SLICE = 256 * 1024  # bytes in one write, unless a single frame is longer
STALLED = 60.0  # seconds for the host to take one slice


class Outbox:
    """Writes to one payload. Until the payload has confirmed that it runs, everything is kept to be written again."""

    def __init__(self, host: str, spawn: Callable[[Coroutine[object, object, None]], None]) -> None:
        """spawn: runs a coroutine in the background, and ends the session when it fails."""
        self._host = host
        self._spawn = spawn
        self._process: RemoteProcess | None = None
        self._unconfirmed: list[bytes] | None = []  # None: the payload runs
        self._lock = asyncio.Lock()  # held by whoever writes
        self._urgent: list[bytes] = []
        self._waiting: list[bytes] = []
        self._waiting_since = 0.0
        self._writing_since: float | None = None
        self.taken = 0  # slices that the host has taken; urgent messages are so small that buffers take them
        self.end: HostError | None = None  # why nothing can be written any more

    async def begin(self, process: RemoteProcess, header: bytes) -> None:
        """Write `header` to a new process, then everything that an earlier one did not confirm."""
        async with self._lock:
            self._process = process
            await self._bounded(header + b"".join(self._unconfirmed or ()))

    def confirm(self) -> None:
        """Note that the payload runs: what was written need not be kept."""
        self._unconfirmed = None

    async def send(self, message: Message) -> None:
        """Write a message now, after what waits. Raises HostError when the session has ended."""
        await self.write(wire.pack(message))

    async def send_first(self, message: Message) -> None:
        """Write a message before what waits. Raises HostError when the session has ended."""
        self._check()
        self._urgent.append(wire.pack(message))
        await self._flush()

    def post_first(self, message: Message) -> None:
        """Let a message be written before what waits, and do not wait for that; one that is stuck is enough."""
        if self.end is None and not self._urgent:
            self._urgent.append(wire.pack(message))
            self._spawn(self._flush())

    async def write(self, *frames: bytes) -> None:
        """Write packed frames now, after what waits. Raises HostError when the session has ended."""
        self._check()
        self._waiting += frames
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

    def stuck_for(self) -> float:
        """Return for how many seconds the host has not taken what is being written; 0 when nothing is."""
        if self._writing_since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._writing_since

    def _check(self) -> None:
        if self.end is not None:
            raise self.end

    async def _flush(self) -> None:
        async with self._lock:
            # A loop: more may come while a slice is written, and whoever brought it may have stopped waiting.
            while self._waiting or self._urgent:
                is_bulk = bool(self._waiting)
                data = self._next_slice()
                if self._unconfirmed is not None:
                    self._unconfirmed.append(data)
                await self._bounded(data)
                self.taken += is_bulk

    def _next_slice(self) -> bytes:
        taken, self._urgent = self._urgent, []
        size = count = 0
        for frame in self._waiting:
            if count and size + len(frame) > SLICE:
                break
            size += len(frame)
            count += 1
        taken += self._waiting[:count]
        del self._waiting[:count]
        return b"".join(taken)

    async def _bounded(self, data: bytes) -> None:
        assert self._process is not None
        self._writing_since = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(STALLED):
                with contextlib.suppress(OSError):  # the reading side finds out how it ended
                    await self._process.write(data)
        except TimeoutError:
            error = ConnectionLost(
                f"{self._host} has read nothing for {STALLED:g} seconds",
                hint="its payload may be stopped, or its disk blocked; run again",
            )
            self._spawn(_fail(error))  # whoever waits to write gets it, and so must everybody else
            raise error from None
        finally:
            self._writing_since = None


async def _fail(error: HostError) -> None:
    raise error
