"""The connection to this machine: the payload runs as a subprocess of the controller."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from sloth.transport.connection import Opening, Stderr
from sloth.transport.stage1 import PLAIN_PATH

EXIT = 5.0  # seconds for a command to end after it was killed


class LocalProcess:
    """A command on this machine."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stderr = Stderr()
        self._collector = asyncio.create_task(self._collect())
        # Until Python 3.11.4 asyncio reports a broken pipe on stderr, unless somebody has waited for its end.
        assert process.stdin is not None
        self._closed = asyncio.ensure_future(process.stdin.wait_closed())
        self._closed.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _collect(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(4096):
            self._stderr.feed(data)

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def read(self, limit: int) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.read(limit)

    def stderr_tail(self) -> str:
        return self._stderr.tail()

    async def stderr_contains(self, text: str, after: int) -> int:
        return await self._stderr.contains(text, after)

    async def wait(self) -> int | None:
        status = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._collector), 1)
        return status

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._collector.cancel()
        close_pipes(self._process)


def close_pipes(process: asyncio.subprocess.Process) -> None:
    """Close our ends of a subprocess's pipes: processes that it left running may keep the others open for ever."""
    transport = getattr(process, "_transport", None)  # asyncio has no public access to it
    if transport is None:
        return
    # Its own close() would reap the child, and the thread that waits for the child then complains on stderr.
    for descriptor in (0, 1, 2):
        pipe = transport.get_pipe_transport(descriptor)
        if pipe is not None:
            pipe.close()


class LocalConnection:
    """Starts commands on this machine."""

    opening = Opening()

    def __init__(self) -> None:
        self.python: str | None = sys.executable if PLAIN_PATH.match(sys.executable or "") else None
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, command: str) -> LocalProcess:
        """Start `command` by /bin/sh."""
        return await self._start("/bin/sh", "-c", command)

    async def _start(self, *argv: str) -> LocalProcess:
        """Start a command in a session of its own: Ctrl-C on our terminal must not reach it."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._processes.append(process)
        return LocalProcess(process)

    async def close(self) -> None:
        """Wait for the commands; each ends with its session."""
        for process in self._processes:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), EXIT)
