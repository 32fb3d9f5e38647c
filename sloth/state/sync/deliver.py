"""Delivers what is due to a backend: while a run goes on, at its end, and at the next contact."""

from __future__ import annotations

import asyncio
import contextlib
import time

from sloth.errors import StateBusy, StateError
from sloth.state.author import author
from sloth.state.backends.backend import Backend, BackendUnavailable
from sloth.state.memory import Memory
from sloth.state.outbox import Item, Kind, Outbox
from sloth.state.replicas import Position
from sloth.state.sync import heads, runs
from sloth.state.sync.migrate import refuse_incomplete

AT_ONCE = 16  # deliveries
ATTEMPT = 60.0  # seconds that one may take
PROBE = 5.0  # seconds within which a backend must answer before anything is delivered at the end of a command
DRAIN = 20.0  # seconds that the end of a run waits for what is still due
SWEEP = 5.0  # seconds that the end of a run sweeps at most
HURRIED = 3.0  # the same after Ctrl-C
RETRY = 5.0  # seconds between two attempts while a run goes on
PROGRESS = 10.0  # seconds between two deliveries of the record of a run that goes on


async def probe(backend: Backend) -> None:
    """Raise BackendError unless the backend answers soon, and is no incomplete copy of another one."""
    try:
        async with asyncio.timeout(PROBE):
            await backend.clock()  # of one that cannot be reached it says why, and the other one tries again and again
            await refuse_incomplete(backend)
    except TimeoutError:
        raise BackendUnavailable(f"{backend.url} has not answered within {PROBE:g} seconds") from None


class Delivery:
    """Delivers what is in the outbox of a Memory.

    Attributes:
        problem: why the newest attempt failed; None: it did not.
    """

    def __init__(self, memory: Memory, backend: Backend) -> None:
        assert memory.outbox is not None
        self._memory = memory
        self._outbox: Outbox = memory.outbox
        self._backend = backend
        self._by = author()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._progress: dict[str, float] = {}  # when the record of a run was delivered
        self._is_complete = False
        self._is_of_run = False
        self.problem: StateError | None = None

    # While a run goes on

    def start(self) -> None:
        """Begin to deliver in the background whatever becomes due in a run."""
        self._is_of_run = True
        self._outbox.on_added = self._wake.set
        self._wake.set()
        self._task = asyncio.create_task(self._deliver_always())

    async def finish(self, is_hurried: bool = False) -> str | None:
        """End the background's work, and deliver the rest; return what the user should know if that failed.

        What is left stays in the outbox. is_hurried: do not wait long. It does not raise.
        """
        await self._stop()
        try:
            async with asyncio.timeout(HURRIED if is_hurried else DRAIN):
                await self.flush()
        except TimeoutError:
            self.problem = self.problem or BackendUnavailable(f"{self._backend.url}: it takes too long")
        except StateError as error:
            self.problem = error
        if self.problem is None and self._is_of_run and not is_hurried:
            await self._sweep()
        return self.left()

    async def _sweep(self) -> None:
        """Sweep the backend, for a short time, if nobody has for a day."""
        from sloth.state.sync.sweep import is_due, sweep

        with contextlib.suppress(StateError, TimeoutError):
            async with asyncio.timeout(SWEEP):
                if await is_due(self._backend):
                    await sweep(self._backend)

    def left(self) -> str | None:
        """Return what the user should know of what is not delivered; None if that is nothing."""
        try:
            count = len(self._outbox.waiting())
        except StateError:
            return None
        if not count:
            return None
        what = "1 entry is" if count == 1 else f"{count} entries are"
        why = f": {self.problem}" if self.problem is not None else ""
        return f"{what} not delivered to the backend yet, and will be by the next command{why}"

    async def _stop(self) -> None:
        self._outbox.on_added = lambda: None
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _deliver_always(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if not self._is_complete:
                    await refuse_incomplete(self._backend)
                    self._is_complete = True
                items = [item for item in self._outbox.waiting() if not self._is_early(item)]
                done = await self._deliver_all(items)
            except StateError as error:  # another process has our own file
                self.problem, done = error, False
            if not done:
                await asyncio.sleep(RETRY)
                self._wake.set()

    def _is_early(self, item: Item) -> bool:
        """Return whether the record of a run that goes on was delivered just before."""
        return item.kind is Kind.RUN and time.monotonic() < self._progress.get(item.name, 0.0)

    # All of it

    async def flush(self) -> None:
        """Deliver all that is due. Raises StateError when something could not be; the rest is."""
        items = self._outbox.waiting()
        if items:
            await probe(self._backend)
            if not await self._deliver_all(items) and self.problem is not None:
                raise self.problem

    async def _deliver_all(self, items: list[Item]) -> bool:
        if not items:
            return True
        done: list[tuple[Item, Position | None]] = []
        try:
            ends = await asyncio.gather(*(self._try(item, done) for item in items))
        finally:
            # All at once: each transaction waits for the disk. What is lost here is delivered again, without effect.
            with contextlib.suppress(StateBusy):
                self._outbox.done(done)
        if all(ends):
            self.problem = None
        return all(ends)

    async def _try(self, item: Item, done: list[tuple[Item, Position | None]]) -> bool:
        """Deliver one thing; return whether that succeeded, and add it to `done` then."""
        async with self._slots:
            try:
                async with asyncio.timeout(ATTEMPT):
                    done.append((item, await self._deliver(item)))
            except TimeoutError:
                self.problem = BackendUnavailable(f"{self._backend.url}: it takes too long")
                return False
            except StateError as error:
                self.problem = error
                return False
            return True

    async def _deliver(self, item: Item) -> Position | None:
        if item.kind is Kind.REPLICA:
            return await heads.deliver(self._backend, self._memory.replica_path(item.name), item, self._by)
        run = self._memory.runs.stored(item.name)
        if run is not None:
            begun = time.monotonic()
            await runs.deliver(self._backend, run, self._by)
            if run.record.status is None:
                took = time.monotonic() - begun
                self._progress[item.name] = time.monotonic() + max(PROGRESS, 20 * took)
        return None
