"""A TCP relay on 127.0.0.1, between a controller and a host."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Relay:
    """Forwards connections to 127.0.0.1:port to a target; subclasses say how."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._near: list[asyncio.StreamWriter] = []
        self._far: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in (*self._near, *self._far):
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # aborted transports close in the loop's next turn

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._near.append(writer)
        self._far.append(far_writer)
        for source, target, side in ((reader, far_writer, "client"), (far_reader, writer, "server")):
            task = asyncio.create_task(self._forward(source, target, side))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, side: str) -> None:
        """Copy one direction of a connection until it ends, and end the other; `side` speaks: "client" or "server"."""
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()
