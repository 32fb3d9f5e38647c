"""What went wrong with the twins of our modules, as reported in public: files, links, recursions, full disks."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from sloth.payload.kernel.resource import Change
from sloth.payload.kernel.status import Status
from sloth.payload.lib import files
from tests.support.calls import execute_call

pytestmark = pytest.mark.attack
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@needs_root
def test_recursion_leaves_what_links_lead_to(tmp_path: Path) -> None:
    """ansible#74918, riemers/ansible-gitlab-runner#364: links in a home gave /etc/passwd or all of /var/log away."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log/syslog").write_text("x")
    (tmp_path / "log/syslog").chmod(0o640)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/logs").symlink_to(tmp_path / "log")
    (tmp_path / "home/syslog").symlink_to(tmp_path / "log/syslog")
    execute_call("file.directory", path=str(tmp_path / "home"), recurse=True, owner="1234", mode="0777")
    assert ((tmp_path / "log/syslog").stat().st_uid, mode_of(tmp_path / "log/syslog")) == (0, 0o640)
    assert (tmp_path / "log").stat().st_uid == 0


@pytest.mark.parametrize("mode", ["0755", "u=rwX,go=rX"])
def test_recursion_passes_broken_links(tmp_path: Path, mode: str) -> None:
    """ansible#28165, ansible#39456: a link to nothing stopped it."""
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "file").write_text("x")
    execute_call("file.directory", path=str(tmp_path), recurse=True, mode=mode)
    assert execute_call("file.directory", path=str(tmp_path), recurse=True, mode=mode).status is Status.UNCHANGED


@needs_root
def test_symbolic_modes_keep_set_uid_of_roots_own_programs(tmp_path: Path) -> None:
    """ansible-modules-core#778: go-w made another mode of sudo's 4111."""
    (tmp_path / "sudo").write_text("x")
    (tmp_path / "sudo").chmod(0o4111)
    tmp_path.chmod(0o755)
    arguments = {"path": str(tmp_path), "recurse": True, "owner": "root", "mode": "go-w"}
    assert execute_call("file.directory", **arguments).status is Status.UNCHANGED
    (tmp_path / "sudo").chmod(0o4133)
    execute_call("file.directory", **arguments)
    assert mode_of(tmp_path / "sudo") == 0o4111


@needs_root
def test_the_owner_of_a_link_is_its_own(tmp_path: Path) -> None:
    """ansible#56928: never idempotent, and the target was given away."""
    (tmp_path / "target").write_text("x")
    arguments = {"path": str(tmp_path / "link"), "src": "target", "owner": "1234", "group": "1234"}
    assert execute_call("file.link", **arguments).status is Status.CHANGED
    assert execute_call("file.link", **arguments).status is Status.UNCHANGED
    assert ((tmp_path / "link").lstat().st_uid, (tmp_path / "target").stat().st_uid) == (1234, 0)


@needs_root
def test_a_link_in_a_sticky_directory(tmp_path: Path) -> None:
    """ansible#45198: a traceback, because the kernel follows no links of others there."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    (tmp_path / "private").write_text("x")
    (tmp_path / "private").chmod(0o600)
    os.chown(tmp_path / "private", 1234, 1234)
    arguments = {"path": str(tmp_path / "tmp/test"), "src": str(tmp_path / "private"), "owner": "1234", "force": True}
    execute_call("file.link", **arguments)
    assert execute_call("file.link", **arguments).status is Status.UNCHANGED
    assert mode_of(tmp_path / "private") == 0o600
    execute_call("file.absent", path=str(tmp_path / "tmp/test"))
    assert (tmp_path / "private").exists()


def test_a_link_to_a_directory_is_replaced_and_not_entered(tmp_path: Path) -> None:
    """pyinfra#791: the new link was put into the directory that the old one led to."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    for target in ("one/", "two", "two/"):
        execute_call("file.link", path=str(tmp_path / "link"), src=target)
        assert os.readlink(tmp_path / "link") == target
    assert not list((tmp_path / "one").iterdir())
    assert not list((tmp_path / "two").iterdir())


def test_a_forced_link_replaces_a_file(tmp_path: Path) -> None:
    """pyinfra#719: "File exists"."""
    (tmp_path / "resolv.conf").write_text("x")
    execute_call("file.link", path=str(tmp_path / "resolv.conf"), src="/run/x", force=True)
    assert os.readlink(tmp_path / "resolv.conf") == "/run/x"


def test_a_rewrite_keeps_mode_and_owner_under_any_umask(tmp_path: Path) -> None:
    """pyinfra#19, evoila/meho#3788, omacom/omarchy#9326: a zone file became 0600, and the daemon could not read it."""
    path = tmp_path / "zone"
    path.write_text("old\n")
    path.chmod(0o664)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1235)
    before = path.stat()
    old = os.umask(0o077)
    try:
        execute_call("file.lineinfile", path=str(path), line="new")
        files.set_attributes(str(path), Change({}, {}))
    finally:
        os.umask(old)
    now = path.stat()
    assert (now.st_uid, now.st_gid, now.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_a_new_content_has_a_new_time(tmp_path: Path) -> None:
    """ansible#83805: the old file's time was given on, so make and backups missed the change."""
    path = tmp_path / "file"
    path.write_text("old\n")
    os.utime(path, (1000, 1000))
    execute_call("file.lineinfile", path=str(path), line="new")
    assert path.stat().st_mtime > 1_000_000_000


def test_a_running_program_is_replaced(tmp_path: Path) -> None:
    """ansible#17204: "Text file busy"."""
    program = tmp_path / "sleep"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    running = subprocess.Popen([str(program), "60"])
    try:
        files.replace(str(program), b"#!/bin/sh\n")
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()
    assert mode_of(program) & 0o111


@needs_root
def test_hard_links_of_root_have_modes_too(tmp_path: Path) -> None:
    """ansible-modules-core#507: "Can't set permissions on hardlinks"."""
    tmp_path.chmod(0o755)
    (tmp_path / "one").write_text("x")
    os.link(tmp_path / "one", tmp_path / "two")
    files.set_attributes(str(tmp_path / "two"), Change({}, {"mode": "0600", "owner": "1234"}))
    assert (mode_of(tmp_path / "one"), (tmp_path / "one").stat().st_uid) == (0o600, 1234)
