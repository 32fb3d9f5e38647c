"""A TCP relay between a controller and a host, that breaks in the ways in which networks do."""

from __future__ import annotations

import asyncio
import contextlib


class Link:
    """A way to a host; when it breaks, one of its ends, or neither, notices."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._near: list[asyncio.StreamWriter] = []
        self._far: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Link:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in (*self._near, *self._far):
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._near.append(writer)
        self._far.append(far_writer)
        for source, target in ((reader, far_writer), (far_reader, writer)):
            self._tasks.append(asyncio.create_task(_pump(source, target)))

    def cut(self) -> None:
        """Reset what is connected at the near end, and leave the far end as it is: it hears nothing more."""
        self.fall_silent()
        for writer in self._near:
            writer.transport.abort()

    def fall_silent(self) -> None:
        """Pass nothing on of what is connected, and close nothing: neither end notices. New connections work."""
        for task in self._tasks:
            task.cancel()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
