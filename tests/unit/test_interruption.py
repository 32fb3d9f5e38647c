"""The interruption of a run wakes what waits for a server, at once."""

from __future__ import annotations

import asyncio
import time

from sloth.engine.interruption import Interruption


async def test_work_that_goes_on_is_preceded_by_it() -> None:
    interruption = Interruption()
    work = asyncio.ensure_future(asyncio.sleep(600))
    asyncio.get_running_loop().call_later(0.05, interruption.set)
    begun = time.monotonic()
    assert await interruption.precedes(work)
    assert time.monotonic() - begun < 60
    assert interruption.happened()
    assert await interruption.precedes(work), "it has happened before"
    work.cancel()


async def test_work_that_ends_first_is_not() -> None:
    interruption = Interruption()
    assert not await interruption.precedes(asyncio.ensure_future(asyncio.sleep(0)))
    assert not interruption.happened()


async def test_a_wait_ends_with_it_or_by_its_time() -> None:
    interruption = Interruption()
    await interruption.wait(0.01)
    asyncio.get_running_loop().call_later(0.05, interruption.set)
    begun = time.monotonic()
    await interruption.wait(600)
    assert time.monotonic() - begun < 60
    await interruption.wait(600)
