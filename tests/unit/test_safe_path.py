"""Another account cannot make root write, chown or remove anything outside of what that account owns."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sloth.payload.kernel.resource import Change, Failed
from sloth.payload.lib import files
from tests.support.calls import execute_call

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led astray")
USER = 12345


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of a user's, `home`, one of root's with a private file, `root`, and one that all may write, `tmp`."""
    for name, owner, mode in (("home", USER, 0o755), ("home/own", USER, 0o755), ("root", 0, 0o755), ("tmp", 0, 0o1777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
        os.chown(tmp_path / name, owner, owner)
    (tmp_path / "root/private").write_text("of root")
    (tmp_path / "root/private").chmod(0o600)
    return tmp_path


def link(path: Path, target: Path, owner: int = USER) -> None:
    path.symlink_to(target)
    os.chown(path, owner, owner, follow_symlinks=False)


def state(path: Path) -> list[tuple[str, int, int, bytes]]:
    """Return everything below a directory with its owner, mode and content."""
    return [
        (str(each), each.lstat().st_uid, each.lstat().st_mode, each.read_bytes() if each.is_file() else b"")
        for each in [path, *sorted(path.rglob("*"))]
    ]


WRITES: dict[str, Callable[[Path], object]] = {
    "replace": lambda path: files.replace(str(path / "private"), b"new"),
    "chown": lambda path: files.set_attributes(str(path / "private"), Change({}, {"owner": str(USER), "mode": "0666"})),
    "chown a link": lambda path: files.set_attributes(str(path / "private"), Change({}, {"owner": str(USER)}), False),
    "lineinfile": lambda path: execute_call("file.lineinfile", path=str(path / "private"), line="new"),
    "directory": lambda path: execute_call("file.directory", path=str(path / "new/deep")),
    "recurse": lambda path: execute_call("file.directory", path=str(path), recurse=True, owner=str(USER), mode="0777"),
    "link": lambda path: execute_call("file.link", path=str(path / "private"), src="/x", force=True),
    "hard link": lambda path: execute_call("file.link", path=str(path / "new"), src=str(path / "private"), hard=True),
    "absent": lambda path: execute_call("file.absent", path=str(path / "private")),
    "backup": lambda path: execute_call("file.lineinfile", path=str(path / "private"), line="new", backup=True),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("where", ["home/link", "tmp/link"])
def test_a_user_s_link_to_a_directory_of_root_is_refused(place: Path, where: str, name: str) -> None:
    link(place / where, place / "root")
    before = state(place / "root")
    with pytest.raises(Failed, match="leads through the link link"):
        WRITES[name](place / where)
    assert state(place / "root") == before


@pytest.mark.parametrize("name", ["lineinfile", "chown"])
def test_a_user_s_link_to_a_file_of_root_is_refused(place: Path, name: str) -> None:
    link(place / "home/private", place / "root/private")
    before = state(place / "root")
    with pytest.raises(Failed, match="leads through the link private"):
        WRITES[name](place / "home")
    assert state(place / "root") == before


@pytest.mark.parametrize(
    ("where", "owner", "target"),
    [("home/link", USER, "home/own"), ("home/link", 0, "root"), ("root/link", USER, "home"), ("tmp/link", 0, "root")],
)
def test_other_links_are_followed(place: Path, where: str, owner: int, target: str) -> None:
    link(place / where, place / target, owner)
    files.replace(str(place / where / "file"), b"new")
    assert (place / target / "file").read_bytes() == b"new"
    execute_call("file.directory", path=str(place / where / "a/b"))
    assert (place / target / "a/b").is_dir()


def test_a_link_that_leads_on_and_up_is_followed_and_a_circle_is_not(place: Path) -> None:
    (place / "root/one").symlink_to("../root/two")
    (place / "root/two").symlink_to("../home/./own")
    files.replace(str(place / "root/one/file"), b"x")
    assert (place / "home/own/file").exists()
    (place / "root/round").symlink_to("round")
    with pytest.raises(OSError, match=r"[Tt]oo many levels"):
        files.replace(str(place / "root/round/file"), b"x")
    with pytest.raises(NotADirectoryError):
        files.replace(str(place / "root/private/file"), b"x")


def test_a_parent_that_is_exchanged_meanwhile_leads_nowhere(place: Path) -> None:
    """The user swaps the directory for a link to root's again and again, while root writes and sets modes in it."""
    home, real, spare = place / "home", place / "home/tree", place / "home/spare"
    real.mkdir()
    for number in range(30):
        (real / f"{number}").write_text("of the user")
        (place / f"root/{number}").write_text("of root")
        (place / f"root/{number}").chmod(0o600)
    link(spare, place / "root")
    before = state(place / "root")
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            swaps += 1
            for one, other in ((real, home / "aside"), (spare, real), (real, spare), (home / "aside", real)):
                os.rename(one, other)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in range(3000):
            name = str(real / str(number % 30))
            with contextlib.suppress(Failed, OSError):
                files.set_attributes(name, Change({}, {"owner": str(USER), "mode": "0777"}), False)
            if number % 10 == 0:
                with contextlib.suppress(Failed, OSError):
                    files.replace(name, b"new")
    finally:
        stop.set()
        thread.join()
    assert state(place / "root") == before
    assert swaps > 10
    assert stat.S_IMODE((place / "root/private").stat().st_mode) == 0o600


def test_a_user_s_link_does_not_become_root_s(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recursion that saw a file must not give root the link in its place: root's links are followed afterwards."""
    mine = place / "home/own/mine"
    mine.write_text("")
    os.chown(mine, USER, USER)

    def exchanged(path: str, change: Change, *rest: object, really: Callable[..., None] = files.set_attributes) -> None:
        if path == str(mine):
            mine.unlink()
            link(mine, place / "root/private")
        really(path, change, *rest)

    monkeypatch.setattr(files, "set_attributes", exchanged)
    with pytest.raises(Failed, match="another link"):
        execute_call("file.directory", path=str(place / "home/own"), recurse=True, owner="root")
    assert mine.lstat().st_uid == USER
    with pytest.raises(Failed, match="another link"):
        files.set_attributes(str(mine), Change({}, {"owner": "root"}), False, str(place / "root/other"))
    files.set_attributes(str(mine), Change({}, {"owner": "root"}), False, str(place / "root/private"))
    assert (mine.lstat().st_uid, (place / "root/private").stat().st_mode & 0o777) == (0, 0o600)
