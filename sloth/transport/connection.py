"""What a session needs of a connection to a host, whatever carries it: to start a command, and its streams."""

from __future__ import annotations

import asyncio
from typing import Protocol

from sloth.errors import BootstrapError
from sloth.frozen import frozen


class NoFurtherSession(BootstrapError):
    """The host lets no further command start on this connection (MaxSessions of its sshd); another one may do."""


STDERR_KEPT = 8192  # bytes of a command's stderr that are kept for error messages


@frozen
class Opening:
    """How long it took to open a connection, in seconds.

    connect: until the host has proven who it is, jump hosts included; authenticate: until it has let us in. round_trip:
    the shortest one there was; None when it is not known.
    """

    connect: float = 0.0
    authenticate: float = 0.0
    round_trip: float | None = 0.0


class RemoteProcess(Protocol):
    """A running command. Its stderr is collected in the background."""

    async def write(self, data: bytes) -> None:
        """Write to its stdin, and wait while too much is unread. Raises OSError when it has ended."""

    async def read(self, limit: int) -> bytes:
        """Return up to `limit` bytes of its stdout, b"" at the end."""

    def stderr_tail(self) -> str:
        """Return the last of what it printed to stderr."""

    async def stderr_contains(self, text: str, after: int) -> int:
        """Wait until stderr contains `text` at or after offset `after`; return the offset behind it."""

    async def wait(self) -> int | None:
        """Wait for its end; return the exit status, negative for a signal, None when unknown."""

    def kill(self) -> None:
        """End it now."""


class Connection(Protocol):
    """A connection to a host, or to this machine."""

    @property
    def python(self) -> str | None:
        """An interpreter that is known to exist, for the account that logs in."""

    @property
    def opening(self) -> Opening:
        """How long it took to open it."""

    async def start(self, command: str) -> RemoteProcess:
        """Start `command` (by the account's login shell). Raises HostError."""

    async def close(self) -> None:
        """Close the connection."""


class Stderr:
    """Collects a command's stderr: its tail, for prompts and messages."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self._dropped = 0  # bytes before the tail
        self._more = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Take what was printed."""
        self._tail += data
        excess = len(self._tail) - STDERR_KEPT
        if excess > 0:
            del self._tail[:excess]
            self._dropped += excess
        self._more.set()

    def tail(self) -> str:
        """Return the last of it."""
        return bytes(self._tail).decode("utf-8", "replace")

    async def contains(self, text: str, after: int) -> int:
        """Do what RemoteProcess.stderr_contains() does; never returns when stderr ends without `text`."""
        wanted = text.encode()
        while True:
            at = self._tail.find(wanted, max(0, after - self._dropped))
            if at >= 0:
                return self._dropped + at + len(wanted)
            self._more.clear()
            await self._more.wait()
