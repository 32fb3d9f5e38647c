"""Hosts that wait for one another, step by step: what the generated runs of test_barriers.py do not meet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sloth.engine.barriers import Barriers, order
from sloth.engine.events import Skip, SkipKind
from sloth.playbook import Share, Task

TASK = Task(name="t", where="s:1", index=0)


@contextlib.asynccontextmanager
async def at_once() -> AsyncIterator[None]:
    """Let nobody else run meanwhile."""
    yield


async def settled() -> None:
    """Let every host go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Hosts:
    """Hosts that are to run the task `t`, as each of them declares it."""

    def __init__(self, **tasks: Task) -> None:
        self.barriers = Barriers(tasks)
        self.tasks = tasks
        self.entering: dict[str, asyncio.Task[Skip | None]] = {}
        for host in tasks:
            self.barriers.loaded(host, ["t"])

    async def enter(self, *hosts: str) -> None:
        """Let hosts come to the task, one after the other."""
        for host in hosts:
            self.entering[host] = asyncio.create_task(self.barriers.enter(host, self.tasks[host], at_once))
            await settled()

    def inside(self) -> list[str]:
        """Return the hosts that have got in, with those that were let pass."""
        return [host for host, entering in self.entering.items() if entering.done()]

    async def passed(self, host: str, failed: bool = False) -> None:
        self.barriers.passed(host, self.tasks[host], failed)
        await settled()


async def test_what_is_waited_for_may_come_while_a_host_gives_up_its_slot() -> None:
    one = replace(TASK, throttle=1)
    hosts = Hosts(a=one, b=one)
    await hosts.enter("a")

    @contextlib.asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        await hosts.passed("a")
        yield

    assert await asyncio.wait_for(hosts.barriers.enter("b", one, slow), 10) is None


async def test_a_host_that_stops_waiting_lets_nobody_into_a_task_that_runs_once() -> None:
    once = replace(TASK, run_once=True)
    hosts = Hosts(a=once, b=once, c=once)
    await hosts.enter("a", "b", "c")
    assert hosts.inside() == ["a"]
    hosts.entering["b"].cancel()
    await settled()
    assert hosts.inside() == ["a", "b"]
    assert hosts.entering["b"].cancelled()
    await hosts.passed("a")
    assert await hosts.entering["c"] == Skip(SkipKind.ONCE, "t")


async def test_each_host_waits_by_its_own_declaration_of_a_task() -> None:
    batches, throttled = replace(TASK, serial=(Share(hosts=2),)), replace(TASK, throttle=1)
    hosts = Hosts(a=batches, b=batches, c=batches, d=throttled)
    await hosts.enter("a", "b", "c", "d")
    assert hosts.inside() == ["a", "b"]
    await hosts.passed("a", failed=True)
    assert hosts.inside() == ["a", "b", "c"]
    assert hosts.entering["c"].result() == Skip(SkipKind.BATCH, "t", "a")
    await hosts.passed("b")
    assert hosts.entering["d"].result() is None


async def test_to_pass_or_to_end_again_changes_nothing() -> None:
    one = replace(TASK, throttle=1)
    hosts = Hosts(a=one, b=one, c=one)
    await hosts.enter("a", "b", "c")
    for _ in range(2):
        await hosts.passed("a")
        hosts.barriers.ended("a")
    assert hosts.inside() == ["a", "b"]
    hosts.barriers.ended("b")
    await settled()
    assert hosts.inside() == ["a", "b", "c"]


def test_a_cycle_is_named() -> None:
    tasks = {
        name: replace(TASK, name=name, depends_on=needed)
        for name, needed in {"a": ("b",), "b": ("c",), "c": ("b",)}.items()
    }
    with pytest.raises(ValueError, match=r"^b -> c -> b$"):
        order(tasks)
