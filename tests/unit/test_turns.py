"""engine.turns: who may compute, in which order, and what waiting costs."""

from __future__ import annotations

import asyncio
import time

import pytest

from sloth.engine import turns
from sloth.engine.turns import Turns


def compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def test_everybody_has_a_turn_in_the_order_in_which_they_came() -> None:
    order: list[int] = []
    mine = Turns()

    async def work(number: int) -> None:
        for _ in range(3):
            await mine.wait()
            order.append(number)
            compute(0.003)

    await asyncio.gather(*map(work, range(20)))
    firsts = [order.index(number) for number in range(20)]
    assert firsts == sorted(firsts)
    assert sorted(order) == sorted([*range(20)] * 3)


async def test_the_loop_has_its_turn_between_long_ones() -> None:
    mine, seen = Turns(), 0

    async def work() -> None:
        await mine.wait()
        compute(2 * turns.TURN)

    async def watch() -> None:
        nonlocal seen
        while True:
            await asyncio.sleep(0)
            seen += 1

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(work() for _ in range(5)))
    watching.cancel()
    assert seen >= 4 * turns.ITERATIONS


async def test_a_turn_is_not_cut_short_by_those_who_wait() -> None:
    """Calls that a program makes one after the other travel together; cut apart, a run of ten hosts took twice as many
    packets."""
    order: list[int] = []
    mine = Turns()
    await mine.wait()
    compute(2 * turns.TURN)

    async def work(number: int) -> None:
        for _ in range(20):
            await mine.wait()
            order.append(number)

    await asyncio.gather(*map(work, range(3)))
    assert order == [0] * 20 + [1] * 20 + [2] * 20


async def test_who_waits_for_a_turn_does_not_look_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 500 hosts before a long turn, the loop had half a million things to do: each looked in each iteration."""
    mine, hosts = Turns(), 500
    ready = 0
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon

    def counted(*args: object, **named: object) -> asyncio.Handle:
        nonlocal ready
        ready += 1
        return call_soon(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_soon", counted)
    monkeypatch.setattr(turns, "TURN", 0.0)  # every turn is a long one

    async def work() -> None:
        await mine.wait()

    await asyncio.gather(*(work() for _ in range(hosts)))
    assert ready < hosts * (turns.ITERATIONS + 6)


async def test_one_that_is_cancelled_keeps_nobody_waiting() -> None:
    mine = Turns()
    await mine.wait()
    compute(2 * turns.TURN)
    waiting = [asyncio.create_task(mine.wait()) for _ in range(6)]
    await asyncio.sleep(0)
    for one in waiting[::2]:
        one.cancel()
    async with asyncio.timeout(30):
        await asyncio.wait(waiting)
    assert [one.cancelled() for one in waiting] == [True, False] * 3


async def test_one_that_is_cancelled_when_it_is_woken_keeps_nobody_waiting() -> None:
    mine = Turns()
    await mine.wait()
    compute(2 * turns.TURN)
    first, second = asyncio.create_task(mine.wait()), asyncio.create_task(mine.wait())
    await asyncio.sleep(0)
    mine._begun = None
    mine._wake_next()
    first.cancel()
    async with asyncio.timeout(30):
        await asyncio.wait([first, second])
    assert second.exception() is None
