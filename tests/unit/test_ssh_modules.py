"""ssh.*: edits that keep every other byte, keys that are read as sshd does, homes that try to lead root astray."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest

from sloth.payload.kernel.resource import ArgumentError, Failed
from sloth.payload.lib.host import Host
from sloth.payload.modules.ssh.known_hosts import Entry
from tests.support.calls import NoController, execute_call

ED = "AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr"
KEY = f"ssh-ed25519 {ED} me@here"
ME = pwd.getpwuid(os.geteuid()).pw_name


def edited(tmp_path: Path, before: bytes, module: str, /, **args: Any) -> bytes:
    path = tmp_path / "file"
    path.write_bytes(before)
    execute_call(module, path=str(path), **args)
    after = path.read_bytes()
    assert execute_call(module, path=str(path), **args).status == "unchanged"
    return after


@pytest.mark.parametrize(
    "rest",
    [b"", b"# a comment\n\n", b"ssh-rsa AAAA other\r\n", b"# caf\xe9 \xff\n", b"nonsense that is no key\n"],
)
def test_other_lines_of_authorized_keys_stay_byte_for_byte(tmp_path: Path, rest: bytes) -> None:
    assert edited(tmp_path, rest, "ssh.authorized_key", user=ME, key=KEY) == rest + KEY.encode() + b"\n"
    assert edited(tmp_path, rest + KEY.encode() + b"\n", "ssh.authorized_key", user=ME, key=KEY, state="absent") == rest


def test_a_missing_final_newline_is_added_before_the_key(tmp_path: Path) -> None:
    assert edited(tmp_path, b"# x", "ssh.authorized_key", user=ME, key=KEY) == b"# x\n" + KEY.encode() + b"\n"


def test_options_are_compared_without_their_order_and_kept_with_their_commas(tmp_path: Path) -> None:
    line = f'no-pty,command="echo a, b \\" c",from="10.0.0.0/8" {KEY}\n'.encode()
    same = f'from="10.0.0.0/8",command="echo a, b \\" c",no-pty {KEY}'
    assert edited(tmp_path, line, "ssh.authorized_key", user=ME, key=same) == line
    other = edited(tmp_path, line, "ssh.authorized_key", user=ME, key=KEY, key_options="no-pty")
    assert other == f"no-pty {KEY}\n".encode()


def test_exclusive_leaves_nothing_else(tmp_path: Path) -> None:
    before = b"# old\nssh-rsa AAAA x\n" + KEY.encode() + b"\n"
    assert edited(tmp_path, before, "ssh.authorized_key", user=ME, key=[KEY], exclusive=True) == KEY.encode() + b"\n"


def test_one_bad_key_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with pytest.raises(ArgumentError, match="invalid key"):
        execute_call("ssh.authorized_key", user=ME, path=str(path), key=[KEY, "no key at all"])
    assert not path.exists()


def test_a_key_that_sshd_cannot_read_is_said(tmp_path: Path) -> None:
    host = Host(NoController())
    execute_call("ssh.authorized_key", on=host, user=ME, key="ssh-rsa AAAAB3...", path=str(tmp_path / "keys"))
    assert "sshd will not accept" in host.warnings[0]


def test_a_block_of_ssh_config_is_edited_in_place(tmp_path: Path) -> None:
    before = b"# mine\nHost a\n\tPort 22\n\t# why\n\tUser=bob\n\n# of b\nHost b\n  Port 1\nMatch all\n  User x"
    after = edited(tmp_path, before, "ssh.config", host="a", options={"PORT": 2222, "user": "bob", "Compression": True})
    assert after == (
        b"# mine\nHost a\n\tPort 2222\n\t# why\n\tUser=bob\n\tCompression yes\n\n"
        b"# of b\nHost b\n  Port 1\nMatch all\n  User x"
    )
    gone = edited(tmp_path, before, "ssh.config", host="a", state="absent")
    assert gone == b"# mine\n\n# of b\nHost b\n  Port 1\nMatch all\n  User x"


def test_lists_and_removal_in_ssh_config(tmp_path: Path) -> None:
    before = b"Host a\r\n    IdentityFile x\r\n    IdentityFile y\r\n    Port 1\r\n"
    after = edited(tmp_path, before, "ssh.config", host="a", options={"IdentityFile": ["y", "z", "w"], "port": ""})
    assert after == b"Host a\r\n    IdentityFile y\r\n    IdentityFile z\r\n    IdentityFile w\r\n"


def test_the_seed_s_call_makes_a_new_block(tmp_path: Path) -> None:
    options = {"Hostname": "192.168.1.100", "User": "deploy", "Port": 22}
    assert edited(tmp_path, b"Host x", "ssh.config", host="production", options=options) == (
        b"Host x\nHost production\n    Hostname 192.168.1.100\n    Port 22\n    User deploy\n"
    )


@pytest.mark.parametrize("options", [{"Host": "x"}, {"a b": 1}, {"Port": {}}, {"Port": 1, "port": 2}, {"User": "a\nb"}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError):
        execute_call("ssh.config", host="a", path=str(tmp_path / "x"), options=options)


def test_a_hashed_host_is_recognised_and_keeps_its_salt(tmp_path: Path) -> None:
    args: dict[str, Any] = {"name": "Example.org", "key": f"ssh-ed25519 {ED}", "port": 2022}
    hashed = edited(tmp_path, b"# x\n", "ssh.known_hosts", hash_host=True, **args)
    entry = Entry.parse(hashed.decode().splitlines()[1])
    assert entry is not None
    assert entry.covers("[example.org]:2022")
    assert not entry.covers("example.org")
    assert edited(tmp_path, hashed, "ssh.known_hosts", hash_host=True, **args) == hashed
    plain = edited(tmp_path, hashed, "ssh.known_hosts", **args)
    assert plain == f"# x\n[Example.org]:2022 ssh-ed25519 {ED}\n".encode()
    assert edited(tmp_path, plain, "ssh.known_hosts", name="Example.org", port=2022, state="absent") == b"# x\n"


def test_a_new_key_of_the_same_type_replaces_the_old_one(tmp_path: Path) -> None:
    before = b"h ssh-rsa AAAA\nh ssh-ed25519 BBBB\n@revoked h ssh-ed25519 CCCC\n"
    after = edited(tmp_path, before, "ssh.known_hosts", name="h", key=f"ssh-ed25519 {ED}")
    assert after == f"h ssh-rsa AAAA\n@revoked h ssh-ed25519 CCCC\nh ssh-ed25519 {ED}\n".encode()


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for another user")


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that belongs to `nobody`, who would like to lead root astray."""
    home = tmp_path / "home"
    home.mkdir()
    entry = pwd.getpwnam("nobody")
    os.chown(home, entry.pw_uid, entry.pw_gid)
    fake = pwd.struct_passwd((*entry[:5], str(home), entry[6]))
    monkeypatch.setattr(Host, "account", lambda self, name: fake)
    return home


@root_only
def test_what_root_makes_for_a_user_is_the_user_s(nobody: Path) -> None:
    execute_call("ssh.authorized_key", user="nobody", key=KEY)
    uid = pwd.getpwnam("nobody").pw_uid
    for path, mode in ((nobody / ".ssh", 0o700), (nobody / ".ssh/authorized_keys", 0o600)):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (uid, mode)
    (nobody / ".ssh/authorized_keys").chmod(0o666)
    os.chown(nobody / ".ssh/authorized_keys", 0, 0)
    assert execute_call("ssh.authorized_key", user="nobody", key=KEY).status == "changed"
    assert (nobody / ".ssh/authorized_keys").stat().st_uid == uid


@root_only
@pytest.mark.parametrize("trap", ["directory", "file", "hard link", "dangling"])
def test_a_hostile_home_leads_root_nowhere(nobody: Path, tmp_path: Path, trap: str) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (target / "authorized_keys").write_text("precious\n")
    uid = pwd.getpwnam("nobody").pw_uid
    if trap == "directory":
        (nobody / ".ssh").symlink_to(target)
    else:
        (nobody / ".ssh").mkdir(mode=0o700)
        os.chown(nobody / ".ssh", uid, uid)
        link = nobody / ".ssh/authorized_keys"
        if trap == "hard link":
            os.link(target / "authorized_keys", link)
        else:
            link.symlink_to(target / ("authorized_keys" if trap == "file" else "new"))
    with pytest.raises(Failed) as error:
        execute_call("ssh.authorized_key", user="nobody", key=KEY)
    assert "become" in error.value.hint
    assert (target / "authorized_keys").read_text() == "precious\n"
    assert sorted(os.listdir(target)) == ["authorized_keys"]
