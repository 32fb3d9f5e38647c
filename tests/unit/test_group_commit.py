"""state.group_commit: few commits for many hosts, of which none returns before it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from sloth.errors import StateBusy, StateError
from sloth.state.group_commit import GroupCommit
from sloth.state.memory import Memory, Replicated


def seen(name: str) -> Replicated:
    return Replicated(name, "p", frozenset({f"hash-{name}"}), None, None)


def kept(directory: Path) -> set[str]:
    """Return what another process would find: nothing of it is in a transaction."""
    memory = Memory(directory)
    try:
        return {row[0] for row in memory._database.execute("SELECT name FROM assets")}
    finally:
        memory.close()


async def test_many_hosts_share_commits_and_each_is_kept_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, commits = Memory(tmp_path), 0
    keep = memory.keep

    def counted(several: Iterable[Replicated]) -> None:
        nonlocal commits
        commits += 1
        keep(several)

    monkeypatch.setattr(memory, "keep", counted)
    group = GroupCommit(memory)
    late: list[str] = []

    async def host(number: int) -> None:
        await asyncio.sleep(number % 10 / 1000)
        await group.keep(seen(f"h{number}"))
        if number % 50 == 0 and f"h{number}" not in kept(tmp_path):
            late.append(f"h{number}")

    await asyncio.gather(*map(host, range(300)))
    assert late == []
    assert len(kept(tmp_path)) == 300
    assert commits <= 100
    memory.close()


async def test_one_alone_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(tmp_path)
    group = GroupCommit(memory)
    sleeps: list[float] = []
    monkeypatch.setattr("sloth.state.group_commit.asyncio.sleep", sleeps.append)
    await group.keep(seen("a"))
    assert kept(tmp_path) == {"a"}
    assert sleeps == []
    memory.close()


async def test_one_that_cannot_be_kept_does_not_cost_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(tmp_path)
    keep = memory.keep

    def refuse(several: Iterable[Replicated]) -> None:
        chosen = list(several)
        if any(one.name == "bad" for one in chosen):
            raise StateError("no")
        keep(chosen)

    monkeypatch.setattr(memory, "keep", refuse)
    group = GroupCommit(memory)
    results = await asyncio.gather(*(group.keep(seen(name)) for name in ("a", "bad", "b")), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), StateError, type(None)]
    assert kept(tmp_path) == {"a", "b"}
    memory.close()


async def test_a_file_that_another_process_holds_is_waited_for_once_and_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, other = Memory(tmp_path), Memory(tmp_path)
    memory.do_not_block()
    monkeypatch.setattr("sloth.state.patience.BUSY_SECONDS", 0.5)
    group = GroupCommit(memory)
    other._database.execute("BEGIN EXCLUSIVE")
    begun = asyncio.get_running_loop().time()
    results = await asyncio.gather(*(group.keep(seen(name)) for name in "abcdefgh"), return_exceptions=True)
    assert {type(result) for result in results} == {StateBusy}
    assert asyncio.get_running_loop().time() - begun < 4 * 0.5 + 2
    other._database.execute("COMMIT")
    await group.keep(seen("i"))
    assert kept(tmp_path) == {"i"}
    memory.close()
    other.close()


async def test_a_host_that_is_interrupted_does_not_wait_for_another_process(tmp_path: Path) -> None:
    memory, other = Memory(tmp_path), Memory(tmp_path)
    memory.do_not_block()
    group = GroupCommit(memory)
    other._database.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StateBusy):
        async with asyncio.timeout(20):
            await group.keep(seen("a"), lambda: True)
    other._database.execute("COMMIT")
    memory.close()
    other.close()


async def test_who_is_cancelled_keeps_nobody_waiting(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    group = GroupCommit(memory)
    first, second = (asyncio.create_task(group.keep(seen(name))) for name in "ab")
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first, second])
    assert second.exception() is None
    assert "b" in kept(tmp_path)
    memory.close()
