"""ssh.*: edits that keep every other byte, keys that are read as sshd does, homes that try to lead root astray."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sloth.payload.kernel.resource import ArgumentError, Failed
from sloth.payload.lib.host import Host
from sloth.payload.modules.ssh import options as client_options
from sloth.payload.modules.ssh.known_hosts import Entry, _hash_name
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


@pytest.mark.parametrize("manage_dir", [True, False])
def test_a_missing_directory_of_authorized_keys_is_created(tmp_path: Path, manage_dir: bool) -> None:
    os.umask(0o022)
    path = tmp_path / "keys" / "file"
    given = {"path": str(path), "user": ME, "key": KEY, "manage_dir": manage_dir}
    for status in ("changed", "unchanged"):
        assert execute_call("ssh.authorized_key", **given).status == status
    assert stat.S_IMODE(path.parent.stat().st_mode) == (0o700 if manage_dir else 0o755)
    path.parent.chmod(0o777)
    assert execute_call("ssh.authorized_key", **given).status == ("changed" if manage_dir else "unchanged")
    assert stat.S_IMODE(path.parent.stat().st_mode) == (0o755 if manage_dir else 0o777)


def test_a_rewritten_file_has_single_blanks_between_the_words_of_keys(tmp_path: Path) -> None:
    """As Ansible writes it; what is quoted, and what is no key, stays as it is."""
    before = b'ssh-rsa AAAA\nno-pty,command="a  b"  ssh-rsa\tBBBB two  words\n#  a  comment\n  nonsense  \n'
    after = b'ssh-rsa AAAA \nno-pty,command="a  b"  ssh-rsa\tBBBB two  words\n#  a  comment\n  nonsense  \n'
    assert edited(tmp_path, before, "ssh.authorized_key", user=ME, key=KEY) == after + KEY.encode() + b"\n"
    line = b"ssh-rsa\tCCCC  two  words\n"
    assert edited(tmp_path, line, "ssh.authorized_key", user=ME, key="ssh-rsa DDDD", state="absent") == line


def test_a_missing_final_newline_is_added_before_the_key(tmp_path: Path) -> None:
    assert edited(tmp_path, b"# x", "ssh.authorized_key", user=ME, key=KEY) == b"# x\n" + KEY.encode() + b"\n"


def test_options_are_compared_without_their_order_and_kept_with_their_commas(tmp_path: Path) -> None:
    line = f'no-pty,command="echo a, b \\" c",from="10.0.0.0/8" {KEY}\n'.encode()
    same = f'from="10.0.0.0/8",command="echo a, b \\" c",no-pty {KEY}'
    assert edited(tmp_path, line, "ssh.authorized_key", user=ME, key=same) == line
    other = edited(tmp_path, line, "ssh.authorized_key", user=ME, key=KEY, key_options="no-pty")
    assert other == f"no-pty {KEY}\n".encode()


@pytest.mark.parametrize(
    "line",
    [
        f"ssh-ed25519\t{ED}\tme@here",
        f"ssh-ed25519 \t {ED}\t",
        f'\tno-pty,command="a\tb"\tssh-ed25519\t{ED} other',
        f"ssh-ed25519 {ED}\r",
        f'command="a\\"b" ssh-ed25519\t{ED}',
        f'environment="A=\\b" ssh-ed25519 {ED}',
    ],
)
def test_a_key_is_found_whatever_blanks_separate_its_words(tmp_path: Path, line: str) -> None:
    before = f"# x\n{line}\nssh-rsa AAAA other\n".encode()
    gone = edited(tmp_path, before, "ssh.authorized_key", user=ME, key=KEY, state="absent")
    assert gone == b"# x\nssh-rsa AAAA other\n"
    there = edited(tmp_path, before, "ssh.authorized_key", user=ME, key=KEY)
    assert there.count(ED.encode()) == 1


def test_a_no_break_space_is_part_of_a_word(tmp_path: Path) -> None:
    before = f"ssh-ed25519\u00a0{ED} me\n".encode()
    assert edited(tmp_path, before, "ssh.authorized_key", user=ME, key=KEY, state="absent") == before


def test_several_lines_of_a_key_become_one_and_those_of_others_stay(tmp_path: Path) -> None:
    others = b'from="1.2.3.4" ssh-rsa AAAA foo\nfrom="5.6.7.8" ssh-rsa AAAA bar\n'
    twice = others + f"{KEY}\nno-pty {KEY}\n{KEY}\n".encode()
    assert edited(tmp_path, twice, "ssh.authorized_key", user=ME, key=KEY) == others + KEY.encode() + b"\n"
    assert edited(tmp_path, twice, "ssh.authorized_key", user=ME, key=KEY, state="absent") == others
    options = 'command="borg serve --restrict-to-path /home/b",restrict '
    after = edited(tmp_path, others, "ssh.authorized_key", user=ME, key=KEY, key_options=options)
    assert after == others + f"{options.strip()} {KEY}\n".encode()


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


def test_all_blocks_of_a_host_are_removed(tmp_path: Path) -> None:
    before = (
        b'# a\nHost a\n  Port 1\n\n# of b\nHost b\n  Port 2\nHost  "a" # again\n  Port 3\nHost a b\n  Port 4\nHost a\n'
    )
    gone = edited(tmp_path, before, "ssh.config", host="a", state="absent")
    assert gone == b"# a\n\n# of b\nHost b\n  Port 2\nHost a b\n  Port 4\n"


def test_an_option_that_is_removed_or_a_list_is_so_in_all_blocks_of_the_host(tmp_path: Path) -> None:
    before = b"Host a\n  Port 1\n  User x\nHost a\n  Port 3\n  IdentityFile old\n  User y\n"
    options = {"Port": "", "IdentityFile": ["new"], "User": "z"}
    assert edited(tmp_path, before, "ssh.config", host="a", options=options) == (
        b"Host a\n  User z\n  IdentityFile new\nHost a\n  User y\n"
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"controlpersist": True}, "controlpersist yes"),
        ({"options": {"ControlPersist": True}}, "ControlPersist yes"),
        ({"controlpersist": 600}, "controlpersist 600"),
        ({"controlpersist": "10m"}, "controlpersist 10m"),
        ({"controlmaster": False}, "controlmaster no"),
        ({"strict_host_key_checking": False}, "stricthostkeychecking no"),
        ({"identities_only": "on"}, "identitiesonly yes"),
        ({"forward_agent": "$AGENT"}, "forwardagent $AGENT"),
        ({"add_keys_to_agent": "confirm 5m"}, "addkeystoagent confirm 5m"),
        ({"other_options": {"Compression": "true"}}, "Compression yes"),
        ({"options": {"UseKeychain": "yes", "IgnoreUnknown": "UseKey*"}}, "IgnoreUnknown UseKey*\n    UseKeychain yes"),
    ],
)
def test_values_are_the_same_however_they_are_given(tmp_path: Path, given: dict[str, Any], line: str) -> None:
    assert edited(tmp_path, b"", "ssh.config", host="a", **given).decode() == f"Host a\n    {line}\n"


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ({"strict_host_key_checking": "accept_new"}, "StrictHostKeyChecking must be one of yes, no", "accept-new"),
        ({"options": {"StrictHostKeyChecking": "maybe"}}, "StrictHostKeyChecking must be", ""),
        ({"controlpersist": "yse"}, "ControlPersist must be", "yes"),
        ({"controlmaster": "atuo"}, "ControlMaster must be", "auto"),
        ({"other_options": {"LogLevel": "verbos"}}, "LogLevel must be", "verbose"),
        ({"options": {"Compression": "maybe"}}, "Compression must be", ""),
        ({"options": {"StritHostKeyChecking": "no"}}, "not an option", "StrictHostKeyChecking"),
        ({"options": {"UseKeychain": "yes"}}, "not an option", "IgnoreUnknown"),
        ({"port": 0}, "Port must be a number", ""),
        ({"port": "99999"}, "Port must be a number", ""),
        ({"dynamicforward": "here"}, "DynamicForward must be", ""),
        ({"options": {"ServerAliveInterval": "often"}}, "ServerAliveInterval must be", ""),
        ({"options": {"ProxyCommand": "x", "proxyjump": "y"}}, "mutually exclusive", ""),
        ({"proxyjump": "y", "options": {"ProxyCommand": "x"}}, "mutually exclusive", ""),
        ({"options": {"ProxyJump": "y"}, "other_options": {"ProxyCommand": "x"}}, "mutually exclusive", ""),
    ],
)
def test_what_ssh_would_refuse_is_refused(tmp_path: Path, given: dict[str, Any], said: str, hint: str) -> None:
    path = tmp_path / "config"
    with pytest.raises(ArgumentError) as error:
        execute_call("ssh.config", host="a", path=str(path), **given)
    assert said in error.value.message
    assert hint in error.value.hint
    assert not path.exists()


def test_the_other_proxy_in_the_block_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("Host a\n    ProxyCommand x\n")
    host = Host(NoController())
    execute_call("ssh.config", on=host, host="a", path=str(path), proxyjump="y")
    assert "ssh uses the first one only" in host.warnings[0]
    host = Host(NoController())
    execute_call("ssh.config", on=host, host="a", path=str(path), proxyjump="z", proxycommand="")
    assert host.warnings == []
    assert path.read_text() == "Host a\n    proxyjump z\n"


def test_a_value_for_all_hosts_above_is_warned_of(tmp_path: Path) -> None:  # community.general 7733
    path = tmp_path / "config"
    path.write_text("Compression yes\nHost other\n  User x\nHost *\n  Port 2\n  IdentityFile y\nMatch all\n  User z\n")
    host = Host(NoController())
    options = {"Port": 3, "User": "u", "Compression": True, "IdentityFile": "i"}
    execute_call("ssh.config", on=host, host="a", path=str(path), options=options)
    assert [warning.split(",")[0] for warning in host.warnings] == ["ssh uses Port 2", "ssh uses User z"]
    for name in ("*", "ot"):  # 7733 and 2567: neither a wildcard nor a part of a name is another host
        assert execute_call("ssh.config", host=name, path=str(path), options={"Port": 4}).status == "changed"
        assert execute_call("ssh.config", host=name, path=str(path), options={"Port": 4}).status == "unchanged"
    assert path.read_text().count("Host *") == 1
    assert "Host other\n  User x\n" in path.read_text()


def test_an_equal_value_in_other_words_is_unchanged(tmp_path: Path) -> None:
    before = b'Host a\n  Compression YES\n  LogLevel "debug"\n  StrictHostKeyChecking false\n'
    options = {"Compression": True, "LogLevel": "DEBUG", "stricthostkeychecking": "no"}
    assert edited(tmp_path, before, "ssh.config", host="a", options=options) == before


VALUES = (
    "yes", "no", "true", "FALSE", "on", "0", "1", "10", "600", "10m", "1h30m", "ask", "confirm", "auto", "off", "none",
    "accept-new", "any", "inet6", "always", "sha256", "debug", "force", "default", "unbound", "ethernet", "local3",
    "maybe", "^a", "x", "1080", "localhost:1080", "80 a:80", "99999", "-1", "1G", "1G 1h", "0177",
)  # fmt: skip
# ssh prints these only when it is about to connect, or accepts any word that is no path as one.
UNTOLD = {"forkafterauthentication", "sessiontype", "forwardagent", "streamlocalbindmask"}


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs ssh")
@pytest.mark.parametrize("name", sorted(name for name, option in client_options.OPTIONS.items() if option.choices))
def test_the_table_agrees_with_ssh(name: str) -> None:
    def accepts(value: str) -> bool:
        argv = ["ssh", "-F", "none", "-G", "-o", f"{name}={value}", "h"]
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if "Bad configuration option" in done.stderr:
            pytest.skip("this ssh does not have the option")
        return done.returncode == 0

    if name in UNTOLD:
        pytest.skip("ssh does not check it while it reads")
    for value in VALUES:
        try:
            text = client_options.value_texts(name, value)[0]
        except ArgumentError:
            assert not accepts(value), value
        else:
            assert accepts(text), text


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


def test_a_key_with_a_hashed_name_settles(tmp_path: Path) -> None:
    def scanned(salt: str) -> str:  # as ssh-keyscan -H prints it: with a new salt each time
        return f"# example.org:22 SSH-2.0-OpenSSH_9.2\n{_hash_name('example.org', salt)} ssh-ed25519 {ED}\n"

    path = tmp_path / "known"
    assert execute_call("ssh.known_hosts", name="example.org", path=str(path), key=scanned("1")).status == "changed"
    text = path.read_text()
    for hashed in (True, False):
        again = execute_call("ssh.known_hosts", name="example.org", path=str(path), key=scanned("2"), hash_host=hashed)
        assert again.status == "unchanged"
    assert path.read_text() == text
    gone = execute_call("ssh.known_hosts", name="example.org", path=str(path), key=scanned("3"), state="absent")
    assert gone.status == "changed"
    assert path.read_text() == ""


def test_other_names_of_a_line_keep_their_key(tmp_path: Path) -> None:
    old = b"\t@cert-authority h,x ssh-ed25519 CA\nx,h,\t10.0.0.1 ssh-rsa AAAA\nx,h,10.0.0.1  ssh-ed25519\tBBBB  c\r\n"
    after = edited(tmp_path, old, "ssh.known_hosts", name="h", key=f"ssh-ed25519 {ED}")
    assert after == old.replace(b"x,h,10.0.0.1  ssh", b"x,10.0.0.1  ssh") + f"h ssh-ed25519 {ED}\n".encode()
    gone = edited(tmp_path, b"H,x ssh-rsa AAAA\nh ssh-rsa AAAA\n", "ssh.known_hosts", name="h", state="absent")
    assert gone == b"x ssh-rsa AAAA\n"
    both = edited(tmp_path, b"h,x,y ssh-ed25519 B\n", "ssh.known_hosts", name="h", key=f"h,x ssh-ed25519 {ED}")
    assert both == f"y ssh-ed25519 B\nh,x ssh-ed25519 {ED}\n".encode()
    hashed = edited(tmp_path, f"h,x ssh-ed25519 {ED}\n".encode(), "ssh.known_hosts", name="h", hash_host=True,
                    key=f"ssh-ed25519 {ED}")  # fmt: skip
    assert hashed.startswith(f"x ssh-ed25519 {ED}\n|1|".encode())


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ({"name": "[h]:2222", "port": 2222, "key": f"ssh-ed25519 {ED}"}, f"[h]:2222 ssh-ed25519 {ED}\n"),
        (
            {"name": "h", "port": 2222, "key": f"[h]:2222 ssh-ed25519 {ED} root@h"},
            f"[h]:2222 ssh-ed25519 {ED} root@h\n",
        ),
        ({"name": "h", "port": 22, "key": f"h\tssh-ed25519\t{ED}"}, f"h ssh-ed25519 {ED}\n"),
    ],
)
def test_ports_and_types_are_written_once(tmp_path: Path, args: dict[str, Any], line: str) -> None:
    assert edited(tmp_path, b"", "ssh.known_hosts", **args) == line.encode()


def test_several_keys_in_one_call_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as error:
        execute_call("ssh.known_hosts", name="h", path=str(tmp_path / "x"), key="h ssh-rsa A\nh ssh-ed25519 B\n")
    assert "a call for each" in error.value.hint


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
