"""A worker as its run sees it, and the connection to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sloth.engine.workers.channel import Batch, Channel
from sloth.engine.workers.child import Child, start_child
from sloth.engine.workers.job import bare_environment

if TYPE_CHECKING:
    from sloth.engine.workers.messages import Message
    from sloth.playbook import Task

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

    def cut_off(self) -> None:
        """End it at once, if that is possible: it does not answer."""

    async def end(self) -> str:
        """Wait for its end, and force it when it takes too long; return how it has ended."""
        raise NotImplementedError


class Process(Link):
    """A process of this machine, and two sockets that nobody else has: on one of them it waits for each answer."""

    def __init__(self, number: int, hosts: Sequence[str]) -> None:
        super().__init__(number, hosts)
        self._channel: Channel | None = None
        self._line: Channel | None = None
        self._child: Child | None = None

    async def start(self) -> None:
        self._child, main, line = await start_child(env=bare_environment())
        self.channel = self._channel = await Channel.over(main)
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

    def cut_off(self) -> None:
        if self._child is not None:
            self._child.kill()

    async def end(self) -> str:
        for channel in (self._channel, self._line):
            if channel is not None:
                await channel.close()
        return await self._child.end() if self._child is not None else "it could not be started"
