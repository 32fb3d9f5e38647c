"""What the session needs of a connection, whatever carries it: start a command, speak to it, know how it ended."""

from __future__ import annotations

from typing import Protocol

STDERR_KEPT = 8192  # bytes of a command's stderr that are kept for error messages


class RemoteProcess(Protocol):
    """A running command. Its stderr is collected in the background."""

    async def write(self, data: bytes) -> None:
        """Write to its stdin; waits while the other end is slow. Raises OSError when it is gone."""

    async def read(self, limit: int) -> bytes:
        """Return up to `limit` bytes of its stdout, b"" at the end."""

    def stderr_tail(self) -> str:
        """The last of what it printed to stderr."""

    async def stderr_contains(self, text: str, after: int) -> int:
        """Wait until `text` stands in stderr at or after offset `after`; return the offset behind it."""

    async def wait(self) -> int | None:
        """Wait for its end; return the exit status, negative for a signal, None when unknown."""

    def kill(self) -> None:
        """End it now."""


class Connection(Protocol):
    """A connection to a host. python: an interpreter that is known to be there, for the account we log in as."""

    @property
    def python(self) -> str | None: ...

    async def start(self, command: str) -> RemoteProcess:
        """Start `command` (for the account's login shell). Raises HostError."""

    async def close(self) -> None:
        """Close the connection."""


class Stderr:
    """Collects a command's stderr: the whole of its beginning for prompts, its tail for messages."""

    def __init__(self) -> None:
        import asyncio

        self._seen = bytearray()
        self._dropped = 0
        self._more = asyncio.Event()
        self._over = False

    def feed(self, data: bytes) -> None:
        """Take what was printed; b"" is the end."""
        if not data:
            self._over = True
        self._seen += data
        excess = len(self._seen) - STDERR_KEPT
        if excess > 0:
            del self._seen[:excess]
            self._dropped += excess
        self._more.set()

    def tail(self) -> str:
        return bytes(self._seen).decode("utf-8", "replace")

    async def contains(self, text: str, after: int) -> int:
        """See RemoteProcess.stderr_contains. It never returns when stderr ends without `text`, so race it."""
        wanted = text.encode()
        while True:
            at = bytes(self._seen).find(wanted, max(0, after - self._dropped))
            if at >= 0:
                return self._dropped + at + len(wanted)
            self._more.clear()
            await self._more.wait()
