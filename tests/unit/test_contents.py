"""Contents on hosts: a large one is hashed while it comes, and what was written of it is not read again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.errors import Failed
from sloth.payload.kernel.record import Asset
from sloth.payload.lib import atomic, contents, files

DATA = os.urandom(contents.LARGE + 1)


class Link:
    """Sends a content in pieces."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def pull(self, index: int, asset: Asset) -> Iterator[bytes]:
        yield from (self._data[at : at + 100_000] for at in range(0, len(self._data), 100_000))


def asset_of(data: bytes) -> Asset:
    return Asset(name="a", sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def written(path: Path, sent: bytes = DATA) -> tuple[contents.Contents, Content]:
    of = contents.Contents(Link(sent))  # type: ignore[arg-type]
    content = of.of_asset(asset_of(DATA), 0)
    info = files.replace(str(path), content.chunks())
    of.note_written(str(path), info, content)
    return of, content


def test_a_file_that_was_just_written_is_not_read_to_verify_it(tmp_path: Path) -> None:
    of, content = written(tmp_path / "large")
    os.chmod(tmp_path / "large", 0o600)
    with mock.patch.object(contents, "_hash_file", side_effect=AssertionError):
        assert of.of_file(str(tmp_path / "large"), None) == content
    assert of.of_file(str(tmp_path / "large"), None) == content, "by reading it: that is known for the first look only"


@pytest.mark.parametrize("how", ["in place", "replaced"])
def test_a_file_that_another_program_has_changed_since_is_read(tmp_path: Path, how: str) -> None:
    of, content = written(tmp_path / "large")
    other = bytes([DATA[0] ^ 1]) + DATA[1:]
    if how == "replaced":
        info = os.stat(tmp_path / "large")
        (tmp_path / "other").write_bytes(other)
        os.utime(tmp_path / "other", ns=(info.st_atime_ns, info.st_mtime_ns))
        os.rename(tmp_path / "other", tmp_path / "large")
    else:
        before = os.stat(tmp_path / "large").st_mtime_ns
        while os.stat(tmp_path / "large").st_mtime_ns == before:  # the kernel's clock for files ticks slowly
            (tmp_path / "large").write_bytes(other)
    assert of.of_file(str(tmp_path / "large"), None).sha256 == hashlib.sha256(other).hexdigest() != content.sha256


@pytest.mark.parametrize("sent", [DATA[:-1], DATA[:-1] + bytes([DATA[-1] ^ 1])], ids=["short", "other"])
def test_a_content_that_is_not_what_was_announced_replaces_nothing(tmp_path: Path, sent: bytes) -> None:
    (tmp_path / "large").write_bytes(b"old")
    with pytest.raises(Failed, match="a has changed on the controller while it was sent"):
        written(tmp_path / "large", sent)
    assert (tmp_path / "large").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["large"]


@pytest.mark.parametrize("fails", [None, OSError(95, "not supported"), AttributeError("posix_fadvise")])
def test_the_disk_is_busy_before_the_last_byte(tmp_path: Path, fails: Exception | None) -> None:
    with mock.patch.object(os, "posix_fadvise", side_effect=fails) as advise:
        files.replace(str(tmp_path / "large"), iter([bytes(1024 * 1024)] * 40))
    assert [call.args[1:3] for call in advise.call_args_list] == [(0, atomic.WRITE_BACK), (atomic.WRITE_BACK,) * 2]
    assert os.path.getsize(tmp_path / "large") == 40 * 1024 * 1024
