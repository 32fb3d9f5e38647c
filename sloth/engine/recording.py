"""The record of a run on the controller: that it began, how far its hosts have come, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sloth.engine.emitter import Emitter
from sloth.engine.options import Options
from sloth.engine.patience import patiently
from sloth.engine.resume import given
from sloth.engine.sessions import who
from sloth.errors import StateError
from sloth.inventory import Host
from sloth.playbook import Site
from sloth.state.memory import Memory
from sloth.state.run_records import RunCounts

if TYPE_CHECKING:
    from sloth.state.sync.deliver import Delivery

POLL = 0.1  # seconds between two looks whether the user has interrupted the wait for a backend


class Recording:
    """Writes what was emitted of one run to the controller's memory."""

    def __init__(self, memory: Memory, run: str, emitter: Emitter, delivery: Delivery | None = None) -> None:
        """delivery: brings what is recorded to a backend while the run goes on."""
        self._runs = memory.runs
        self._run = run
        self._out = emitter
        self._delivery = delivery

    async def begin(
        self, site: Site, options: Options, hosts: Sequence[Host], is_interrupted: Callable[[], bool]
    ) -> None:
        """Record that the run begins. Raises StateError."""
        about = None if site.adhoc or site.remembered else given(site, options, hosts)
        if options.resume is not None:
            about = options.resume.given(about)
            self._out.progress += options.resume.rows()
        try:
            begin = partial(self._runs.begin, self._run, site.title, who(), len(hosts), about)
            await patiently(begin, is_interrupted)
        except StateError:
            if not is_interrupted():
                raise
        if self._delivery is not None:
            self._delivery.start()

    def keep(self) -> None:
        """Record what was done by now: this process may be killed, and others may follow the run."""
        progress, results = self._out.take_progress(), self._out.results.take()
        if progress or results:
            try:
                self._runs.add(self._run, results=results, progress=progress)
            except StateError:  # another process has the file: the next time
                self._out.progress[:0] = progress
                self._out.results.rows[:0] = results

    async def end(self, seconds: float, counts: RunCounts, status: int, is_interrupted: Callable[[], bool]) -> None:
        """Record how the run ended; that this cannot be done is a warning."""
        rows, progress = self._out.results.rows, self._out.take_progress()
        end = partial(
            self._runs.end, self._run, counts=counts, seconds=seconds, status=status, results=rows, progress=progress
        )
        try:
            await patiently(end, is_interrupted)
        except StateError as error:
            self._out.warn(f"the controller cannot record how this run ended: {error}")
        await self._finish_delivery(is_interrupted)

    async def _finish_delivery(self, is_interrupted: Callable[[], bool]) -> None:
        """Bring the rest to the backend, until the user wants to wait no longer.

        What it lacks then is a warning, and no failure: nothing is lost, and the next command brings it.
        """
        if self._delivery is None:
            return
        is_hurried = is_interrupted()
        finishing = asyncio.create_task(self._delivery.finish(is_hurried))
        while not (await asyncio.wait([finishing], timeout=POLL))[0]:
            if is_interrupted() and not is_hurried:
                finishing.cancel()
        left = self._delivery.left() if finishing.cancelled() else finishing.result()
        if left:
            self._out.warn(left)
