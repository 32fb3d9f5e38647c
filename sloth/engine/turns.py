"""Whose turn it is: programs of hosts compute on the thread of the event loop, and each may take seconds."""

from __future__ import annotations

import asyncio
import time

TURN = 0.02  # seconds of all programs together, between two looks of the event loop at sockets and signals
ITERATIONS = 3  # the loop finds a signal in one, reads which one it was in the next, and then calls its handler


class Turns:
    """Lets programs run by turns, in the order in which they came.

    In one iteration the event loop runs everything that is ready: with a hundred hosts whose sites compute for three
    seconds, a Ctrl-C would wait for all of them. So what comes after a long turn waits for the next iteration.
    """

    def __init__(self) -> None:
        self._begun: float | None = None  # the first turn of this iteration; None: there was none

    async def wait(self) -> None:
        """Return when the caller may compute."""
        while self._begun is not None and time.monotonic() - self._begun > TURN:  # noqa: ASYNC110  # see _end()
            await asyncio.sleep(0)
        if self._begun is None:
            self._begun = time.monotonic()
            self._end(ITERATIONS)

    def _end(self, iterations: int) -> None:
        """End the turn after so many iterations of the loop."""
        if iterations:
            asyncio.get_running_loop().call_soon(self._end, iterations - 1)
        else:
            self._begun = None
