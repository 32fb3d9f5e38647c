"""Files that change while they are sent or fetched: no host has half a file, or one of two halves; the next run heals.

`holder.py` lets the change come after the controller has looked at the file, and before, or while, it is sent.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attack.sending import SMALL, Sending
from tests.support.mounts import mounted

pytestmark = pytest.mark.attack
LARGE = 20_000_000  # bytes


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"new" * (path.stat().st_size // 6))


def exchange(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"other" * 70_000)
    other.rename(path)


def become_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def become_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {  # with what the error says
    "truncated": (truncate, "shorter"),
    "rewritten": (rewrite, "has changed on the controller"),
    "exchanged": (exchange, "has changed on the controller"),
    "gone": (Path.unlink, "No such file or directory"),
    "a FIFO": (become_fifo, "not a regular file"),
    "endless": (become_endless, "not a regular file"),
    "a directory": (become_directory, "not a regular file"),
}
CALLS = {
    "file": 'file.copy({ src = "sent", dest = "HOST/sent" })',
    "tree": 'file.copy({ src = "files/", dest = "HOST" })',
}


def restore(path: Path, data: bytes) -> None:
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("call", "size", "change"),
    [
        *(("file", SMALL, change) for change in CHANGES),
        ("file", LARGE, "truncated"),
        ("file", LARGE, "endless"),
        ("tree", SMALL, "rewritten"),
    ],
)
def test_what_changes_before_it_is_sent(sending: Sending, call: str, size: int, change: str) -> None:
    make, words = CHANGES[change]
    data = b"old" * (size // 3)
    sending.source.write_bytes(data)
    sending.make_hosts()
    for host in ("other", "held"):
        (sending.hosts / host / "sent").write_text("before")
    sending.describe("need", CALLS[call])
    sending.start_until_held()
    make(sending.source)
    status, report = sending.go()
    assert status == 1
    error = report["held"]["error"]
    assert words in error, error
    assert "sent" in error
    assert "defect" not in error
    assert sending.left("held") == {"sent"}
    assert (sending.hosts / "held" / "sent").read_text() == "before"
    assert report["other"]["status"] in ("changed", "failed")
    assert (sending.hosts / "other" / "sent").read_bytes() in (data, b"before")
    fresh = b"fresh" * (size // 5)
    restore(sending.source, fresh)
    status, report = sending.run()
    assert status == 0, report
    for host in ("other", "held"):
        assert (sending.hosts / host / "sent").read_bytes() == fresh
        assert sending.left(host) == {"sent"}


@pytest.mark.parametrize("change", ["truncated", "rewritten", "gone"])
def test_what_changes_while_it_is_sent(sending: Sending, change: str) -> None:
    data = os.urandom(LARGE)
    sending.source.write_bytes(data)
    sending.describe("3000000", CALLS["file"])
    sending.make_hosts()
    sending.start_until_held()
    CHANGES[change][0](sending.source)
    status, report = sending.go()
    if change == "gone":  # what was opened is still there
        assert status == 0, report
        assert (sending.hosts / "held" / "sent").read_bytes() == data
        return
    assert status == 1
    assert CHANGES[change][1] in report["held"]["error"], report["held"]["error"]
    assert sending.left("held") == set()
    status, report = sending.run()
    assert status == 0, report
    assert (sending.hosts / "held" / "sent").read_bytes() == sending.source.read_bytes()


def test_a_file_that_grows_is_sent_as_it_was(sending: Sending) -> None:
    data = b"line\n" * (SMALL // 5)
    sending.source.write_bytes(data)
    sending.describe("need", CALLS["file"])
    sending.make_hosts()
    sending.start_until_held()
    with sending.source.open("ab") as file:
        file.write(b"more\n" * 1000)
    status, report = sending.go()
    assert status == 0, report
    assert (sending.hosts / "held" / "sent").read_bytes() == data


def test_an_archive_that_changes_is_neither_unpacked_nor_kept(sending: Sending) -> None:
    archive = sending.source.with_name("sent.zip")

    def pack(word: str) -> None:
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("one", word * 100_000)

    pack("a")
    sending.describe("need", 'archive.unpack({ src = "sent.zip", dest = "HOST" })')
    sending.make_hosts()
    sending.start_until_held()
    pack("b")
    status, report = sending.go()
    assert status == 1
    assert "has changed on the controller" in report["held"]["error"], report["held"]["error"]
    assert sending.left("held") == set()
    assert len(list((sending.path / ".sloth-runner" / "archives").glob("*"))) < 2  # that of the other host
    status, report = sending.run()
    assert status == 0, report
    for host in ("other", "held"):
        assert (sending.hosts / host / "one").read_text() == "b" * 100_000


def test_trees_that_cannot_be_read_whole(sending: Sending) -> None:
    """Links back to a directory above them would make it endless; what cannot be read must not be left out."""
    tree = sending.source.parent
    (tree / "inner").mkdir()
    (tree / "inner" / "file").write_text("x")
    for number in range(3):
        (tree / f"loop{number}").symlink_to(".")
    sending.describe("never", CALLS["tree"])
    (sending.path / "go").touch()
    status, report = sending.run()
    assert status == 1
    assert "loop0" in report["other"]["error"], report["other"]["error"]
    for number in range(3):
        (tree / f"loop{number}").unlink()
    (tree / "broken").symlink_to("nowhere")
    status, report = sending.run()
    assert status == 1
    assert "broken" in report["other"]["error"], report["other"]["error"]
    (tree / "broken").unlink()
    (tree / "again").symlink_to("inner")
    status, report = sending.run()
    assert status == 0, report
    assert (sending.hosts / "other" / "again" / "file").read_text() == "x"


def test_a_directory_that_may_not_be_read_is_not_left_out(sending: Sending) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    tree = sending.source.parent
    (tree / "inner").mkdir()
    (tree / "inner").chmod(0)
    sending.describe("never", CALLS["tree"])
    try:
        status, report = sending.run()
    finally:
        (tree / "inner").chmod(0o755)
    assert status == 1
    assert "inner" in report["other"]["error"]
    assert "Permission denied" in report["other"]["error"]


def fetch(sending: Sending) -> str:
    return f'file.fetch({{ src = "{sending.source}", dest = "{sending.path}/fetched", flat = true }})'


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    with mounted(tmp_path / "small", "size=1m") as path:
        yield path


def test_a_fetched_file_that_does_not_fit_leaves_the_old_one(sending: Sending, full_disk: Path) -> None:
    (full_disk / "fetched").write_text("before")
    for size in (900_000, 1_100_000, 3_000_000):  # the last bytes of one of them fit into a buffer, but not on the disk
        (sending.path / "big").write_bytes(os.urandom(size + 100_000))
        sending.describe(
            "never", f'file.fetch({{ src = "{sending.path}/big", dest = "{full_disk}/fetched", flat = true }})'
        )
        (sending.path / "go").touch()
        status, report = sending.run()
        if status == 0:
            continue
        assert status == 1
        for host in report.values():
            if host["status"] == "failed":
                assert "No space left on device" in host["error"], host["error"]
                assert f"cannot store {full_disk}/fetched: " in host["error"]
        assert [entry.name for entry in full_disk.iterdir()] == ["fetched"]
    assert status == 1


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that cannot be written."""
    with mounted(tmp_path / "read-only", "ro") as path:
        yield path


@pytest.mark.parametrize("below", ["", "/in/a/directory"])
def test_a_file_is_fetched_to_a_file_system_that_is_read_only(sending: Sending, read_only: Path, below: str) -> None:
    sending.source.write_text("x")
    dest = f"{read_only}{below}/fetched"
    sending.describe("never", f'file.fetch({{ src = "{sending.source}", dest = "{dest}", flat = true }})')
    (sending.path / "go").touch()
    status, report = sending.run()
    assert status == 1
    for host in report.values():
        assert f"the controller cannot store {dest}: Read-only file system" in host["error"], host["error"]


def test_a_destination_may_have_the_longest_name_that_there_is(sending: Sending) -> None:
    sending.source.write_text("x")
    dest = sending.path / ("\u00e4" * 127)
    sending.describe("never", f'file.fetch({{ src = "{sending.source}", dest = "{dest}", flat = true }})')
    (sending.path / "go").touch()
    status, report = sending.run()
    assert status == 0, report
    assert dest.read_text() == "x"


DESTINATIONS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a directory": (Path.mkdir, "s a directory"),
    "below a file": (lambda path: path.parent.write_text("x"), "exists"),
}


@pytest.mark.parametrize("name", list(DESTINATIONS))
def test_a_destination_that_can_be_none(sending: Sending, name: str) -> None:
    make, words = DESTINATIONS[name]
    below = sending.path / "below"
    if name != "below a file":
        below.mkdir()
    make(below / "fetched")
    sending.source.write_text("x")
    sending.describe("never", f'file.fetch({{ src = "{sending.source}", dest = "{below}/fetched", flat = true }})')
    (sending.path / "go").touch()
    status, report = sending.run()
    assert status == 1
    for host in report.values():
        assert words in host["error"], host["error"]
        assert "fetched" in host["error"] or "below" in host["error"]
        assert "defect" not in host["error"]
    assert not below.is_dir() or [entry.name for entry in below.iterdir()] == ["fetched"]


def test_a_destination_that_is_a_fifo_makes_nobody_wait(sending: Sending) -> None:
    os.mkfifo(sending.path / "fetched")
    sending.source.write_text("x")
    sending.describe("never", fetch(sending))
    (sending.path / "go").touch()
    status, report = sending.run()
    assert status == 0, report
    assert (sending.path / "fetched").read_text() == "x"


@pytest.mark.parametrize("change", ["truncated", "rewritten", "exchanged"])
def test_a_file_that_changes_while_it_is_fetched(sending: Sending, change: str) -> None:
    """The copy is a file as it was at some time, or the old one stays, with an error."""
    (sending.path / "fetched").write_text("before")
    data = os.urandom(LARGE)
    sending.source.write_bytes(data)
    body = f'if host.name == "held" then {fetch(sending)} end'
    sending.describe("blob", body)
    sending.start_until_held()
    CHANGES[change][0](sending.source)
    status, report = sending.go()
    fetched = (sending.path / "fetched").read_bytes()
    if status == 0:
        assert fetched in (data, sending.source.read_bytes())
    else:
        assert fetched == b"before"
        assert "changed" in report["held"]["error"], report["held"]["error"]
        assert "sent" in report["held"]["error"]
    assert [entry.name for entry in sending.path.glob(".fetched*")] == []
    assert sending.run()[0] == 0
    assert (sending.path / "fetched").read_bytes() == sending.source.read_bytes()


def test_a_file_that_grows_for_ever_is_fetched_as_it_was(sending: Sending) -> None:
    sending.source.write_bytes(b"line\n" * 100_000)
    body = f'if host.name == "held" then {fetch(sending)} end'
    sending.describe("blob", body)
    sending.start_until_held()
    with sending.source.open("ab") as file:
        file.write(b"more\n" * 100_000)
    status, report = sending.go()
    assert status == 0, report
    fetched = (sending.path / "fetched").read_bytes()
    assert fetched == b"line\n" * 100_000
