"""What a call sends: which local file is meant, what is none, and what is remembered of large ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.engine import assets as assets_module
from sloth.engine.assets import LARGE, Shipper, find_file, hash_file, read_chunks
from sloth.errors import CallError
from sloth.payload.kernel.registry import find
from sloth.state import memory as memory_module
from sloth.state.memory import Memory
from sloth.transport import Asset
from tests.support.mounts import mounted_with_whole_seconds


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    opened = Memory(tmp_path / "controller")
    yield opened
    opened.close()


async def no_variables(needs: object) -> dict[str, object]:
    return {}


async def prepared(memory: Memory, directory: Path, call: str, /, **args: object) -> list[Asset]:
    """Return the assets of a call in a site in `directory`."""

    _, assets = await Shipper(memory).prepare(find(call), args, no_variables, (directory,))
    return assets


async def test_what_is_neither_a_file_nor_a_directory_is_refused(memory: Memory, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree" / "pipe")
    for src, path in (("pipe", tmp_path / "pipe"), ("tree", tmp_path / "tree" / "pipe"), ("/dev/null", "/dev/null")):
        with pytest.raises(CallError, match=f"^{path} is neither a file nor a directory$"):
            await prepared(memory, tmp_path, "file.copy", src=src, dest="/x")


async def test_a_call_without_a_file_sends_none(memory: Memory, tmp_path: Path) -> None:
    assert await prepared(memory, tmp_path, "systemd.unit", name="a.service", state="absent") == []


@pytest.mark.parametrize("src", ["", " ", "\t"])
def test_an_empty_source_is_not_the_directory_of_the_site(tmp_path: Path, src: str) -> None:
    with pytest.raises(CallError, match="src must be a path, not an empty string"):
        find_file(src, [tmp_path])


async def test_the_hash_of_a_large_file_is_remembered_until_it_changes(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"")
    os.truncate(path, LARGE)
    await asyncio.sleep(memory_module.SETTLED_NS / 1e9 * 1.1)  # what was just written may be written again
    memory.keep_hash(str(path), path.stat(), "as it was")
    (asset,) = await prepared(memory, tmp_path, "file.copy", src="large", dest="/x")
    assert asset.sha256 == "as it was"
    path.write_bytes(b"y" * LARGE)
    (asset,) = await prepared(memory, tmp_path, "file.copy", src="large", dest="/x")
    assert asset.sha256 == hash_file(path, LARGE)


async def test_a_large_file_is_read_once_for_all_hosts_that_wait_for_it(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large").write_bytes(b"x" * LARGE)
    read = []

    def counted(path: Path, size: int) -> str:
        read.append(path)
        return hash_file(path, size)

    monkeypatch.setattr(assets_module, "hash_file", counted)
    shipper, cls, args = Shipper(memory), find("file.copy"), {"src": "large", "dest": "/x"}
    waiting = [asyncio.create_task(shipper.prepare(cls, args, no_variables, (tmp_path,))) for _ in range(9)]
    await asyncio.sleep(0)
    waiting.pop(0).cancel()  # the host that came first has run out of time
    found = await asyncio.gather(*waiting)
    assert {assets[0].sha256 for _, assets in found} == {hash_file(tmp_path / "large", LARGE)}
    assert len(read) == 1


async def test_a_small_file_is_hashed_again_while_its_times_may_stay(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "f"
    shipper, cls, args = Shipper(memory), find("file.copy"), {"src": "f", "dest": "/x"}
    with mounted_with_whole_seconds(tmp_path / "old") as old:
        path.symlink_to(old / "f")
        for _ in range(2):  # of two seconds, one may end in between
            for text in ("a", "b"):
                path.write_text(text)
                _, (asset,) = await shipper.prepare(cls, args, no_variables, (tmp_path,))
                assert asset.sha256 == hash_file(path, 1)


def test_a_file_that_has_become_shorter_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert b"".join(read_chunks(path, 2)) == b"ab"
    with pytest.raises(OSError, match="it has become shorter meanwhile") as raised:
        b"".join(read_chunks(path, 4))
    assert raised.value.filename == str(path)
