"""Messages between a run and its workers: what comes together goes together, as one pickle.

A worker is a process of the same user that the run has started itself, over a socket that nobody else can open: it is
as much to be trusted as the run. What hosts send never gets here but as plain data in events.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import struct

_HEADER = struct.Struct(">Q")
GATHER = 0.005  # seconds for which messages are gathered that nobody waits for
FULL = 4 * 1024 * 1024  # bytes that the other end has not read yet from which on we wait for it
READ = 1024 * 1024

Message = tuple[object, ...]


class Channel:
    """One end of the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._out: list[Message] = []
        self._flush: asyncio.TimerHandle | None = None

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """Return the channel over a connected socket."""
        end.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=end, limit=READ)
        return cls(reader, writer)

    def send(self, *message: object, is_urgent: bool = False) -> None:
        """Send a message after those before it; is_urgent: somebody waits for the answer."""
        self._out.append(message)
        if is_urgent and self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(0 if is_urgent else GATHER, self.flush)

    def flush(self) -> None:
        """Write what was gathered."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self._out and not self._writer.is_closing():
            data = pickle.dumps(self._out, 5)
            self._writer.write(_HEADER.pack(len(data)) + data)
        self._out = []

    async def has_room(self) -> None:
        """Return when the other end has read enough of what was sent."""
        if self._writer.transport.get_write_buffer_size() > FULL:
            with contextlib.suppress(OSError):
                await self._writer.drain()

    async def receive(self) -> list[Message]:
        """Return the next messages. Raises EOFError or OSError when the other end has gone."""
        (size,) = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
        messages: list[Message] = pickle.loads(await self._reader.readexactly(size))
        return messages

    async def close(self) -> None:
        """Write what is left, and close this end."""
        self.flush()
        with contextlib.suppress(OSError):
            await self._writer.drain()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
