"""A TCP proxy that swallows answers, or passes requests on late: what a client sees of a bad network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Lossy:
    """Passes on to a port of this machine.

    Attributes:
        share: of so many answers the client sees only the end of the connection.
        late: so many requests are passed on `delay` seconds after the client's connection was closed.
        lost: how many answers were swallowed.
    """

    def __init__(self, target: int, share: float, seed: int = 1) -> None:
        self.port = 0
        self.share = share
        self.late = 0.0
        self.delay = 0.5
        self.lost = 0
        self._target = target
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, server_writer, writer))
                group.create_task(self._answers(server_reader, writer, server_writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            server_writer.transport.abort()
            writer.transport.abort()
            self._tasks.discard(task)

    async def _requests(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            if self.late and self._random.random() < self.late:
                self.lost += 1
                client.transport.abort()
                await asyncio.sleep(self.delay)
            server.write(data)
            await server.drain()
        server.write_eof()

    async def _answers(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, to_server: asyncio.StreamWriter
    ) -> None:
        while data := await server.read(65536):
            if data.startswith(b"HTTP/1.1 200") and self._random.random() < self.share:
                self.lost += 1
                break
            client.write(data)
            await client.drain()
        client.transport.abort()

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def lossy(target: int, share: float, seed: int = 1) -> AsyncIterator[Lossy]:
    """Run one."""
    proxy = Lossy(target, share, seed)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cancel()
        await asyncio.sleep(0)
