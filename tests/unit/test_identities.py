"""What is offered to a host: keys, their certificates, those of an agent, algorithms; and what is said of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from sloth.errors import AuthError, ConnectError, HostKeyError
from sloth.inventory import Host, Inventory
from sloth.transport import algorithms
from sloth.transport.identities import Identities
from sloth.transport.known_hosts import read_known_hosts
from sloth.transport.ssh_config import Configuration, Target, find_route


class Keys:
    """A directory with keys, and what a configuration makes of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def make(self, name: str, passphrase: str | None = None) -> asyncssh.SSHKey:
        key = asyncssh.generate_private_key("ssh-ed25519")
        path = self.directory / name
        if passphrase is None:
            key.write_private_key(path)
        else:
            key.write_private_key(path, "pkcs8-pem", passphrase=passphrase)
        path.chmod(0o600)
        return key

    def target(self, text: str) -> Target:
        path = self.directory / "config"
        path.write_text(text.replace("@", f"{self.directory}/"))
        return find_route(Configuration.read(str(path)), "web1")[-1]

    def host(self, *names: str) -> Host:
        """A host for which the inventory names keys."""
        listed = ", ".join(f'"{self.directory / name}"' for name in names)
        path = self.directory / "inventory.toml"
        path.write_text(f"[hosts.web1]\nidentity_file = [{listed}]\n" if names else "[hosts.web1]\n")
        (host,) = Inventory.read(path).select("all")
        return host

    def offered(self, host: Host, text: str) -> dict[str, Any]:
        return Identities().options(host, self.target(text))


@pytest.fixture
def key_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Keys(tmp_path)


def certificate_of(key: asyncssh.SSHKey, path: Path) -> bytes:
    """Write a certificate for a key; return its data."""
    made = asyncssh.generate_private_key("ssh-ed25519").generate_user_certificate(key, "ann", principals=["ann"])
    made.write_certificate(path)
    return bytes(made.public_data)


def shown(offer: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The keys of an offer, in order: "key" or "certificate", and its public data."""
    found = []
    for one in offer["client_keys"]:
        is_pair = isinstance(one, tuple)
        found.append(("certificate", one[1].public_data) if is_pair else ("key", one.public_data))
    return found


def test_a_certificate_beside_its_key_is_offered_first(key_ring: Keys) -> None:
    one, two = key_ring.make("one"), key_ring.make("two")
    certificate = certificate_of(one, key_ring.directory / "one-cert.pub")
    offer = key_ring.offered(key_ring.host(), "IdentityFile @one\nIdentityFile @two\n")
    assert shown(offer) == [("certificate", certificate), ("key", one.public_data), ("key", two.public_data)]


def test_a_certificate_that_is_named_goes_with_the_key_that_it_certifies(key_ring: Keys) -> None:
    one, two = key_ring.make("one"), key_ring.make("two")
    certificate = certificate_of(two, key_ring.directory / "of-two")
    (key_ring.directory / "broken").write_text("no certificate\n")
    text = "IdentityFile @one\nIdentityFile @two\nCertificateFile @of-two\nCertificateFile @broken\n"
    identities = Identities()
    for _ in ("web1", "another host"):
        offer = identities.options(key_ring.host(), key_ring.target(text))
        assert shown(offer) == [("key", one.public_data), ("certificate", certificate), ("key", two.public_data)]
        (key_ring.directory / "of-two").unlink(missing_ok=True)  # it was read once for the run


def with_a_passphrase(key_ring: Keys) -> None:
    """As ssh-keygen writes it, where that is here: asyncssh needs another package for it."""
    if shutil.which("ssh-keygen") is None:
        key_ring.make("key", "secret")
    else:
        path = str(key_ring.directory / "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", path], check=True)
        (key_ring.directory / "key.pub").unlink()


def broken(key_ring: Keys) -> None:
    (key_ring.directory / "key").write_text(
        "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"
    )
    (key_ring.directory / "key").chmod(0o600)


def public(key_ring: Keys) -> None:
    key_ring.make("private").write_public_key(key_ring.directory / "key")
    (key_ring.directory / "key").chmod(0o600)


def open_to_others(key_ring: Keys) -> None:
    key_ring.make("key")
    (key_ring.directory / "key").chmod(0o640)


def only_the_public_one(key_ring: Keys) -> None:
    key_ring.make("private").write_public_key(key_ring.directory / "key.pub")


@pytest.mark.parametrize(
    ("prepare", "problem", "hint"),
    [
        (with_a_passphrase, "is protected by a passphrase", "load it with: ssh-add KEY"),
        (lambda key_ring: key_ring.make("key", "secret"), "is protected by a passphrase", "load it with: ssh-add KEY"),
        (public, "is a public key, and no agent is used", "load the private key into an agent: ssh-add"),
        (broken, "cannot be read: ", "check identity_file in the inventory"),
        (open_to_others, "is open to others (mode 0640) and not used, as with ssh", "chmod 600 KEY"),
        (only_the_public_one, "does not exist", "load it with: ssh-add KEY"),
        (lambda key_ring: None, "does not exist", "check identity_file in the inventory"),
    ],
)
def test_a_key_of_the_inventory_that_cannot_be_used(
    key_ring: Keys, prepare: Callable[[Keys], object], problem: str, hint: str
) -> None:
    prepare(key_ring)
    path = str(key_ring.directory / "key")
    with pytest.raises(AuthError) as caught:
        key_ring.offered(key_ring.host("key"), "")
    assert caught.value.message.startswith(f"the identity file {path} {problem}")
    assert caught.value.hint == hint.replace("KEY", path)
    # ssh is patient with keys of its own configuration: they are left out, and named when nothing else works.
    identities = Identities()
    target = key_ring.target("IdentityFile @key\n")
    assert shown(identities.options(key_ring.host(), target)) == []
    tried, why = identities.describe(key_ring.host(), target)
    assert tried == ["no key: there is none that can be read"]
    assert why == ("" if "inventory" in hint else hint.replace("KEY", path))


def test_an_agent_may_have_the_key_that_we_cannot_read(key_ring: Keys) -> None:
    secret = key_ring.make("key", "secret")
    secret.write_public_key(key_ring.directory / "key.pub")
    text = "IdentityAgent /run/agent\nIdentitiesOnly yes\n"
    offer = key_ring.offered(key_ring.host("key"), text)
    assert shown(offer) == []
    assert (offer["agent_path"], offer["agent_identities"]) == ("/run/agent", [secret.public_data])
    assert key_ring.offered(key_ring.host("key"), "IdentityAgent /run/agent\n")["agent_identities"] is None, (
        "any of them"
    )
    # Without a public key nothing of the agent may be used.
    (key_ring.directory / "key.pub").unlink()
    key_ring.make("key")
    nothing = key_ring.offered(key_ring.host(), f"{text}IdentityFile none\n")
    assert (nothing["agent_path"], nothing["agent_identities"], shown(nothing)) == ("", [], [])


def test_what_was_tried_is_told(key_ring: Keys) -> None:
    key_ring.make("one")
    key_ring.make("two")
    for text, expected in (
        ("IdentityFile @one", ["the key @one"]),
        ("IdentityFile @one\nIdentityFile @two", ["the keys @one, @two"]),
        ("IdentityFile @one\nIdentityAgent /run/agent", ["the key @one", "those of the agent"]),
        ("IdentityFile @none\nIdentityAgent /run/agent", ["the keys of the agent"]),
    ):
        tried, hint = Identities().describe(key_ring.host(), key_ring.target(text + "\n"))
        assert [words.replace(f"{key_ring.directory}/", "@") for words in tried] == expected
        assert hint == ""


def test_the_inventory_names_keys_for_the_host_and_not_for_the_way(key_ring: Keys) -> None:
    one, two = key_ring.make("one"), key_ring.make("two")
    host = key_ring.host("one")
    assert shown(key_ring.offered(host, "IdentityFile @two\n")) == [("key", one.public_data)]
    path = key_ring.directory / "config"
    path.write_text(f"Host jump\n  IdentityFile {key_ring.directory}/two\n")
    jump, other, _ = find_route(Configuration.read(str(path)), "web1", jump="jump,other")
    assert shown(Identities().options(host, jump)) == [("key", two.public_data)]
    assert shown(Identities().options(host, other)) == [("key", one.public_data)], "nothing names another one"


@pytest.mark.parametrize(
    ("keyword", "setting", "expected"),
    [
        ("ciphers", "aes256-ctr,aes128-ctr", ["aes256-ctr", "aes128-ctr"]),
        ("ciphers", "aes*-ctr,no-such-cipher", ["aes256-ctr", "aes192-ctr", "aes128-ctr"]),
        ("macs", "hmac-sha1,hmac-sha1", ["hmac-sha1"]),
    ],
)
def test_named_algorithms(keyword: str, setting: str, expected: list[str]) -> None:
    assert sorted(algorithms.chosen(keyword, setting)) == sorted(expected)


def test_algorithms_are_added_removed_and_moved_to_the_front() -> None:
    """As "+", "-" and "^" do in ssh_config."""
    usual = algorithms.chosen("macs", "+")
    assert len(usual) > 3
    assert algorithms.chosen("macs", f"-{usual[1]}") == [usual[0], *usual[2:]]
    assert algorithms.chosen("macs", f"-{usual[0]},hmac-md5*") == [name for name in usual[1:] if "md5" not in name]
    assert algorithms.chosen("macs", f"^{usual[2]}") == [usual[2], *usual[:2], *usual[3:]]
    added = algorithms.chosen("ciphers", "+3des-cbc")
    assert added[-1] == "3des-cbc"
    assert added[:-1] == algorithms.chosen("ciphers", "+")
    for setting in ("no-such-mac", "-*", "idea-*"):
        with pytest.raises(ConnectError, match=r"asyncssh has none of the algorithms macs "):
            algorithms.chosen("macs", setting)


def test_a_revoked_key_that_cannot_be_read_is_no_line_to_skip(tmp_path: Path) -> None:
    """The others are: a wrong line must not spoil the rest, but one that forbids a key must not be lost."""
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    path = tmp_path / "known_hosts"
    path.write_text(f"web1 ssh-ed25519 broken\nweb1 {key}\n")
    assert len(read_known_hosts((str(path), str(tmp_path / "none"))).match("web1", "", None)[0]) == 1
    path.write_text(f"web1 {key}\n  @revoked web1\n")
    with pytest.raises(HostKeyError, match=f"the known_hosts file {path} has a @revoked line that cannot be read"):
        read_known_hosts((str(path),))
    with pytest.raises(HostKeyError, match="cannot be read: Is a directory"):
        read_known_hosts((str(tmp_path),))
