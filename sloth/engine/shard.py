"""The hosts of a run on which this process works: so many at the same time, each to its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from sloth.engine.descriptors import raise_limit
from sloth.engine.events import FAILED, SKIPPED, HostFinished
from sloth.engine.host import HostRun
from sloth.inventory import Host

if TYPE_CHECKING:
    from sloth.engine.context import RunContext
    from sloth.engine.emitter import Emitter

LONG = 1.0  # seconds after which a call is reported while it runs


class Shard:
    """All hosts of a run, or those of one worker.

    Attributes:
        interrupted: whether the run was interrupted.
    """

    def __init__(self, hosts: Sequence[Host], forks: int) -> None:
        self._hosts = tuple(hosts)
        self._slots = asyncio.Semaphore(forks)
        self._tasks: list[asyncio.Task[None]] = []
        self._active: dict[str, HostRun] = {}
        self._abandon: Callable[[], None] = lambda: None
        self.interrupted = False

    async def run(self, context: RunContext, out: Emitter, keep: Callable[[], None] = lambda: None) -> None:
        """Work on all hosts. keep: is called every second."""
        begun = time.monotonic()
        raise_limit(len(self._hosts))
        context.shipper.warm_up(context.site)
        self._abandon = context.delegates.abandon
        self._tasks = [asyncio.create_task(self._run_host(context, host), name=host.name) for host in self._hosts]
        if self.interrupted:
            asyncio.get_running_loop().call_soon(self._cancel)  # when each has begun, so that it reports its end
        watch = asyncio.create_task(self._watch(keep))
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        watch.cancel()
        for host, end in zip(self._hosts, ends, strict=True):
            if not isinstance(end, Exception) and host.name in out.ended:
                continue
            # Nobody foresaw this error, perhaps a reporter's: the exit status must not improve because of it.
            out.failed = True
            if host.name not in out.ended:
                text = f"{type(end).__name__}: {end}; hint: this is a defect of sloth-runner: please report it"
                out.emit(HostFinished(time.time(), host.name, FAILED, time.monotonic() - begun, text))
            else:
                out.error(host.name, f"{type(end).__name__}: {end}")

    async def close(self, context: RunContext, out: Emitter) -> None:
        """Close what the hosts had in common."""
        await context.others.close()
        out.failed |= not await context.delegates.close(lambda: self.interrupted)
        await context.sessions.close()
        await context.shipper.close()

    async def _watch(self, keep: Callable[[], None]) -> None:
        """Report the calls that take long, and let what has happened so far be kept: this process may be killed."""
        while True:
            await asyncio.sleep(LONG)
            for run in list(self._active.values()):
                run.report_long_call()
            keep()

    async def _run_host(self, context: RunContext, host: Host) -> None:
        try:
            async with self._slots:
                run = self._active[host.name] = HostRun(context, host)
                await run.run()
        except asyncio.CancelledError:  # it had not begun
            context.emit(HostFinished(time.time(), host.name, SKIPPED, 0.0, None))
        finally:
            self._active.pop(host.name, None)
            context.barriers.ended(host.name)  # whatever happened: others may wait for it
            await context.pruning.ended(host.name)

    def interrupt(self) -> None:
        """Let every host end or abandon what it does and be released; the second time, cut them off."""
        if not self.interrupted:
            for run in self._active.values():
                run.report_stop()
            self.interrupted = True
            self._cancel()
        else:
            for run in self._active.values():
                run.abandon()
            self._abandon()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    @contextlib.asynccontextmanager
    async def pause(self) -> AsyncIterator[None]:
        """Give a host's slot to another while it waits for others."""
        self._slots.release()
        try:
            yield
        finally:
            if not self.interrupted:  # then nobody needs to wait for anybody
                await self._slots.acquire()
