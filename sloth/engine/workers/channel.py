"""Messages between a run and its workers: what comes together goes together, as one piece of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading

from sloth.engine.workers.messages import CODEC, Message

HEADER = struct.Struct(">Q")
GATHER = 0.005  # seconds for which messages are gathered that nobody waits for
FULL = 4 * 1024 * 1024  # bytes that the other end has not read yet from which on we wait for it
READ = 1024 * 1024
LARGEST = 1024 * 1024 * 1024  # bytes of messages that come together


class Batch:
    """Messages that wait to be written together, in their order."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._timer: asyncio.TimerHandle | None = None

    def send(self, message: Message, is_urgent: bool = False) -> None:
        """Send a message after those before it; is_urgent: somebody waits for the answer."""
        self._messages.append(message)
        if is_urgent and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(0 if is_urgent else GATHER, self.flush)

    def flush(self) -> None:
        """Write what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._messages:
            messages, self._messages = self._messages, []
            self._write(CODEC.encode(messages))

    def send_encoded(self, data: bytes) -> None:
        """Send messages that CODEC has encoded already, after those before them."""
        self.flush()
        self._write(data)

    def _write(self, data: bytes) -> None:
        """Send the messages of one batch to the other end."""
        raise NotImplementedError  # each kind of channel has its own


class Channel(Batch):
    """One end of a connected socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, directory: str = "") -> None:
        super().__init__()
        self._prefix = Prefix(directory)
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket, directory: str = "") -> Channel:
        """Return the channel over a connected socket. directory: see Prefix."""
        end.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=end, limit=READ)
        return cls(reader, writer, directory)

    def _write(self, data: bytes) -> None:
        data = self._prefix.remove(data)
        if not self._writer.is_closing():
            self._writer.write(HEADER.pack(len(data)) + data)

    async def has_room(self) -> None:
        """Return when the other end has read enough of what was sent."""
        if self._writer.transport.get_write_buffer_size() > FULL:
            with contextlib.suppress(OSError):
                await self._writer.drain()

    async def receive(self) -> list[Message]:
        """Return the next messages. Raises EOFError or OSError when the other end has gone, Malformed."""
        return decode(await read_frame(self._reader))

    async def close(self) -> None:
        """Write what is left, and close this end."""
        self.flush()
        with contextlib.suppress(OSError):
            await self._writer.drain()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Prefix:
    """What messages leave out of paths: the directory that stands for "/" of the run's machine."""

    def __init__(self, directory: str) -> None:
        self._directory = directory.encode("ascii")

    def remove(self, data: bytes) -> bytes:
        """Return encoded messages without it: it is a name that nothing else has."""
        return data.replace(self._directory, b"") if self._directory else data


class Line:
    """A connected socket over which one message at a time is sent, while this process does nothing else."""

    def __init__(self, end: socket.socket, directory: str = "") -> None:
        end.setblocking(True)
        self._end = end
        self._prefix = Prefix(directory)
        self._turn = threading.Lock()

    def exchange(self, message: Message) -> Message:
        """Return the message that answers one. Raises EOFError or OSError when the other end has gone."""
        data = self._prefix.remove(CODEC.encode([message]))
        with self._turn:
            self._end.sendall(HEADER.pack(len(data)) + data)
            (size,) = HEADER.unpack(self._read(HEADER.size))
            (answer,) = decode(self._read(size))
        return answer

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._end.recv(min(READ, size - len(data)))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Return the bytes of the next messages. Raises EOFError or OSError when the other end has gone."""
    (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
    if size > LARGEST:
        raise OSError(f"{size} bytes of messages at once")
    return await reader.readexactly(size)


def decode(data: bytes) -> list[Message]:
    """Return the messages of a batch. Raises Malformed."""
    return [message for message in CODEC.decode(data) if isinstance(message, Message)]
