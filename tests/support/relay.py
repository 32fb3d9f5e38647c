"""A server of HTTP in front of another one: it refuses what that would take, or stands for a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable


@contextlib.asynccontextmanager
async def relay(port: int, refuse: Callable[[bytes], bytes | None] = lambda head: None) -> AsyncIterator[int]:
    """Pass requests on to a port of 127.0.0.1, each by a connection of its own; yield the port to ask.

    refuse: returns the answer to the request with this head, or None where it is passed on.
    """

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1]) if length else 0)
            answer = refuse(head)
            if answer is None:
                inside, out = await asyncio.open_connection("127.0.0.1", port)
                out.write(head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n" + body)
                answer = await inside.read()
                out.close()
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
