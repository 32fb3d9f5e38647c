"""A second account that exchanges directories, links and files while root works in its home.

The other account is real: a process of its own with nothing but its user number. It swaps as fast as it can, for as
long as root makes a fixed number of calls. Root's own files may not change, root's secret may not become readable, and
no file that runs as root may appear.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.resource import Change, Failed
from sloth.payload.lib import files
from sloth.payload.lib.restore import restore
from tests.support.calls import execute_call

pytestmark = [
    pytest.mark.attack,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led astray"),
]
ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "60"))
USER = 12345
SECRET = b"of root, a secret\n"

# Runs as the user: argv is what to swap, the home, and root's directory. It ends with the test, or after two minutes.
ATTACKER = """
import os, sys, time
kind, home, root, user = sys.argv[1:]
os.setgroups([])
os.setgid(int(user))
os.setuid(int(user))
os.chdir(home)
end = time.time() + 120
count = 0

def put(make):
    # Exchange what is at the name at once, by a rename over it.
    make(".new")
    os.rename(".new", "tree/mine")

def own(path):
    with open(path, "w") as file:
        file.write("mine\\n")

print("ready", flush=True)
while time.time() < end and os.getppid() != 1:
    count += 1
    try:
        if kind == "parent":
            for one, other in (("tree", "aside"), ("link", "tree"), ("tree", "link"), ("aside", "tree")):
                os.rename(one, other)
        elif kind == "link":
            put(lambda path: os.symlink(root + "/private", path))
            put(own)
        elif kind == "name":
            put(own)
            os.unlink("tree/mine")
        elif kind == "fifo":
            os.unlink("tree/mine")
            os.mkfifo("tree/mine")
            os.unlink("tree/mine")
            own("tree/mine")
        elif kind == "temporary":
            for name in os.listdir("tree"):
                if ".sloth-" in name:
                    os.rename("tree/" + name, "stolen")
                    os.symlink(root + "/private", "tree/" + name)
    except OSError:
        pass
"""

CALLS: dict[str, Callable[[str, str], object]] = {
    "lineinfile": lambda path, tree: execute_call("file.lineinfile", path=path, line="x", create=True),
    "lineinfile, mode": lambda path, tree: execute_call("file.lineinfile", path=path, line="y", mode="0644"),
    "backup": lambda path, tree: execute_call("file.blockinfile", path=path, block=os.urandom(2).hex(), backup=True),
    "validate": lambda path, tree: execute_call(
        "file.lineinfile", path=path, line=os.urandom(2).hex(), validate="test -f %s"
    ),
    "recurse": lambda path, tree: execute_call(
        "file.directory", path=tree, recurse=True, owner=str(USER), mode="u=rwX,go=rX"
    ),
    "recurse to root": lambda path, tree: execute_call(
        "file.directory", path=tree, recurse=True, owner="0", group="0", mode="0700"
    ),
    "chown": lambda path, tree: files.set_attributes(path, Change({}, {"owner": str(USER), "mode": "0666"})),
    "replace": lambda path, tree: files.replace(path, b"of the site\n"),
    "remote copy": lambda path, tree: execute_call(
        "file.copy", remote_src=True, src="/etc/hostname", dest=path, follow=True, mode="0644"
    ),
    "link": lambda path, tree: execute_call("file.link", path=path, src="/x", force=True),
    "absent": lambda path, tree: execute_call("file.absent", path=path),
    "rollback": lambda path, tree: restore(path, {"type": "file", "content": Content.of_bytes(b"x"), "mode": "0644"}),
    "prune": lambda path, tree: restore(path, None),
    "cron": lambda path, tree: execute_call(
        "cron.job", name=os.urandom(2).hex(), job="true", cron_file=path, user="root"
    ),
    "sysctl": lambda path, tree: execute_call(
        "sysctl.set", name="kernel.a" + os.urandom(2).hex(), value=1, sysctl_file=path, sysctl_set=False,
        ignoreerrors=True,
    ),
    "new directory": lambda path, tree: execute_call("file.directory", path=tree + "/new/deep", mode="0755"),
}  # fmt: skip
KINDS = ("parent", "link", "name", "fifo", "temporary")


@contextlib.contextmanager
def attacker(kind: str, home: Path, root: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", ATTACKER, kind, str(home), str(root), str(USER)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield
        assert process.poll() is None, "the attacker has ended early"
    finally:
        process.kill()
        process.communicate()


def state(directory: Path) -> list[tuple[str, int, int, bytes]]:
    return [
        (str(each), each.lstat().st_uid, each.lstat().st_mode, each.read_bytes() if each.is_file() else b"")
        for each in [directory, *sorted(directory.rglob("*"))]
    ]


def build(base: Path) -> tuple[Path, Path]:
    """Return the user's home and root's directory, as they are before an attack."""
    home, root = base / "home", base / "root"
    for path, owner in ((home, USER), (home / "tree", USER), (root, 0)):
        path.mkdir()
        os.chown(path, owner, owner)
    for path, owner in (
        (home / "tree/mine", USER),
        (home / "tree/other", USER),
        (root / "mine", 0),
        (root / "other", 0),
    ):
        path.write_text("text\n")
        os.chown(path, owner, owner)
    (root / "private").write_bytes(SECRET)
    for path in root.iterdir():
        path.chmod(0o600)
    (home / "link").symlink_to(root)
    os.chown(home / "link", USER, USER, follow_symlinks=False)
    for path in (base, *base.parents):
        if path.stat().st_uid == 0 and str(path).startswith("/tmp/"):  # the user has to reach its home
            path.chmod(path.stat().st_mode | 0o011)
    return home, root


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_leads_root_astray(tmp_path: Path, kind: str) -> None:
    home, root = build(tmp_path)
    before = state(root)
    done = 0
    with attacker(kind, home, root):
        for _ in range(ROUNDS // 8):
            for name, call in CALLS.items():
                with contextlib.suppress(Failed, OSError):
                    call(str(home / "tree/mine"), str(home / "tree"))
                    done += 1
                assert state(root) == before, name
    assert done, "root could never do anything"
    for each in home.rglob("*"):
        info = each.lstat()
        if stat.S_ISREG(info.st_mode):
            assert not info.st_mode & 0o6000, each
            if SECRET in each.read_bytes():
                assert (info.st_uid, info.st_mode & 0o044) == (0, 0), f"{each} shows root's secret"
