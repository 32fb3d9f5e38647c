"""Asks once for all hosts whether what the site no longer names shall be removed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable

from sloth.payload.kernel.findings import Restored, RestoreStatus

Orphans = dict[str, list[Restored]]


class Pruning:
    """Waits until every host has reported what it would remove, or that it never will."""

    def __init__(self, hosts: Iterable[str], confirm: Callable[[Orphans], bool]) -> None:
        """confirm: called once, in a thread, with host -> orphans that can be removed, unless there are none."""
        self._waiting = set(hosts)
        self._confirm = confirm
        self._found: Orphans = {}
        self._answer: asyncio.Future[bool] | None = None

    async def agreed(self, host: str, orphans: Iterable[Restored]) -> bool:
        """Return whether to go on, once all hosts have come here."""
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
        removable = [orphan for orphan in orphans if orphan.status is RestoreStatus.PLANNED]
        if removable:
            self._found[host] = removable
        await self.ended(host)
        return await asyncio.shield(self._answer) if removable else False

    async def ended(self, host: str) -> None:
        """Take note that a host has ended; nobody needs to wait for it."""
        self._waiting.discard(host)
        if self._waiting or self._answer is None or self._answer.done():
            return
        if not self._found:
            self._answer.set_result(False)
            return
        # A thread of the event loop's own would keep the process alive until somebody presses Enter.
        loop, future = asyncio.get_running_loop(), self._answer
        threading.Thread(target=self._ask, args=(loop, future), daemon=True).start()

    def _ask(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[bool]) -> None:
        try:
            answer = self._confirm(self._found)
        except Exception:  # the question was broken off: then nothing is removed
            answer = False
        with contextlib.suppress(RuntimeError):  # the run is over already
            loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(answer))
