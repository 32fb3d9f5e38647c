"""A worker as its run sees it, and the connection to it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sloth.engine.workers.channel import Batch, Channel
from sloth.engine.workers.job import bare_environment

if TYPE_CHECKING:
    from sloth.engine.workers.messages import Message
    from sloth.playbook import Task

CODE = """import ast, sys
sys.path[:] = ast.literal_eval(sys.argv.pop(1))
from sloth.engine.workers.worker import main
main()"""
END = 5.0  # seconds that a worker has to end when it has nothing left to do
STDERR = 2000  # bytes of what a lost worker printed that are shown

Take = Callable[["Link", Batch, Sequence["Message"]], None]


class Link:
    """One worker.

    Attributes:
        hosts: those that it works on.
        left: those of which it has not sent yet that they have ended.
        tasks: what it has sent of tasks, by number; names: the same by name.
        current: host -> the task that it is in.
        questions: what it waits for.
        is_here: whether it is on the run's machine, as the same user.
        advice: what to look at when it is lost.
    """

    advice = "look at the machine's memory (dmesg)"
    is_here = True

    def __init__(self, number: int, hosts: Sequence[str]) -> None:
        self.number = number
        self.hosts = tuple(hosts)
        self.left = dict.fromkeys(hosts)
        self.tasks: dict[int, Task] = {}
        self.names: dict[str, Task] = {}
        self.current: dict[str, Task] = {}
        self.questions: dict[int, asyncio.Task[None]] = {}
        self.is_done = False
        self.channel: Batch | None = None

    async def start(self) -> None:
        """Start the worker. Raises OSError."""
        raise NotImplementedError

    def send(self, message: Message) -> None:
        """Send it a message, if it is there."""
        if self.channel is not None:
            self.channel.send(message, is_urgent=True)

    async def serve(self, take: Take) -> None:
        """Let `take` have what it sends, until it is done. Raises EOFError, OSError, Malformed when it is lost."""
        raise NotImplementedError

    async def end(self) -> str:
        """Wait for its end, and force it when it takes too long; return how it has ended."""
        raise NotImplementedError


class Process(Link):
    """A process of this machine, and two sockets that nobody else has: on one of them it waits for each answer."""

    def __init__(self, number: int, hosts: Sequence[str]) -> None:
        super().__init__(number, hosts)
        self._channel: Channel | None = None
        self._line: Channel | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._printing: asyncio.Task[None] | None = None
        self._printed = b""

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        line, their_line = socket.socketpair()
        with theirs, their_line:
            ends = (theirs.fileno(), their_line.fileno())
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                CODE,
                repr(sys.path),
                *map(str, ends),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=bare_environment(),
                pass_fds=ends,
                process_group=0,  # Ctrl-C is for the run's process, which passes it on
            )
        self._printing = asyncio.create_task(self._read(self._process))
        self.channel = self._channel = await Channel.over(ours)
        self._line = await Channel.over(line)

    async def serve(self, take: Take) -> None:
        assert self._channel is not None
        assert self._line is not None
        line = asyncio.create_task(self._serve_line(self._line, take))
        try:
            while not self.is_done:
                take(self, self._channel, await self._channel.receive())
                await asyncio.sleep(0)
        finally:
            line.cancel()

    async def _serve_line(self, line: Channel, take: Take) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                take(self, line, await line.receive())

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Keep the end of what the process prints to stderr."""
        assert process.stderr is not None
        while data := await process.stderr.read(STDERR):
            self._printed = (self._printed + data)[-STDERR:]

    async def end(self) -> str:
        for channel in (self._channel, self._line):
            if channel is not None:
                await channel.close()
        process = self._process
        if process is None:
            return "it could not be started"
        try:
            async with asyncio.timeout(END):
                status = await process.wait()
        except TimeoutError:
            process.kill()
            status = await process.wait()
        if self._printing is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END):
                    await self._printing
        return describe_end(status, self._printed)


def describe_end(status: int, printed: bytes) -> str:
    """Return how a process has ended, for people."""
    with contextlib.suppress(ValueError):
        if status < 0:
            return f"it was ended by {signal.Signals(-status).name}"
    text = printed.decode("utf-8", "replace").strip()
    return f"it ended with exit status {status}" + (f": {text}" if text else "")
