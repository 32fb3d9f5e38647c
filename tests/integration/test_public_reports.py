"""What went wrong with the twins of our modules in Ansible, by their public issues, tried on ours."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from sloth.payload.kernel.resource import Failed
from sloth.payload.modules.http.download import parse_checksums
from tests.support.calls import execute_call

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")


def test_a_comment_behind_an_entry_of_fstab_stays(tmp_path: Path) -> None:
    """ansible.posix 595: an entry with a comment was written a second time, and then without the comment."""
    fstab = tmp_path / "fstab"
    fstab.write_text("/dev/sda /mnt3 ntfs3 defaults 0 0 # the old disk\n/dev/x /mnt4 ext4 defaults # b\n")
    given = {"path": "/mnt3", "src": "/dev/sda", "fstype": "ntfs3", "state": "configured", "fstab": str(fstab)}
    assert execute_call("mount.present", **given).status == "unchanged"
    assert execute_call("mount.present", opts="ro", **given).status == "changed"
    given.update(path="/mnt4", src="/dev/x", fstype="ext4")
    assert execute_call("mount.present", **given).status == "unchanged"
    assert execute_call("mount.present", opts="ro", **given).status == "changed"
    assert execute_call("mount.present", opts="ro", **given).status == "unchanged"
    assert fstab.read_text() == "/dev/sda /mnt3 ntfs3 ro 0 0 # the old disk\n/dev/x /mnt4 ext4 ro 0 0 # b\n"


def test_swap_areas_are_told_apart_by_their_source(tmp_path: Path) -> None:
    """ansible 26036: a second swap area replaced the first one."""
    fstab = tmp_path / "fstab"
    given = {"path": "none", "fstype": "swap", "opts": "sw", "state": "configured", "fstab": str(fstab)}
    for _ in range(2):
        for source in ("/swap1", "/swap2"):
            execute_call("mount.present", src=source, **given)
    assert fstab.read_text() == "/swap1 none swap sw 0 0\n/swap2 none swap sw 0 0\n"


def test_a_job_on_a_last_line_without_a_newline_runs(tmp_path: Path) -> None:
    """cron ignores such a line, or the whole file; ansible 26941 duplicated the job."""
    file = tmp_path / "jobs"
    file.write_text("#Ansible: one\n* * * * * root echo one")
    given = {"name": "one", "job": "echo one", "user": "root", "cron_file": str(file)}
    assert execute_call("cron.job", **given).status == "changed"
    assert execute_call("cron.job", **given).status == "unchanged"
    assert file.read_text() == "#Ansible: one\n* * * * * root echo one\n"
    execute_call("cron.job", **{**given, "name": "two"})
    assert file.read_text().count("\n* * * * * root echo one\n") == 2, "ansible 71213: the first one was lost"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_work_in_a_submodule_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ansible 29654: a submodule at another commit; ours overwrote what was committed there."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.file.allow")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "always")

    def git(directory: Path, *words: str) -> None:
        directory.mkdir(exist_ok=True)
        subprocess.run(["git", *IDENTITY, *words], cwd=directory, check=True, capture_output=True)

    inner, outer, copy = tmp_path / "inner", tmp_path / "outer", tmp_path / "copy"
    for repository in (inner, outer):
        git(repository, "init", "-q", "-b", "main")
    for text in ("1", "2"):
        (inner / "f").write_text(text)
        git(inner, "add", "f")
        git(inner, "commit", "-q", "-m", text)
    git(outer, "submodule", "add", "-q", str(inner), "inner")
    git(outer, "commit", "-q", "-m", "submodule")
    given = {"repo": str(outer), "dest": str(copy)}
    execute_call("git.clone", **given)

    git(copy / "inner", "checkout", "-q", "HEAD~1")
    assert execute_call("git.clone", **given).status == "changed", "no work is lost: its remote has that commit"
    assert (copy / "inner/f").read_text() == "2"
    (copy / "inner/f").write_text("here")
    with pytest.raises(Failed, match="Local modifications exist"):
        execute_call("git.clone", **given)
    git(copy / "inner", "commit", "-q", "-a", "-m", "here")
    with pytest.raises(Failed, match="have commits that their remotes do not have"):
        execute_call("git.clone", **given)
    assert (copy / "inner/f").read_text() == "here"
    execute_call("git.clone", force=True, **given)
    assert (copy / "inner/f").read_text() == "2"


def test_the_owner_of_unpacked_files_settles(tmp_path: Path) -> None:
    """ansible 57303: with `owner` the archive was unpacked in every run."""
    (tmp_path / "a").write_text("a")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(tmp_path / "a", "sub/a")
    (tmp_path / "to").mkdir()
    given = {"src": str(tmp_path / "t.tar"), "dest": str(tmp_path / "to"), "remote_src": True, "owner": "0"}
    assert execute_call("archive.unpack", **given).status == "changed"
    assert execute_call("archive.unpack", **given).status == "unchanged"


def test_lines_after_one_anchor_settle(tmp_path: Path) -> None:
    """ansible 38655, 36156: several lines with the same insertafter were inserted again in every run."""
    (tmp_path / "f").write_text("[mysqld]\n")
    for expected in ("changed", "unchanged"):
        for option, value in (("a", "1"), ("b", "2"), ("c", "3")):
            given = {"regexp": f"^{option}=", "line": f"{option}={value}", "insertafter": r"^\[mysqld\]"}
            assert execute_call("file.lineinfile", path=str(tmp_path / "f"), **given).status == expected
    assert (tmp_path / "f").read_text() == "[mysqld]\nc=3\nb=2\na=1\n"


@pytest.mark.parametrize(
    "listed",
    [
        "HASH\n",  # ansible 79742: the digest alone
        "HASH  ./f.bin\n0123456789abcdef0123456789abcdef  f.bin\nOTHER  g.bin\n",
        "HASH *dist/f.bin\nOTHER *dist/f.bin.asc\n",
        "SHA256 (g.bin) = OTHER\nSHA256 (f.bin) = HASH\n",  # sha256sum --tag, and the BSDs
        "# comment\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nHASH  f.bin\n-----BEGIN PGP SIGNATURE-----\n",
        "HASH  .f.bin\nOTHER  h\n".replace("HASH  .f.bin", "OTHER  .f.bin\nHASH  f.bin"),
    ],
)
def test_lists_of_checksums(listed: str) -> None:
    digest, other = "1a" * 32, "2b" * 32
    found = {
        Path(name).name: value
        for name, value in parse_checksums(listed.replace("HASH", digest).replace("OTHER", other), "sha256")
    }
    assert found.get("f.bin", found.get("")) == digest
