"""The workers of a run: its hosts are dealt out to them like cards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sloth.engine.workers.codec import Malformed
from sloth.engine.workers.hub import Hub
from sloth.engine.workers.job import host_list, make_job
from sloth.engine.workers.link import Link, Process
from sloth.engine.workers.messages import CODEC, Interrupt, Job

if TYPE_CHECKING:
    from sloth.engine.context import RunContext
    from sloth.engine.emitter import Emitter
    from sloth.inventory import Host
    from sloth.state.memory import Memory
    from sloth.state.storage import Storage

KEEP = 1.0  # seconds between two records of how far hosts have come


class Workers:
    """All workers of a run: processes of this machine. An engine has others."""

    def __init__(
        self,
        context: RunContext,
        out: Emitter,
        hosts: Sequence[Host],
        storage: Storage,
        memory: Memory,
        is_stepping: bool,
    ) -> None:
        self._context = context
        self._storage = storage
        self._memory = memory
        self._is_stepping = is_stepping
        self._interrupts = 0
        self.hosts = tuple(host.name for host in hosts)
        self.links: tuple[Link, ...] = ()
        self._hub = Hub(context, out, memory, lambda: self._interrupts > 0)

    async def run(self, keep: Callable[[], None]) -> None:
        """Let all workers work on their hosts. keep: is called every second. Raises UsageError without an engine."""
        watch = asyncio.create_task(_watch(keep))
        try:
            self.links = await self._open(min(self._context.options.forks, len(self.hosts)))
            self._hub.connect(self.links)
            await asyncio.gather(*(self._serve(link) for link in self.links))
            await self._hub.settle()
        finally:
            watch.cancel()
            await self.close()

    async def _open(self, most: int) -> tuple[Link, ...]:
        """Return the workers, with their hosts; most: how many there can be."""
        count = max(1, min(self._context.options.workers, most))
        return tuple(Process(number, self.hosts[number::count]) for number in range(count))

    async def open(self) -> None:
        """Prepare what all workers need, before anything is touched. Raises UsageError when that is not possible."""

    async def close(self) -> None:
        """Close what all workers need."""

    def interrupt(self) -> None:
        """Pass on that the user has interrupted the run, or has done so again."""
        self._interrupts += 1
        for link in self.links:
            link.send(Interrupt())

    async def _serve(self, link: Link) -> None:
        """Work through what a worker sends, until it has done all or is lost."""
        why = ""
        try:
            await link.start()
            self._brief(link)
            for _ in range(self._interrupts):
                link.send(Interrupt())
            await link.serve(self._hub.take)
        except Malformed as error:
            why = f"it sent what no worker sends: {error}; "
        except (EOFError, OSError):
            pass
        how = await link.end()
        await self._hub.disconnect(link, why + how)

    def _brief(self, link: Link) -> None:
        """Send a worker what it needs."""
        assert link.channel is not None
        link.channel.send_encoded(self._known)
        link.channel.send(self._job(link), is_urgent=True)

    def _job(self, link: Link) -> Job:
        """Return what a worker is to do."""
        share, more = divmod(self._context.options.forks, len(self.links))
        forks = max(1, share + (link.number < more))
        return make_job(self._context, self._storage, link.hosts, self.hosts, forks, self._is_stepping)

    @property
    def _known(self) -> bytes:
        """The inventory as workers of this machine get it."""
        if not hasattr(self, "_encoded"):
            self._encoded = CODEC.encode([host_list(self._context.inventory)])
        return self._encoded


async def _watch(keep: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(KEEP)
        keep()
