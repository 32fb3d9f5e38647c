"""What an ssh_config means for us is what it means for ssh: compared with `ssh -G` on many files."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sloth.errors import HostError
from sloth.transport.ssh_config import ConfigError, Configuration, Target, find_route
from sloth.transport.ssh_config.asking_ssh import ask_ssh
from sloth.transport.ssh_config.errors import Undecided
from sloth.transport.ssh_config.tokens import Values

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh to compare with")

NAMES = ("web1", "web2.example.com", "db-1", "10.0.0.5", "WEB1", "jump", "::1")
PATTERNS = ("*", "web*", "web1", "WEB1", "!web1", "*.example.com", "web?", "!*.com", "10.0.0.*", "db-1", "target", "t*")
VALUES = {
    "HostName": ("10.1.1.1", "%h.example.com", "target", "TARGET", "%%h", "::1", '"quoted"', "h%h"),
    "Port": ("22", "2222", "1"),
    "User": ("deploy", "Ann", '"two words"', "a\\ b"),
    "IdentityFile": ("~/.ssh/k1", "/keys/%h", "none", "'/a b/k'", "/keys/%r-%p"),
    "CertificateFile": ("~/.ssh/c1", "/certs/%n"),
    "IdentitiesOnly": ("yes", "no", "true"),
    "IdentityAgent": ("none", "SSH_AUTH_SOCK", "/run/%r.sock"),
    "ProxyJump": ("none", "jump", "ann@jump:2200", "one,two", "ssh://ann@jump:44", "[::1]:22"),
    "ProxyCommand": ("none", "nc %h %p # not a comment", '"/a b/nc" %h', "= nc %h", "ssh -W %h:%p jump"),
    "UserKnownHostsFile": ("/k1", "/k1 /k2", "none", "/k/%h ~/k3"),
    "GlobalKnownHostsFile": ("/g1", "/g1 /g2", "none"),
    "HostKeyAlias": ("alias", "Alias", "web1"),
    "HostKeyAlgorithms": ("ssh-ed25519", "ssh-ed25519,rsa-sha2-512"),
    "Ciphers": ("aes256-ctr", "aes128-ctr,aes256-ctr"),
    "AddressFamily": ("any", "inet", "inet6"),
    "BindAddress": ("127.0.0.1",),
    "PreferredAuthentications": ("publickey", "publickey,password"),
    "PubkeyAuthentication": ("yes", "no"),
    "SetEnv": ("A=b", "A=b C=d"),
    "ForwardAgent": ("yes", "no"),
    # Of no interest to us; the lines must be read all the same.
    "ControlPath": ("~/.ssh/%C",),
    "ServerAliveInterval": ("30",),
    "LocalForward": ("8080 localhost:80",),
    "StrictHostKeyChecking": ("accept-new", "no"),
    "IgnoreUnknown": ("UseKeychain,Fancy*",),
}
# With nothing but a comment for an argument; ssh reads nothing of those that it has left out.
EMPTY = (
    "Host # nobody", "Include # nothing", "SendEnv # none", "SetEnv # none", "UserKnownHostsFile # none",
    "GlobalKnownHostsFile # none", "CanonicalDomains # none", "Protocol # 2", 'UsePrivilegedPort ""', "Cipher # none",
)  # fmt: skip
CONDITIONS = (
    "all", "host web*", "host target", "!host web1", "originalhost web1,db-*", "!originalhost WEB1", "user deploy",
    "user root", "localuser root", "!localuser root", "final", "final host target", "host web* user deploy", "!final",
    'exec "true"', 'exec "false"', 'exec "test %h = target"', '!exec "test %n = web1"', "originalhost=web1",
    'host web1 exec "test %r = root" # a comment', "canonical", 'exec "test %p -eq 2222"', "host *,!web1",
)  # fmt: skip


def config(chance: random.Random, directory: Path, depth: int = 0) -> str:
    """Return a file's text; others, which it includes, are written to `directory`."""
    lines = []
    for _ in range(chance.randint(2, 9)):
        kind = chance.random()
        if kind < 0.22:
            patterns = chance.sample(PATTERNS, chance.randint(1, 3))
            lines.append(chance.choice(("Host ", "host=", "Host = ", "  HOST\t")) + " ".join(patterns))
        elif kind < 0.38:
            lines.append("Match " + chance.choice(CONDITIONS))
        elif kind < 0.45 and depth < 2:
            number = len(list(directory.iterdir()))
            included = directory / f"part-{number}"
            included.touch()
            included.write_text(config(chance, directory, depth + 1))
            lines.append(f"Include {chance.choice((str(included), f'{directory}/part-{number}*', '/no-such-file*'))}")
        elif kind < 0.5:
            lines.append(chance.choice(("", "# a comment", "   ", "\t# Host web1", *EMPTY)))
        else:
            keyword = chance.choice(list(VALUES))
            value = chance.choice(VALUES[keyword])
            separator = chance.choice((" ", "=", " = ", "\t", "  "))
            if keyword == "ProxyCommand" and value.startswith("="):
                separator = " "
            may_comment = keyword not in ("ProxyCommand", "ProxyJump")
            lines.append(f"  {keyword}{separator}{value}" + chance.choice(("", " # why", "  ")) * may_comment)
    return "\n".join(lines) + "\n"


def ask(path: Path, name: str, options: Sequence[str] = ()) -> dict[str, list[str]] | None:
    """Return what `ssh -G` prints, by keyword; None if it refuses the file."""
    done = subprocess.run(
        ["ssh", "-G", "-F", str(path), *options, "--", name], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        return None
    answer: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        answer.setdefault(keyword, []).append(value)
    return answer


def expanded(text: str, target: Target) -> str:
    """Return what ssh makes of a path that it prints as it was written."""
    return os.path.expandvars(os.path.expanduser(with_tokens(text, target)))


def with_tokens(text: str, target: Target) -> str:
    """Return what ssh makes of a command that it prints as it was written; variables are left to the shell."""
    known = {"h": target.host, "n": target.name, "p": str(target.port), "r": target.user, "%": "%"}
    for token, value in known.items():
        text = text.replace(f"%{token}", value)
    return text


def compare(target: Target, answer: dict[str, list[str]]) -> None:
    """Assert that a target is what ssh would use."""

    def one(keyword: str) -> str | None:
        return answer.get(keyword, [None])[0]

    assert target.host == one("hostname")
    assert str(target.port) == one("port")
    assert target.user == one("user")
    identities = [expanded(text, target) for text in answer.get("identityfile", ()) if text != "none"]
    if target.has_identities:
        assert list(target.identity_files) == identities
    else:
        assert set(identities) <= {*target.identity_files, os.path.expanduser("~/.ssh/id_xmss")}
    certificates = [expanded(text, target) for text in answer.get("certificatefile", ())]
    assert list(target.certificate_files) == certificates
    assert target.identities_only == (one("identitiesonly") == "yes")
    agent = one("identityagent")
    expected = os.environ.get("SSH_AUTH_SOCK", "") if agent in (None, "SSH_AUTH_SOCK") else agent
    assert target.identity_agent == ("" if expected == "none" else expanded(expected or "", target))
    jump = one("proxyjump")
    assert (
        not target.proxy_jump
        if jump in (None, "none")
        else ",".join(target.proxy_jump).removesuffix(":") in (jump, f"ssh://{jump}")
    )
    command = one("proxycommand")
    assert target.proxy_command == (None if command in (None, "none") else with_tokens(command or "", target))
    users = (one("userknownhostsfile") or "").split()
    systems = (one("globalknownhostsfile") or "").split()
    files = [expanded(name, target) for name in users + systems if name != "none"]
    assert list(target.known_hosts) == files
    alias = one("hostkeyalias")
    assert target.known_name == (alias or target.host).lower()
    assert target.is_alias == (alias is not None)
    for keyword, value in target.authentication.items():
        if keyword != "preferredauthentications":
            assert (value in ("yes", "true")) == (one(keyword) in ("yes", "true")), keyword
    assert target.algorithms.get("ciphers", one("ciphers")) == one("ciphers")
    assert target.address_family == one("addressfamily")
    assert list(target.environment) == answer.get("setenv", [])
    forwarded = one("forwardagent") or "no"
    assert target.forward_agent == (forwarded == "yes" if forwarded in ("yes", "no") else expanded(forwarded, target))


# The others once were wrong.
@pytest.mark.parametrize("seed", [*range(140), 1106, 1150, 1301, 1324, 1480, 2200, 2297, 2370])
def test_a_generated_configuration_means_what_it_means_to_ssh(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)  # ssh does not look at $HOME
    chance = random.Random(seed)
    parts = tmp_path / "parts"
    parts.mkdir()
    path = tmp_path / "config"
    path.write_text(config(chance, parts))
    for name in chance.sample(NAMES, 4):
        user = chance.choice((None, None, "deploy"))
        port = chance.choice((None, None, 2222))
        options = [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
        answer = ask(path, name, options)
        if answer is None:
            with pytest.raises(HostError):
                find_route(Configuration.read(str(path)), name, user=user, port=port)
            continue
        try:
            route = find_route(Configuration.read(str(path)), name, user=user, port=port)
        except ConfigError as error:
            # A jump host that needs itself as a jump host, or a token: ssh finds out later.
            if not any(words in str(error) for words in ("in a circle", "cannot be used in")):
                raise
            continue
        compare(route[-1], answer)


@pytest.mark.parametrize(
    "text",
    [
        "ProxyJump none\nProxyCommand nc %h",
        "Host web1\nProxyJump jump\nProxyCommand nc %h",
        "ProxyCommand none\nProxyJump jump",
        "ProxyCommand nc %h\nProxyJump jump",
        "ProxyJump jump,,other",
        "ProxyJump ann@:22",
        "ProxyJump @jump",
        "ProxyJump [::1",
        "Host web1\nProxyJump jump:",
        "ProxyJump jump:port",
        "ProxyJump jump:0",
        "ProxyJump jump:65536",
        "ProxyJump jump:²",
        "Port 0022",
        f"Port {'9' * 5000}",
        "ProxyCommand echo ${KNOWN} %h",
        "User %u",
        "User ann-${KNOWN}",
        "ForwardAgent $KNOWN",
        "ForwardAgent ~/agent-%r.sock",
        "ForwardAgent true",
        "IdentityAgent $KNOWN",
        "IdentityAgent ${KNOWN}-%h",
        "IdentityFile ${KNOWN}/key",
        "IdentitiesOnly maybe",
        "Match host",
        "Match host #",
        "Match # nothing",
        'Match "host',
        'Match "host" web1\nPort 7',
        'Match host "web1\nPort 7',
        'HostName ""',
        'Include ""',
        'Host ""',
        "Include no-such-file",
        "Match localnetwork",
    ],
)
def test_an_odd_line_means_what_it_means_to_ssh(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    monkeypatch.setenv("KNOWN", "/run/known")
    path = tmp_path / "config"
    path.write_text(f"{text}\n")
    answer = ask(path, "web1")
    if answer is None:
        with pytest.raises(HostError) as caught:
            find_route(Configuration.read(str(path)), "web1")
        assert str(caught.value).startswith((f"{path}:1: ", "web1: the jump host"))
    else:
        compare(find_route(Configuration.read(str(path)), "web1")[-1], answer)


@pytest.mark.parametrize(
    "options", [{}, {"user": "deploy"}, {"port": 7}, {"jump": "jump"}, {"user": "deploy", "port": 7, "jump": "a,b"}]
)
@pytest.mark.parametrize(
    "more", ["", "IdentityFile /k1 /k2\nUserKnownHostsFile none\nSetEnv A=b C=d\nPort 9\nUser ann"]
)
def test_what_only_ssh_can_evaluate_is_what_it_says(
    options: dict[str, Any], more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was given wins there as well, and what ssh prints because nothing is set is not taken for a setting."""
    monkeypatch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    path = tmp_path / "config"
    path.write_text("CanonicalizeHostname yes\n" + more.replace("/k1 /k2", "/k1\nIdentityFile /k2"))
    flags = {"user": "-l", "port": "-p", "jump": "-J"}
    answer = ask(path, "web1", [word for name, value in options.items() for word in (flags[name], str(value))])
    assert answer is not None
    route = find_route(Configuration.read(str(path)), "web1", **options)
    compare(route[-1], answer)
    assert route[-1].has_identities == bool(more)
    assert [target.name for target in route[:-1]] == options.get("jump", "").replace(",", " ").split()


def test_the_usual_file_is_not_named_to_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    """With -F ssh would leave out the system's file, and refuse a home without a configuration."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    monkeypatch.setenv("HOME", home)
    usual = Configuration(f"{home}/.ssh/config", ())
    values = ask_ssh(usual, "web1", Values({"port": ["7"]}), Undecided("CanonicalizeHostname", ""))
    plain = subprocess.run(["ssh", "-G", "-p", "7", "web1"], capture_output=True, text=True, check=True).stdout
    assert f"hostname {values.one('hostname')}\n" in plain
    assert f"hashknownhosts {'yes' if 'hashknownhosts yes' in plain else 'no'}\n" in plain
    assert values.one("port") == "7"


def test_the_hash_of_a_connection(tmp_path: Path) -> None:
    """%C names it: a script may keep something for it, besides a control socket."""
    path, log = tmp_path / "config", tmp_path / "log"
    path.write_text(f'Match exec "echo %C %h-%n-%p-%r-%u-%L-%i >> {log}"\n  Port 7\n')
    assert ask(path, "web1") is not None
    assert find_route(Configuration.read(str(path)), "web1")[-1].port == 7
    theirs, ours = log.read_text().splitlines()
    assert ours == theirs
