"""File systems in memory that can be filled, and old ones whose times are whole seconds."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(at: Path, options: str) -> Iterator[Path]:
    """Mount a file system in memory."""
    with _mounted(at, "-t", "tmpfs", "-o", options, "tmpfs"):
        yield at


@contextlib.contextmanager
def mounted_with_whole_seconds(at: Path) -> Iterator[Path]:
    """Mount a file system as many a /boot is: its inodes have no room for parts of a second."""
    image = at.with_name(at.name + ".image")
    with image.open("wb") as file:
        file.truncate(8 << 20)
    try:
        subprocess.run(["mkfs.ext2", "-q", "-I", "128", str(image)], capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("there is no mkfs.ext2")
    with _mounted(at, "-o", "loop", str(image)):
        yield at


@contextlib.contextmanager
def _mounted(at: Path, *what: str) -> Iterator[None]:
    at.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *what, str(at)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def fill(home: Path) -> None:
    """Use every byte."""
    with (home / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
