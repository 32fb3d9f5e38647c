"""The process of a worker, as whoever started it has it: the run, or the relay of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Mapping

CODE = """import ast, sys
sys.path[:] = ast.literal_eval(sys.argv.pop(1))
from sloth.engine.workers.worker import main
main()"""
END = 5.0  # seconds that a worker has to end when it has nothing left to do
STDERR = 2000  # bytes of what a lost worker printed that are shown


class Child:
    """A process, the end of what it prints, and how it ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._printed = b""
        self._printing = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(STDERR):
            self._printed = (self._printed + data)[-STDERR:]

    def beat(self) -> None:
        """Show it that this process is alive."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(b".")

    def kill(self) -> None:
        """End it at once."""
        if self._process.returncode is None:
            self._process.kill()

    async def wait(self) -> None:
        """Wait for its end, however long it takes."""
        await self._process.wait()

    async def end(self) -> str:
        """Wait for its end, and kill it when that takes too long; return how it has ended, for people."""
        try:
            async with asyncio.timeout(END):
                status = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            status = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END):
                await self._printing
        return _describe(status, self._printed)


async def start_child(
    *words: str, env: Mapping[str, str] | None = None, has_beat: bool = False
) -> tuple[Child, socket.socket, socket.socket]:
    """Start a worker; return it and our ends of its two sockets, which nobody else has. Raises OSError.

    words: further arguments of it; env: its environment, or that of this process; has_beat: it is shown that this
    process is alive, on its standard input.
    """
    ours, theirs = socket.socketpair()
    line, their_line = socket.socketpair()
    with theirs, their_line:
        ends = (theirs.fileno(), their_line.fileno())
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CODE,
            repr(sys.path),
            *map(str, ends),
            *words,
            stdin=asyncio.subprocess.PIPE if has_beat else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            pass_fds=ends,
            process_group=0,  # Ctrl-C is for the run's process, which passes it on
        )
    return Child(process), ours, line


def _describe(status: int, printed: bytes) -> str:
    with contextlib.suppress(ValueError):
        if status < 0:
            return f"it was ended by {signal.Signals(-status).name}"
    text = printed.decode("utf-8", "replace").strip()
    return f"it ended with exit status {status}" + (f": {text}" if text else "")
