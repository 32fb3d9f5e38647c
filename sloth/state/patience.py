"""Waits for the controller's own files, which another process may hold, without keeping hosts or Ctrl-C waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from sloth.errors import StateBusy
from sloth.state.database import BUSY_SECONDS, POLL

T = TypeVar("T")


async def patiently(work: Callable[[], T], is_hurried: Callable[[], bool] = lambda: False) -> T:
    """Return what work() returns, trying again while it raises StateBusy, for BUSY_SECONDS or until is_hurried()."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return work()
        except StateBusy:
            if is_hurried() or time.monotonic() > end:
                raise
        await asyncio.sleep(POLL)
