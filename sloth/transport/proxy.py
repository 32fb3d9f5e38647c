"""The command that carries a connection (ProxyCommand), started as ssh does it: by the user's shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket

from sloth.errors import ConnectError
from sloth.transport.connection import Stderr

END = 2.0  # seconds for the command to end after its connection was closed


class Proxy:
    """A running ProxyCommand. asyncssh could start it, but would take its messages on stderr for data of the host."""

    def __init__(self, process: asyncio.subprocess.Process, sock: socket.socket) -> None:
        self.sock = sock
        self._process = process
        self._stderr = Stderr()
        self._collector = asyncio.create_task(self._collect())

    @classmethod
    async def start(cls, command: str) -> Proxy:
        """Start the command; its stdin and stdout are the other end of `sock`. Raises ConnectError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        shell = os.environ.get("SHELL") or "/bin/sh"
        try:
            process = await asyncio.create_subprocess_exec(
                shell, "-c", f"exec {command}", stdin=theirs.fileno(), stdout=theirs.fileno(),
                stderr=asyncio.subprocess.PIPE, start_new_session=True,
                env=os.environ,  # and not C's, in which there may be variables for sites
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise ConnectError(f"the shell {shell}, which runs ProxyCommand: {error.strerror}") from None
        finally:
            theirs.close()
        return cls(process, ours)

    async def _collect(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(4096):
            self._stderr.feed(data)

    async def explain(self) -> str:
        """Return how the command ended, if it did, with the last of what it printed to stderr; "" if it runs."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._collector), 0.5)
            await asyncio.wait_for(self._process.wait(), 0.5)
        status = self._process.returncode
        printed = self._stderr.tail().strip()[-500:]
        if not status:
            return printed
        return f"its ProxyCommand ended with exit status {status}" + (f": {printed}" if printed else "")

    def close(self) -> None:
        """End the command."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self.sock.close()

    async def wait_closed(self) -> None:
        """Wait until it has ended, for END seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), END)
        self._collector.cancel()
