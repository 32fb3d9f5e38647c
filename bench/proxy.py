"""A TCP proxy that adds delay and counts round trips: how often one end had to wait for the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bench.relay import Relay
from bench.servers import Servers


@contextlib.asynccontextmanager
async def proxied(servers: Servers, delay: float) -> AsyncIterator[dict[str, DelayProxy]]:
    """Run a proxy in front of each server. delay: seconds in each direction."""
    async with contextlib.AsyncExitStack() as stack:
        proxies = {}
        for name, port in servers.ports.items():
            proxies[name] = await stack.enter_async_context(DelayProxy(port, delay))
            servers.know(proxies[name].port)
        yield proxies


class DelayProxy(Relay):
    """A relay that holds each byte back for `delay` seconds.

    turns: how often the client spoke after the server had; with a delay above the ends' own thinking time this is the
    number of round trips. bytes: what went through, both ways.
    """

    def __init__(self, target: int, delay: float) -> None:
        super().__init__(target)
        self._delay = delay
        self._last = "server"
        self.turns = 0
        self.bytes = 0

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, side: str) -> None:
        loop = asyncio.get_running_loop()
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await line.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    target.close()
                    return
                if side == "server":
                    self._last = "server"  # the client has heard it from now on
                target.write(data)

        delivering = asyncio.create_task(deliver())
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    self.bytes += len(data)
                    if side == "client":
                        self.turns += self._last == "server"
                        self._last = "client"
                    await line.put((loop.time() + self._delay, data))
            await line.put((loop.time() + self._delay, b""))
            with contextlib.suppress(OSError):
                await delivering
        finally:
            delivering.cancel()
            target.transport.abort()
