"""Keeps what the sessions of many hosts have shown with few commits.

A commit waits for the disk, 2 to 3 ms here, and nothing else goes on meanwhile: with one for each host, 10,000 hosts
would wait for half a minute. So what comes while the last commit is recent shares the next one. Nothing is promised
before it is kept: keep() returns when it is committed, as if it had committed alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sloth.errors import StateBusy, StateError
from sloth.state.memory import Memory, Replicated
from sloth.state.patience import patiently

REST = 4  # times as long as a commit took, nothing is committed: a fifth of the time at most goes into commits
LONGEST = 0.1  # seconds that anybody waits for others


class GroupCommit:
    """Commits what hosts bring, together."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._due: list[tuple[Replicated, asyncio.Future[None]]] = []
        self._hurried: list[Callable[[], bool]] = []
        self._next = 0.0  # when the next commit may begin
        self._work: asyncio.Task[None] | None = None

    async def keep(self, seen: Replicated, is_hurried: Callable[[], bool] = lambda: False) -> None:
        """Return when it is kept. Raises StateError.

        is_hurried: whether to give up when another process holds the file.
        """
        loop = asyncio.get_running_loop()
        kept = loop.create_future()
        self._due.append((seen, kept))
        self._hurried.append(is_hurried)
        if self._work is None:
            self._work = asyncio.create_task(self._commit_all())
        await kept

    async def _commit_all(self) -> None:
        """Commit until nothing is due any more."""
        loop = asyncio.get_running_loop()
        try:
            while self._due:
                if (wait := self._next - loop.time()) > 0 and not self._is_hurried():
                    await asyncio.sleep(wait)
                due, self._due = self._due, []
                hurried, self._hurried = self._hurried, []
                await self._commit(due, lambda hurried=hurried: any(is_hurried() for is_hurried in hurried))  # type: ignore[misc]  # mypy does not infer defaults
        finally:
            self._work = None

    def _is_hurried(self) -> bool:
        return any(is_hurried() for is_hurried in self._hurried)

    async def _commit(self, due: list[tuple[Replicated, asyncio.Future[None]]], is_hurried: Callable[[], bool]) -> None:
        """Commit these together or, should that fail, each by itself: one that cannot be kept must not cost others."""
        loop = asyncio.get_running_loop()

        def commit(several: list[Replicated]) -> None:
            begun = loop.time()
            try:
                self._memory.keep(several)
            finally:
                end = loop.time()
                self._next = end + min(LONGEST, (end - begun) * REST)

        try:
            await patiently(lambda: commit([seen for seen, _ in due]), is_hurried)
        except StateError as error:
            if len(due) == 1 or isinstance(error, StateBusy):
                for _, kept in due:
                    _answer(kept, error)
                return
            for one in due:
                await self._commit([one], is_hurried)
            return
        except BaseException as error:
            for _, kept in due:
                _answer(kept, error)
            raise
        for _, kept in due:
            _answer(kept)


def _answer(kept: asyncio.Future[None], error: BaseException | None = None) -> None:
    if kept.done():  # who waited for it was cancelled
        return
    if error is None:
        kept.set_result(None)
    else:
        kept.set_exception(error)
