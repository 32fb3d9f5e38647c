"""What is known of a server's clock, by the dates of its answers."""

from __future__ import annotations

import time

FRESH = 60.0  # seconds for which what we know of a server's clock counts


class Skew:
    """How far a server's clock is from our monotonic one.

    The Date header is cut to whole seconds, so each answer gives a window of a second, and many narrow it down. A
    window that contradicts what was known replaces it: a clock was set, or this machine slept.
    """

    def __init__(self) -> None:
        self._low = self._high = 0.0
        self._learned: float | None = None

    def learn(self, date: float, sent: float, received: float) -> None:
        """Narrow the window by an answer; sent, received: by time.monotonic()."""
        low, high = date - received, date + 1 - sent
        if self._learned is None or low > self._high or high < self._low:
            self._low, self._high = low, high
        else:
            self._low, self._high = max(low, self._low), min(high, self._high)
        self._learned = received

    def now(self) -> float | None:
        """Return the server's time in epoch seconds; None when nothing fresh is known."""
        if self._learned is None or time.monotonic() - self._learned > FRESH:
            return None
        return time.monotonic() + (self._low + self._high) / 2

    @property
    def uncertainty(self) -> float:
        """Return by how many seconds the time may be wrong."""
        return (self._high - self._low) / 2
