"""Which ssh_config files are read, and what is refused with a reason: no ssh is needed to find it out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sloth.errors import HostError
from sloth.transport.ssh_config import ConfigError, Configuration, Target, files, find_route
from sloth.transport.ssh_config.tokens import local_user


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ~/.ssh of a user, on a machine whose ssh_config is `system` there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    found = tmp_path / ".ssh"
    found.mkdir(mode=0o700)
    monkeypatch.setattr(files, "SYSTEM", str(found / "system"))
    return found


def target(directory: Path, text: str, name: str = "web1") -> Target:
    """What ~/.ssh/config with this text means for a host."""
    (directory / "config").write_text(text)
    return find_route(Configuration.read(None), name)[-1]


def refusal(directory: Path, text: str, name: str = "web1") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        target(directory, text, name)
    return caught.value


def test_the_file_of_the_system_comes_after_that_of_the_user(directory: Path) -> None:
    assert target(directory, "").port == 22, "neither sets it"
    (directory / "system").write_text("Port 7\nUser ann\nSendEnv LANG\nSetEnv A=b\n")
    found = target(directory, "Port 8\n")
    assert (found.port, found.user) == (8, "ann")
    assert found.send_env == (), "what commands print must not depend on the controller's locale"
    assert found.environment == ("A=b",)
    assert target(directory, "SendEnv LANG\n").send_env == ("LANG",)
    (directory / "config").unlink()
    assert find_route(Configuration.read(None), "web1")[-1].port == 7


def test_what_a_file_includes(directory: Path) -> None:
    """A path that is not absolute is one of ~/.ssh, whatever the working directory."""
    (directory / "parts").mkdir()
    (directory / "parts" / "b").write_text("Port 8\nUser ann\n")
    (directory / "parts" / "a").write_text("Port 7\n")
    (directory / "parts" / "directory").mkdir()
    for pattern in ("parts/*", "~/.ssh/parts/*", f"{directory}/parts/*", "parts/a parts/b", "/no-such/* parts/*"):
        found = target(directory, f"Include {pattern}\n")
        assert (found.port, found.user) == (7, "ann"), pattern


def test_a_file_of_the_system_includes_nothing_of_a_user(directory: Path) -> None:
    (directory / "system").write_text("Include ~/.ssh/more\n")
    error = refusal(directory, "")
    assert str(error) == f"{directory}/system:1: a system's file cannot include ~/.ssh/more"


def test_files_that_include_each_other(directory: Path) -> None:
    (directory / "more").write_text("Include config\n")
    error = refusal(directory, "Include more\n")
    assert "too many files include each other; the last one is" in error.message
    assert str(error).startswith(f"{directory}/"), "the line with the Include is named"


def test_a_file_that_cannot_be_read(directory: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere cannot be read: No such file"):
        Configuration.read(str(directory / "nowhere"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('RefuseConnection "moved to web2"', "the connection is refused: moved to web2"),
        ("HostName # none", "HostName has an empty argument"),
        ('Include ""', "Include has an empty argument"),
        ("IdentitiesOnly perhaps", "IdentitiesOnly is yes or no, not perhaps"),
        ("Port 65536", "Port 65536 is not the number of a port"),
        ("Match host", "Match host has no argument"),
        ("Match host #", "Match host has no argument"),
        ("Match # nobody", "Match has no conditions"),
        ("Match all user ann", "Match all cannot be combined"),
        ("ProxyJump jump,,other", "ProxyJump jump,,other has an empty jump host"),
        ("BindInterface eth0", "bindinterface eth0 is not supported"),
        ("IdentityFile ${UNSET_HERE}/key", "the environment variable UNSET_HERE is not set"),
        ("IdentityFile /%y", "%y cannot be used in '/%y'"),
        ("HostName %p", "%p cannot be used in '%p'"),
    ],
)
def test_what_is_wrong_names_its_line(directory: Path, text: str, words: str) -> None:
    error = refusal(directory, f"# a comment\n{text}\n")
    assert str(error).startswith(f"{directory}/config:2: {words}"), error


def test_quotes_that_do_not_match_end_a_line_without_a_word(directory: Path) -> None:
    """ssh takes it for a blank line: strdelim() returns nothing."""
    assert target(directory, '"Port 7\nPort 8\n').port == 8


def test_without_ssh_what_only_it_evaluates_is_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(directory))
    for text, what in (
        ("CanonicalizeHostname yes", "CanonicalizeHostname"),
        ("User ann-%h", "User ann-%h"),
        ("User ${USER}", "User ${USER}"),
        ("Match localnetwork 10.0.0.0/8", "Match localnetwork"),
        ("NewKeyword yes", "the keyword newkeyword"),
    ):
        error = refusal(directory, text)
        assert str(error).startswith(f"{directory}/config:1: {what} can only be evaluated by the ssh program")
        assert "openssh-client" in error.hint


def test_where_an_agent_is_forwarded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT", "/run/agent")
    monkeypatch.delenv("NO_AGENT", raising=False)
    for setting, expected in (
        ("yes", True), ("no", False), ("$AGENT", "/run/agent"), ("$NO_AGENT", False), ("${AGENT}.%p", "/run/agent.22"),
        ("~/agent-%h", f"{directory.parent}/agent-web1"),
    ):  # fmt: skip
        assert target(directory, f"ForwardAgent {setting}\n").forward_agent == expected, setting


def test_which_agent_is_asked(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/usual")
    monkeypatch.setenv("AGENT", "/run/other")
    monkeypatch.delenv("NO_AGENT", raising=False)
    for setting, expected in (
        ("SSH_AUTH_SOCK", "/run/usual"), ("none", ""), ("$AGENT", "/run/other"), ("$NO_AGENT", ""),
        ("/run/%h", "/run/web1"),
    ):  # fmt: skip
        assert target(directory, f"IdentityAgent {setting}\n").identity_agent == expected, setting
    assert target(directory, "").identity_agent == "/run/usual"


def test_the_way_through_jump_hosts(directory: Path) -> None:
    """user, port and address of each; the account of the inventory counts where nothing names one."""
    (directory / "config").write_text("Host two\n  User bob\n  HostName 10.0.0.2\n")
    configuration = Configuration.read(None)
    jump = "ssh://ann@one:44,two,fe80::1,[fe80::2]:7,five"
    route = find_route(configuration, "web1", jump=jump, jump_user="deploy")
    ways = [(one.user, one.host, one.port) for one in route]
    assert ways == [
        ("ann", "one", 44), ("bob", "10.0.0.2", 22), ("deploy", "fe80::1", 22), ("deploy", "fe80::2", 7),
        ("deploy", "five", 22), (local_user(), "web1", 22),
    ]  # fmt: skip


@pytest.mark.parametrize("jump", ["@one", "ann@", "[::1", "[::1]x", "one:port", "one:0", "one:65536", "one:²", ""])
def test_a_jump_host_that_is_none(directory: Path, jump: str) -> None:
    (directory / "config").write_text("")
    with pytest.raises(HostError) as caught:
        find_route(Configuration.read(None), "web1", jump=f"first,{jump}")
    assert repr(jump) in caught.value.message or "has an empty jump host" in caught.value.message


def test_a_configuration_of_another_user_is_refused(directory: Path) -> None:
    (directory / "config").write_text("Port 7\n")
    os.chmod(directory / "config", 0o620)
    with pytest.raises(ConfigError) as caught:
        Configuration.read(None)
    assert "others can write it" in caught.value.message
    assert caught.value.hint.endswith(f"chmod go-w {directory}/config")
    assert Configuration.read(str(directory / "config")).files, "one that is named is the user's choice"
