"""What another account of a host can plant before root comes: links, hard links, FIFOs, devices, set-uid programs.

Root then does with every module what sites do. Nothing outside of the account's directory may change, nothing of root's
may become readable, and no program may become one that runs as root.
"""

from __future__ import annotations

import hashlib
import io
import os
import pwd
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.converge import Outcome
from sloth.payload.kernel.record import Asset
from sloth.payload.kernel.resource import Call, Change, Failed
from sloth.payload.kernel.status import Status
from sloth.payload.lib import files
from sloth.payload.lib.host import Host
from sloth.payload.lib.restore import restore
from sloth.payload.lib.user_files import UserFile
from sloth.payload.modules.user.home import make_home
from tests.support.calls import NoController, execute_call

pytestmark = [pytest.mark.attack, pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led astray")]
USER = 12345
SECRET = "of root, a secret"


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A user's directory `home` with a tree, and root's `root` with a secret file, a program and a directory."""
    tmp_path.chmod(0o755)
    for name, owner in (("home", USER), ("home/tree", USER), ("root", 0), ("root/sub", 0)):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, owner, owner)
    (tmp_path / "root/private").write_text(SECRET)
    (tmp_path / "root/private").chmod(0o600)
    (tmp_path / "root/su").write_text("#!/bin/sh\n")
    (tmp_path / "root/su").chmod(0o4755)
    (tmp_path / "root/sub/file").write_text("x")
    return tmp_path


def own(path: Path, content: str = "of the user", mode: int = 0o644) -> Path:
    path.write_text(content)
    os.chown(path, USER, USER)
    path.chmod(mode)
    return path


def link(path: Path, target: Path | str) -> None:
    path.symlink_to(target)
    os.chown(path, USER, USER, follow_symlinks=False)


def state(directory: Path) -> list[tuple[str, int, int, bytes]]:
    return [
        (str(each), each.lstat().st_uid, each.lstat().st_mode, each.read_bytes() if each.is_file() else b"")
        for each in [directory, *sorted(directory.rglob("*"))]
    ]


class Sender(Host):
    """This machine, with a controller that sends `data` for every asset."""

    def __init__(self, data: bytes) -> None:
        super().__init__(NoController())
        self.data = data

    def asset(self, call: Call, index: int) -> Content:
        return Content.of_bytes(self.data)


def copy(dest: str, text: str, **arguments: object) -> object:
    """Run file.copy with a text from the site."""
    data = text.encode()
    asset = Asset(name="", sha256=hashlib.sha256(data).hexdigest(), size=len(data), mode="", dir=False, pushed=False)
    return execute_call("file.copy", on=Sender(data), assets=[asset], dest=dest, content=text, **arguments)


def refused(call: Callable[[], object]) -> None:
    """Run a call of root's; it may fail, or do its work where it harms nobody."""
    try:
        call()
    except (Failed, OSError):
        pass


# Hard links to files of root's, in a directory of the user's


@pytest.mark.parametrize("arguments", [{"owner": str(USER)}, {"mode": "0666"}, {"group": str(USER), "mode": "a+r"}])
def test_a_hard_link_is_not_given_away_by_a_recursion(ground: Path, arguments: dict[str, str]) -> None:
    os.link(ground / "root/private", ground / "home/tree/mine")
    before = state(ground / "root")
    with pytest.raises(Failed, match="is a hard link to a file that the owner of its directory does not own"):
        execute_call("file.directory", path=str(ground / "home/tree"), recurse=True, **arguments)
    assert state(ground / "root") == before


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_nor_by_a_call_for_it(ground: Path, mode: int) -> None:
    os.chown(ground / "home/tree", 0 if mode == 0o1777 else USER, 0)
    (ground / "home/tree").chmod(mode)
    os.link(ground / "root/private", ground / "home/tree/mine")
    before = state(ground / "root")
    path = str(ground / "home/tree/mine")
    with pytest.raises(Failed, match="hard link"):
        copy(path, SECRET, mode="0644", owner=str(USER))
    with pytest.raises(Failed, match="hard link"):
        execute_call("file.lineinfile", path=path, line=SECRET, mode="0644")
    assert state(ground / "root") == before


def test_hard_links_of_root_s_own_and_of_the_user_are_as_before(ground: Path) -> None:
    own(ground / "home/tree/one")
    os.link(ground / "home/tree/one", ground / "home/tree/two")
    execute_call("file.directory", path=str(ground / "home/tree"), recurse=True, mode="u=rwX,go=")
    assert stat.S_IMODE((ground / "home/tree/two").stat().st_mode) == 0o600
    os.link(ground / "root/private", ground / "root/sub/other")
    execute_call("file.directory", path=str(ground / "root/sub"), recurse=True, owner=str(USER))
    assert (ground / "root/private").stat().st_uid == USER


# Set-uid programs


@pytest.mark.parametrize("arguments", [{}, {"mode": "a+r"}, {"mode": "u+rwX,go+r"}])
def test_a_user_s_program_does_not_become_one_of_root(ground: Path, arguments: dict[str, str]) -> None:
    own(ground / "home/tree/tool", mode=0o4755)
    own(ground / "home/tree/group", mode=0o2755)
    execute_call(
        "file.directory", path=str(ground / "home/tree"), recurse=True, owner="root", group="root", **arguments
    )
    for name in ("tool", "group"):
        assert (ground / "home/tree" / name).stat().st_uid == 0
        assert not (ground / "home/tree" / name).stat().st_mode & 0o6000


@pytest.mark.parametrize("mode", [None, "a+r", "u+x", "0755"])
@pytest.mark.parametrize("kind", ["link", "hard link", "own"])
def test_a_new_content_does_not_inherit_set_uid(ground: Path, kind: str, mode: str | None) -> None:
    path = ground / "home/tree/tool"
    if kind == "link":
        link(path, ground / "root/su")
    elif kind == "hard link":
        os.link(ground / "root/su", path)
    else:
        own(path, mode=0o6755)
    arguments = {} if mode is None else {"mode": mode}
    for call in (
        lambda: copy(str(path), "of the site", **arguments),
        lambda: execute_call("file.lineinfile", path=str(path), line="of the site", **arguments),
        lambda: copy(str(path), "again", follow=True, **arguments),
    ):
        refused(call)
        info = path.stat()
        assert not info.st_mode & 0o6000 or "of the site" not in path.read_text()
    assert stat.S_IMODE((ground / "root/su").stat().st_mode) == 0o4755
    assert (ground / "root/su").read_text() == "#!/bin/sh\n"


def test_a_rollback_does_not_bring_back_set_uid_where_others_write(ground: Path) -> None:
    path = ground / "home/tree/tool"
    content = Content.of_bytes(b"of the user")
    refused(
        lambda: restore(
            str(path), {"type": "file", "content": content, "mode": "4755", "owner": "root", "group": "root"}
        )
    )
    assert not path.exists() or not path.stat().st_mode & 0o6000
    restore(str(ground / "root/tool"), {"type": "file", "content": content, "mode": "4755", "owner": "root"})
    assert stat.S_IMODE((ground / "root/tool").stat().st_mode) == 0o4755


# Devices, FIFOs, sockets


def special(path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listener:
            here = os.getcwd()
            os.chdir(path.parent)
            try:
                listener.bind(path.name)
            finally:
                os.chdir(here)
    else:
        os.mknod(path, (stat.S_IFCHR if kind == "char" else stat.S_IFBLK) | 0o600, os.makedev(1, 7))


CALLS: dict[str, Callable[[str, Path], object]] = {
    "copy": lambda path, ground: copy(path, "x"),
    "copy, follow": lambda path, ground: copy(path, "x", follow=True),
    "copy, backup": lambda path, ground: copy(path, "x", backup=True),
    "lineinfile": lambda path, ground: execute_call("file.lineinfile", path=path, line="x", create=True),
    "blockinfile": lambda path, ground: execute_call("file.blockinfile", path=path, block="x", create=True),
    "replace": lambda path, ground: execute_call("file.replace", path=path, regexp="a", replace="b"),
    "link": lambda path, ground: execute_call("file.link", path=path, src="/x", force=True),
    "hard link": lambda path, ground: execute_call(
        "file.link", path=path, src=str(ground / "root/private"), hard=True, force=True
    ),
    "directory": lambda path, ground: execute_call("file.directory", path=path),
    "archive": lambda path, ground: execute_call(
        "archive.unpack", src=archive(ground, "mine"), remote_src=True, dest=os.path.dirname(path)
    ),
    "cron": lambda path, ground: execute_call("cron.job", name="x", job="true", cron_file=path, user="root"),
    "sysctl": lambda path, ground: execute_call(
        "sysctl.set", name="kernel.sloth", value=1, sysctl_file=path, sysctl_set=False, ignoreerrors=True
    ),
    "rollback": lambda path, ground: restore(path, {"type": "file", "content": Content.of_bytes(b"x"), "mode": "0644"}),
    "replace()": lambda path, ground: files.replace(path, b"x"),
    "remote copy": lambda path, ground: execute_call(
        "file.copy", remote_src=True, src=path, dest=str(ground / "root/copied")
    ),
}


@pytest.mark.parametrize("kind", ["fifo", "socket", "char", "block"])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.timeout(60)
def test_special_files_are_refused(ground: Path, name: str, kind: str) -> None:
    path = ground / "home/tree/mine"
    special(path, kind)
    before = path.lstat()
    with pytest.raises((Failed, OSError)):
        CALLS[name](str(path), ground)
    now = path.lstat()
    assert (now.st_ino, now.st_mode, now.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)


def archive(ground: Path, name: str, linkname: str = "") -> str:
    path = ground / "root/archive.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        if linkname:
            info.type, info.linkname = tarfile.SYMTYPE, linkname
            tar.addfile(info)
        else:
            info.size = 3
            tar.addfile(info, io.BytesIO(b"new"))
    return str(path)


def test_absence_removes_them_because_it_names_them(ground: Path) -> None:
    special(ground / "home/tree/mine", "fifo")
    execute_call("file.absent", path=str(ground / "home/tree/mine"))
    assert not (ground / "home/tree/mine").exists()


# Links


def clone(path: Path, ground: Path) -> Outcome:
    source = ground / "root/repository"
    if not source.exists():
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(ground / "root")}
        words = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "init", "-q", "-b", "main", str(source)], check=True, env=environment)
        (source / "file").write_text("x")
        subprocess.run(["git", "-C", str(source), "add", "file"], check=True, env=environment)
        subprocess.run(["git", "-C", str(source), *words, "commit", "-qm", "1"], check=True, env=environment)
    return execute_call("git.clone", repo=str(source), dest=str(path))


BELOW: dict[str, Callable[[Path, Path], object]] = {
    "copy": lambda path, ground: copy(str(path / "private"), "x"),
    "copy /": lambda path, ground: copy(f"{path}/new", "x"),
    "archive": lambda path, ground: execute_call(
        "archive.unpack", src=archive(ground, "private"), remote_src=True, dest=str(path)
    ),
    "git": lambda path, ground: clone(path / "new", ground),
    "cron": lambda path, ground: execute_call(
        "cron.job", name="x", job="true", cron_file=str(path / "private"), user="root"
    ),
    "sysctl": lambda path, ground: execute_call(
        "sysctl.set",
        name="kernel.sloth",
        value=1,
        sysctl_file=str(path / "private"),
        sysctl_set=False,
        ignoreerrors=True,
    ),
    "fstab": lambda path, ground: execute_call(
        "mount.present",
        path="/nowhere",
        src="/dev/null",
        fstype="ext4",
        state="configured",
        fstab=str(path / "private"),
    ),
    "mount point": lambda path, ground: execute_call(
        "mount.present", path=str(path / "new"), src="tmpfs", fstype="tmpfs", fstab=str(ground / "root/fstab")
    ),
    "rollback": lambda path, ground: restore(
        str(path / "private"), {"type": "file", "content": Content.of_bytes(b"x"), "mode": "0644"}
    ),
    "prune": lambda path, ground: restore(str(path / "private"), None),
    "absent": lambda path, ground: execute_call("file.absent", path=str(path / "sub")),
}


@pytest.mark.parametrize("name", BELOW)
def test_a_user_s_link_on_the_way_leads_nowhere(ground: Path, name: str) -> None:
    link(ground / "home/link", ground / "root")
    if name == "git":
        clone(ground / "elsewhere", ground)
    if name == "archive":
        archive(ground, "private")
    before = state(ground / "root")
    refused(lambda: BELOW[name](ground / "home/link", ground))
    now = [entry for entry in state(ground / "root") if not entry[0].endswith("/fstab")]
    assert now == before


AT_THE_END: dict[str, Callable[[str, Path], object]] = {
    "cron": CALLS["cron"],
    "sysctl": CALLS["sysctl"],
    "lineinfile": CALLS["lineinfile"],
    "copy, follow": CALLS["copy, follow"],
    "copy": CALLS["copy"],
    "backup": CALLS["copy, backup"],
    "archive": CALLS["archive"],
    "fstab": lambda path, ground: execute_call(
        "mount.present", path="/nowhere", src="/dev/null", fstype="ext4", state="configured", fstab=path
    ),
}


@pytest.mark.parametrize("name", AT_THE_END)
def test_a_user_s_link_at_the_end_leads_nowhere(ground: Path, name: str) -> None:
    path = ground / "home/tree/mine"
    link(path, ground / "root/private")
    archive(ground, "mine")
    before = state(ground / "root")
    refused(lambda: AT_THE_END[name](str(path), ground))
    assert state(ground / "root") == before
    for each in (ground / "home").rglob("*"):
        if each.is_file() and not each.is_symlink() and SECRET in each.read_text():
            info = each.stat()
            assert (info.st_uid, info.st_mode & 0o044) == (0, 0), f"{each} shows root's secret"


def test_what_is_mounted_below_is_not_removed(ground: Path) -> None:
    (ground / "home/tree/mounted").mkdir()
    mount = subprocess.run(["mount", "--bind", str(ground / "root"), str(ground / "home/tree/mounted")], check=False)
    if mount.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(Failed, match="a file system is mounted on"):
            execute_call("file.absent", path=str(ground / "home/tree"))
        assert (ground / "root/private").read_text() == SECRET
    finally:
        subprocess.run(["umount", str(ground / "home/tree/mounted")], check=True)


def test_a_tree_of_any_depth_is_removed(ground: Path) -> None:
    here = os.open(ground / "home/tree", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    link(ground / "home/tree/link", ground / "root")
    before = state(ground / "root")
    execute_call("file.absent", path=str(ground / "home/tree"))
    assert not (ground / "home/tree").exists()
    assert state(ground / "root") == before


@pytest.mark.parametrize("is_other_disk", [False, True])
def test_root_clones_into_a_home(ground: Path, is_other_disk: bool) -> None:
    """Apart from it first; also when that is on another file system."""
    home = ground / "home/tree"
    if is_other_disk and subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(home)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        os.chown(home, USER, USER)
        clone(home / "new", ground)
        assert (home / "new/file").read_text() == "x"
        assert clone(home / "new", ground).status is Status.UNCHANGED
        assert [path.name for path in home.iterdir()] == ["new"]
        assert not list((Path(os.environ["HOME"]) / ".sloth-runner").glob("clone-*"))
    finally:
        if is_other_disk:
            subprocess.run(["umount", str(home)], check=True)


def test_a_new_home_is_not_made_behind_a_user_s_link(ground: Path) -> None:
    skeleton = ground / "root/skel"
    (skeleton / "dir").mkdir(parents=True)
    (skeleton / "dir/file").write_text("x")
    (skeleton / "dir/file").chmod(0o640)
    (skeleton / "link").symlink_to("dir/file")
    link(ground / "home/link", ground / "root")
    before = state(ground / "root")

    def account(path: Path) -> pwd.struct_passwd:
        return pwd.struct_passwd(("u", "x", 4321, 4321, "", str(path), ""))

    with pytest.raises(Failed, match="leads through the link link"):
        make_home(account(ground / "home/link/new"), str(skeleton), 0o027)
    assert state(ground / "root") == before
    new = ground / "home/a/new"
    make_home(account(new), str(skeleton), 0o027)
    assert (new.stat().st_uid, stat.S_IMODE(new.stat().st_mode)) == (4321, 0o750)
    assert ((new / "dir/file").stat().st_uid, stat.S_IMODE((new / "dir/file").stat().st_mode)) == (4321, 0o640)
    assert ((new / "link").lstat().st_uid, os.readlink(new / "link")) == (4321, "dir/file")
    assert [path.name for path in (ground / "home/a").iterdir()] == ["new"]


def test_keys_are_not_written_behind_another_user_s_link(ground: Path) -> None:
    link(ground / "home/link", ground / "root/sub")
    account = pwd.struct_passwd(("u", "x", 4321, 4321, "", str(ground / "nowhere"), ""))
    before = state(ground / "root")
    for path in (ground / "home/link/keys", ground / "home/link/new/keys"):
        file = UserFile(Host(NoController()), account, str(path))
        change = Change(None, {"content": Content.of_bytes(b"key"), "mode": "0600", "owner": "u"})
        with pytest.raises(Failed, match="leads through the link link"):
            file.apply(change)
    assert state(ground / "root") == before


def test_the_lock_of_a_killed_git_is_removed_and_that_of_a_running_one_is_not(ground: Path) -> None:
    copy_of = ground / "root/working"
    clone(copy_of, ground)
    (copy_of / "file").write_text("changed by hand")
    (copy_of / ".git/index.lock").touch()
    running = subprocess.Popen(
        ["git", "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=copy_of
    )
    arguments = {"repo": str(ground / "root/repository"), "dest": str(copy_of), "force": True}
    try:
        with pytest.raises(Failed, match=r"index\.lock"):
            execute_call("git.clone", **arguments)
    finally:
        running.communicate()
    assert execute_call("git.clone", **arguments).status is Status.CHANGED
    assert (copy_of / "file").read_text() == "x"
