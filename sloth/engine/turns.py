"""Whose turn it is: programs of hosts compute on the thread of the event loop, and each may take seconds."""

from __future__ import annotations

import asyncio
import time
from collections import deque

TURN = 0.02  # seconds of all programs together, between two looks of the event loop at sockets and signals
ITERATIONS = 3  # the loop finds a signal in one, reads which one it was in the next, and then calls its handler


class Turns:
    """Lets programs run by turns, in the order in which they came.

    In one iteration the event loop runs everything that is ready: with a hundred hosts whose sites compute for three
    seconds, a Ctrl-C would wait for all of them. So what comes after a long turn waits for a later iteration. Nobody
    looks whether it is its turn: with thousands of hosts, that alone would keep the processor busy.
    """

    def __init__(self) -> None:
        self._begun: float | None = None  # the first turn of this iteration; None: there was none
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_waking = False  # _wake_next() will be called

    async def wait(self) -> None:
        """Return when the caller may compute."""
        if self._is_over():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        if self._begun is None:
            self._begun = time.monotonic()
            self._end(ITERATIONS)

    def _is_over(self) -> bool:
        return self._begun is not None and time.monotonic() - self._begun > TURN

    def _end(self, iterations: int) -> None:
        """End the turn after so many iterations of the loop."""
        if iterations:
            asyncio.get_running_loop().call_soon(self._end, iterations - 1)
            return
        self._begun = None
        if not self._is_waking:
            self._wake_next()

    def _wake_next(self) -> None:
        """Wake who has waited longest; who comes next follows when that one has computed, if there is time left."""
        self._is_waking = False
        while self._waiting and not self._is_over():
            turn = self._waiting.popleft()
            if not turn.done():  # it was cancelled
                turn.set_result(None)
                self._is_waking = True
                asyncio.get_running_loop().call_soon(self._wake_next)
                return
