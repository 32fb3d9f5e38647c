"""What runs inside a worker of Dask, without Dask: the process that it starts, and every way to its end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sloth.engine.workers import relay
from sloth.engine.workers.channel import HEADER
from sloth.engine.workers.relay import GONE, LINE, MAIN, MARK, Share


@pytest.fixture
async def share() -> AsyncIterator[Share]:
    made = Share()
    yield made
    if made._child is not None:
        made._child.kill()
    await made.end()


async def removed(path: Path) -> bool:
    """Wait until a directory is gone, which is in bounded time."""
    async with asyncio.timeout(30):
        while path.exists():  # noqa: ASYNC110  a process removes it
            await asyncio.sleep(0.02)
    return True


async def gone(share: Share) -> bytes:
    """Poll until the process has closed its socket; return all that came."""
    data = b""
    async with asyncio.timeout(30):
        while MARK.pack(GONE, 0) not in data:
            data += await share.poll(5)
    return data


async def test_a_worker_that_was_lost_says_so(share: Share) -> None:
    """Dask may have made another one in its place, which must not begin by itself."""
    for asked in (share.send(b""), share.poll(0.1)):
        with pytest.raises(OSError, match="the worker has been lost"):
            await asked
    assert await share.end() == b"it is not there any more"


async def test_it_begins_once_and_leaves_no_directory(share: Share) -> None:
    directory = Path((await share.begin(False)).decode())
    assert directory.parent == relay.MEMORY
    assert directory.stat().st_mode & 0o777 == 0o700
    with pytest.raises(OSError, match="the worker has begun already"):
        await share.begin(False)
    assert (await share.end()).startswith(b"it ended with exit status 0")
    assert not directory.exists()
    with pytest.raises(OSError, match="the worker has been lost"):
        await share.poll(0.1)
    assert await share.end() == b"it is not there any more"


async def test_on_the_machine_of_the_run_it_needs_no_directory(share: Share) -> None:
    assert await share.begin(True) == b""
    assert share.directory is None
    assert share._child is not None
    share._child.kill()
    assert await gone(share) == MARK.pack(GONE, 0)
    assert await share.end() == b"it was ended by SIGKILL"


async def test_a_process_that_ends_by_itself_leaves_no_directory(share: Share) -> None:
    directory = Path((await share.begin(False)).decode())
    assert share._child is not None
    share._child.kill()
    assert await removed(directory)
    await gone(share)


@pytest.mark.parametrize("is_here", [True, False])
async def test_a_run_that_asks_for_nothing_any_more_is_given_up(
    share: Share, monkeypatch: pytest.MonkeyPatch, is_here: bool
) -> None:
    monkeypatch.setattr(relay, "SILENCE", 0.05)
    monkeypatch.setattr(relay, "BEAT", 0.02)
    directory = (await share.begin(is_here)).decode()
    async with asyncio.timeout(30):
        await share._tasks[-1]
    assert not directory or not Path(directory).exists()
    assert share._child is not None
    await share._child.wait()  # it has seen its sockets close


async def test_a_message_that_is_none_ends_the_process(share: Share) -> None:
    await share.begin(True)
    frame = HEADER.pack(7) + b"garbage"
    await share.send(MARK.pack(MAIN, len(frame)) + frame)
    await gone(share)
    assert b"exit status 0" not in await share.end()


async def test_what_the_run_does_not_fetch_is_left_in_the_socket(share: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "FULL", 1)
    await share.begin(True)
    reader = asyncio.StreamReader()
    for frame in (b"one", b"two", b""):
        reader.feed_data(HEADER.pack(len(frame)) + frame)
    reading = asyncio.create_task(share._read(LINE, reader))
    assert await share.poll(30) == MARK.pack(LINE, 3) + b"one"
    assert await share.poll(30) == MARK.pack(LINE, 3) + b"two"
    assert await share.poll(30) == MARK.pack(LINE, 0)
    reader.feed_eof()
    async with asyncio.timeout(30):
        await share.poll(0.01)
        await reading
    assert await share.poll(0.01) == b"", "only the end of the main socket is an end"


def test_directories_of_processes_that_are_gone_are_removed() -> None:
    """One that was killed with SIGKILL could not do it: the files of a site would stay in memory."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = relay.private_directory()
    prefix = f"{relay.PRIVATE}{os.getuid()}-"
    left = [relay.MEMORY / f"{prefix}{name}" for name in (f"{ended.pid}-1", "odd-name", f"{os.getppid()}-1")]
    try:
        for path in left:
            path.mkdir()
            (path / "file").write_text("secret")
        other = relay.private_directory()
        other.rmdir()
        assert [path.exists() for path in (*left, mine)] == [False, True, True, True]
    finally:
        for path in left[1:]:
            (path / "file").unlink()
            path.rmdir()
        mine.rmdir()


def test_without_memory_nothing_is_written_to_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MEMORY", tmp_path)
    with pytest.raises(OSError, match=f"{tmp_path} is not in memory, and files of a site are not written to a disk"):
        relay.private_directory()
    assert list(tmp_path.iterdir()) == []


def test_what_a_worker_lacks_is_named_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = json.loads(relay.about())
    assert facts == relay.describe_process()
    assert facts["machine"] == relay.machine()
    assert len(facts["code"]) == 16
    monkeypatch.setattr(relay, "NEEDED", ("json", "no_such_module"))
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module'"):
        relay.about()
