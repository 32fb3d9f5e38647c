"""--step: the user is asked once for each task, whatever number of hosts come to it at the same time."""

from __future__ import annotations

import asyncio

from sloth.engine.stepping import Step, Stepping
from sloth.playbook import Task


async def wanted(stepping: Stepping, *names: str) -> list[bool]:
    """Return whether tasks run, for hosts that come to them at the same time."""
    return await asyncio.gather(*(stepping.wants(Task(name, "s:1", 1)) for name in names))


async def test_an_answer_holds_for_all_hosts_and_run_all_for_all_tasks() -> None:
    asked: list[str] = []
    answers = {"a": Step.RUN, "b": Step.SKIP, "c": Step.RUN_ALL}

    async def ask(name: str) -> Step:
        asked.append(name)
        await asyncio.sleep(0)
        return answers[name]

    stepping = Stepping(ask)
    assert await wanted(stepping, "a", "a", "b", "b") == [True, True, False, False]
    assert await wanted(stepping, "c", "c", "d", "b") == [True, True, True, False]
    assert await wanted(stepping, "a", "b", "e") == [True, True, True]
    assert asked == ["a", "b", "c"]
