"""A disk whose writes fail with EIO: a real block device, of a file in memory that is sealed once it is in use.

It needs neither a C compiler nor the device mapper: the kernel's loop driver cannot write to a memfd that is sealed,
and so every write below the file system fails from then on, as on a broken disk. What was read before is still there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.small_host import Small

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("mke2fs") is None or shutil.which("losetup") is None, reason="no mke2fs, losetup"),
]
SIZE = 64 * 1024 * 1024
SEAL_FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE of Linux 5.1, which Python does not name


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A directory with a file system of its own, and what lets its device fail."""
    memory = os.memfd_create("disk", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, SIZE)
    image = f"/proc/{os.getpid()}/fd/{memory}"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", image], check=True)
    attached = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True)
    if attached.returncode:
        os.close(memory)
        pytest.skip(f"no loop device: {attached.stderr.strip()}")
    device = attached.stdout.strip()
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mounted = subprocess.run(["mount", "-o", "errors=continue", device, place], capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"not mounted: {mounted.stderr.strip()}")
        try:
            yield place, lambda: seal(memory)
        finally:
            subprocess.run(["umount", "-l", place], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
        os.close(memory)


def seal(memory: int) -> None:
    os.sync()
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEAL_FUTURE_WRITE)


def test_a_file_on_it_stays_the_old_one(tmp_path: Path, disk: tuple[Path, Callable[[], None]]) -> None:
    place, fail = disk
    home = tmp_path / "home"
    home.mkdir()
    (place / "file").write_text("old\n")
    small = Small(tmp_path, home)
    small.write(
        f'task({{name = "t", ignore_errors = true, run = function() file.copy({{dest = "{place}/file",'
        ' content = "new\\n"}) end})\ntask({name = "after", run = function() file.copy({dest = "HOME/after",'
        ' content = "x"}) end})'
    )
    fail()
    _, document = small.run()
    assert "Input/output error (errno 5)" in json.dumps(document)
    assert (place / "file").read_text() == "old\n"
    assert [path.name for path in place.iterdir() if path.name != "lost+found"] == ["file"], "no temporary file"
    assert (home / "after").read_text() == "x", "what is elsewhere goes on"


def test_a_state_on_it_ends_the_host_with_an_error(tmp_path: Path, disk: tuple[Path, Callable[[], None]]) -> None:
    place, fail = disk
    small = Small(tmp_path, place)
    small.write(f'task({{name = "t", run = function() file.copy({{dest = "{tmp_path}/one", content = "1"}}) end}})')
    assert small.run()[0] == 0
    small.write(f'task({{name = "t", run = function() file.copy({{dest = "{tmp_path}/two", content = "2"}}) end}})')
    fail()
    status, document = small.run()
    assert status == 1
    text = json.dumps(document)
    assert "Input/output error" in text or "disk I/O error" in text or "cannot be used" in text, text
