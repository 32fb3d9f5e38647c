"""The lock of a site in a backend: one run of it at a time, from whatever controller."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, TypeVar

from sloth.dates import local_date
from sloth.engine.recording import ci_job
from sloth.errors import StateError
from sloth.state.author import who
from sloth.state.backends.backend import BackendError
from sloth.state.shared_locks import Grant, Lock, LockLost, how_to_unlock
from sloth.state.sync.migrate import refuse_incomplete

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sloth.engine.run import Run
    from sloth.state.shared import Shared

T = TypeVar("T")
TTL = 30.0  # seconds for which it is held; a run that was killed keeps others waiting for so long
LEAST = 5.0  # seconds for which a backend is waited for at least
POLL = 0.5  # seconds between two tries
RELEASE = 5.0  # seconds for which it is given back


class SiteLock:
    """The lock of a run. Its name is "run:" and the site's identity, its holder the id of the run.

    Attributes:
        is_taken_over: whether another run has taken it, although this one needed it.
    """

    def __init__(self, shared: Shared, run: Run, wait: float) -> None:
        """wait: seconds for which another run is waited for."""
        self._locks = shared.locks
        self._backend = shared.backend
        self._run = run
        self._wait = wait
        self.name = f"run:{run.site.identity}"
        self.is_taken_over = False
        self._grant: Grant | None = None
        self._is_lost = False  # it was not renewed in time, or somebody has released it
        self._renewal: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Take the lock, unless the run is interrupted before. Raises StateError when another run keeps it."""
        end = time.monotonic() + self._wait
        is_said = False
        while not self._run.interrupted:
            try:
                patience = max(LEAST, end - time.monotonic())
                taken = await self._unless_interrupted(self._attempt(patience))
            except BackendError as error:
                hint = error.hint or "with --no-lock it is run all the same, and nothing keeps other runs out"
                raise type(error)(f"the site cannot be locked: {error.message}", hint=hint) from error
            if taken is None:
                return
            if isinstance(taken, Grant):
                self._grant = taken
                self._renewal = asyncio.create_task(self._renew())
                return
            if time.monotonic() >= end:
                raise self._locked(taken)
            if not is_said:
                is_said = True
                self._run.warn(
                    f"waiting up to {self._wait:g} seconds for {_describe(taken)}, which has locked the site"
                )
            await self._run.interruption.wait(POLL)

    async def release(self) -> str:
        """Give the lock back, whatever happened; return what people should know of it, or ""."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        try:
            async with asyncio.timeout(RELEASE):
                was_held = await self._locks.release(self.name, self._run.run_id)
                if self._grant is not None and not was_held and not self.is_taken_over:
                    self.is_taken_over = await self._locks.number(self.name) > self._grant.number
                    return self._taken_over(None) if self.is_taken_over else ""
        except LockLost as error:
            if self._grant is not None and not self.is_taken_over:
                self.is_taken_over = True
                return f"{error.message}: {self._taken_over(None)}"
        except (StateError, TimeoutError) as error:
            if self._grant is not None:
                why = error.message if isinstance(error, StateError) else "the backend does not answer"
                left = max(0.0, self._grant.until - time.monotonic())
                return f"the lock {self.name} was not released: {why}; it expires by itself in {left:.0f} seconds"
        return ""

    async def _attempt(self, patience: float) -> Grant | Lock:
        """Take the lock, if nobody has it; the backend must be complete then. Raises StateError."""
        taken = await self._locks.take(self.name, self._run.run_id, TTL, _about(), patience)
        if isinstance(taken, Grant):
            await refuse_incomplete(self._backend)
        return taken

    async def _unless_interrupted(self, work: Coroutine[object, object, T]) -> T | None:
        """Return what the work returns; None when the run is interrupted before: the backend may be slow."""
        task = asyncio.ensure_future(work)
        if await self._run.interruption.precedes(task):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return None
        return task.result()

    async def _renew(self) -> None:
        while self._grant is not None and not self.is_taken_over:
            await asyncio.sleep(TTL / 3)
            left = self._grant.until - time.monotonic()
            try:
                async with asyncio.timeout(left if left > 0 else TTL / 3):
                    self._grant = await self._locks.renew(self.name, self._run.run_id, self._grant.number, TTL, TTL / 3)
            except LockLost as error:
                await self._recover(self._grant, error)
            except (StateError, TimeoutError) as error:
                if time.monotonic() >= self._grant.until and not self._is_lost:
                    self._is_lost = True
                    why = error.message if isinstance(error, StateError) else "the backend does not answer"
                    text = f"the lock of the site was lost: it could not be renewed within {TTL:g} seconds: {why}"
                    self._run.warn(f"{text}. The work on hosts goes on, and another run may begin")

    async def _recover(self, grant: Grant, error: LockLost) -> None:
        """Find out what became of the lock, and take it again if it has expired and nobody had it since.

        A smaller number than ours means that the entry was removed, or that an older one was brought back.
        """
        try:
            async with asyncio.timeout(TTL / 3):
                number, holder = await self._locks.last(self.name)
                if number == grant.number and holder is None:
                    if not self._is_lost:
                        self._is_lost = True
                        self._run.warn("somebody has released the lock of the site: another run may begin")
                    return
                taken: Grant | Lock | None = None
                if number <= grant.number:
                    taken = await self._locks.take(self.name, self._run.run_id, TTL, _about(), TTL / 3)
                if isinstance(taken, Grant) and taken.number == number + 1:
                    self._grant, self._is_lost = taken, False
                    why = "no other run had it meanwhile"
                    if number < grant.number:
                        why = "its entry was removed from the backend, or an older one was brought back"
                    self._run.warn(f"the lock of the site is held again: {why}")
                    return
                self.is_taken_over = True
                self._run.fail(
                    self._taken_over(taken if isinstance(taken, Lock) else await self._locks.find(self.name))
                )
        except (StateError, TimeoutError):
            self._is_lost = True  # the next time

    def _taken_over(self, lock: Lock | None) -> str:
        by = _describe(lock) if lock is not None else "another run"
        return f"the lock of the site was lost, and {by} has taken it: two runs were at work at the same time"

    def _locked(self, lock: Lock) -> StateError:
        hint = f"--lock-wait waits longer; if that run is dead: {how_to_unlock(self.name)}"
        return StateError(f"the site is locked by {_describe(lock)}", hint=hint)


def _about() -> Mapping[str, str]:
    job = ci_job(os.environ)
    return {"by": who(), "from": socket.gethostname(), **({"job": job} if job else {})}


def _describe(lock: Lock) -> str:
    since = local_date(lock.taken)
    return f"the run {lock.describe()}, since {since}"
