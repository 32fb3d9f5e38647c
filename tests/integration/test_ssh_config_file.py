"""Connecting as the default ~/.ssh/config describes it: the right host, by the right way, or an error."""

from __future__ import annotations

import getpass
import shutil
import sys
from pathlib import Path

import asyncssh
import pytest

from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.running import finished_hosts, run_site

RELAY = """
import socket, sys, threading
print("a word on stderr", file=sys.stderr, flush=True)
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := sys.stdin.buffer.raw.read(65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := sock.recv(65536):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
"""


class Client:
    """A controller with a home of its own, so with a default ~/.ssh/config."""

    def __init__(self, servers: LoopbackFleet, directory: Path) -> None:
        self.servers = servers
        self.home = directory / "home"
        self._site = directory / "site.sloth"
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        self.known_hosts = self.home / ".ssh" / "known_hosts"
        self.known_hosts.write_text(servers.known_hosts.read_text())
        self.config = self.home / ".ssh" / "config"
        self.key = " ".join(servers.host_key.export_public_key().decode().split()[:2])

    async def reached(self, config: str, host: str = "h1", inventory: str = "") -> str:
        """Return which of the servers a run of `host` reaches with this ~/.ssh/config, or its error."""
        key = f"IdentityFile {self.servers.key_file}\n"
        self.config.write_text(config + ("" if "IdentityFile" in config else f"Host *\n  {key}"))
        self._site.write_text('task({ name = "t", run = function() file.copy({ dest = "~/was", content = "x" }) end })')
        for home in self.servers.homes.values():
            (home / "was").unlink(missing_ok=True)
        path = self._site.with_name("inventory.toml")
        path.write_text(f"[hosts.{host}]\n{inventory}")
        events = await run_site(self._site, Inventory.read(path), self.home / ".sloth-runner")
        end = finished_hosts(events)[host]
        found = [name for name, home in self.servers.homes.items() if (home / "was").exists()]
        if end.error:
            assert found == []
            return end.error
        return " ".join(found)


@pytest.fixture
def client(servers: LoopbackFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Client(servers, tmp_path)


async def test_the_name_and_port_of_another_host(client: Client) -> None:
    port = client.servers.ports
    config = f"Host h1\n  HostName 127.0.0.1\n  Port {port['web2']} # why\nHost *\n  Port {port['web1']}\n"
    assert await client.reached(config) == "web2"
    assert await client.reached(config, inventory=f"port = {port['db1']}") == "db1"
    assert await client.reached(config, inventory='address = "127.0.0.1"') == "web1"
    match = f'Match originalhost h1 exec "test %n = h1"\n  Port={port["web2"]}\nHost *\n  HostName 127.0.0.1\n'
    assert await client.reached(match) == "web2"


async def test_jump_hosts_by_their_aliases(client: Client) -> None:
    port = client.servers.ports
    config = f"""
Host h1
  HostName 127.0.0.1
  Port {port["web2"]}
  ProxyJump inner
Host inner
  HostName 127.0.0.1
  Port {port["db1"]}
  ProxyJump outer
Host outer
  HostName 127.0.0.1
  Port {port["web1"]}
"""
    assert await client.reached(config) == "web2"
    known = client.known_hosts.read_text().splitlines(keepends=True)
    client.known_hosts.write_text("".join(line for line in known if f":{port['web1']} " not in line))
    error = await client.reached(config)
    assert "outer (127.0.0.1:" in error
    assert "host key is unknown" in error
    client.known_hosts.write_text("".join(known))
    direct = config.replace("ProxyJump inner", "ProxyJump inner,outer")
    assert await client.reached(direct.replace("  ProxyJump outer\n", "")) == "web2"
    circle = await client.reached(config.replace("Host outer", "Host outer\n  ProxyJump inner"))
    assert "lead in a circle" in circle
    by_inventory = config.replace("  ProxyJump inner\n", "")
    assert await client.reached(by_inventory, inventory='proxy_jump = "inner"') == "web2"
    assert await client.reached(config.replace("Host outer", "Host nobody"), inventory='proxy_jump = "none"') == "web2"


async def test_a_proxy_command_and_what_it_prints(client: Client, tmp_path: Path) -> None:
    relay = tmp_path / "relay.py"
    relay.write_text(RELAY)
    port = client.servers.ports["web2"]
    config = f"Host h1\n  HostName 127.0.0.1\n  Port {port}\n  ProxyCommand '{sys.executable}' {relay} %h %p # why\n"
    assert await client.reached(config) == "web2"
    failing = f"Host h1\n  HostName 127.0.0.1\n  Port {port}\n  ProxyCommand sh -c 'echo no route >&2; exit 7'\n"
    error = await client.reached(failing)
    assert "its ProxyCommand ended with exit status 7: no route" in error


async def test_where_host_keys_are_looked_up(client: Client) -> None:
    port = client.servers.ports["web1"]
    where = f"Host h1\n  HostName 127.0.0.1\n  Port {port}\n"
    lines = client.known_hosts.read_text()
    client.known_hosts.write_text("")
    assert "host key is unknown" in await client.reached(where)
    (client.home / "127.0.0.1.keys").write_text(lines)
    assert await client.reached(f"{where}  UserKnownHostsFile /none ~/%h.keys\n") == "web1"
    assert await client.reached(f"{where}  GlobalKnownHostsFile {client.home}/127.0.0.1.keys\n") == "web1"
    # An alias replaces name and port, and then the key of the address does not count.
    client.known_hosts.write_text(f"{lines}Real {client.key}\n")
    assert await client.reached(f"{where}  HostKeyAlias REAL\n") == "web1"
    assert "host key is unknown" in await client.reached(f"{where}  HostKeyAlias other\n")
    accepting = await client.reached(f"{where}  HostKeyAlias other\n", inventory='host_keys = "accept-new"')
    assert accepting == "web1"
    assert client.known_hosts.read_text().endswith(f"other {client.key}\n")
    none = f"{where}  HostKeyAlias third\n  UserKnownHostsFile none\n"
    assert "UserKnownHostsFile is none" in await client.reached(none, inventory='host_keys = "accept-new"')


async def test_a_line_of_known_hosts_that_is_wrong_spoils_no_other(client: Client) -> None:
    port = client.servers.ports["web1"]
    client.known_hosts.write_text("broken\n|1|x|y ssh-ed25519 AAAA\n" + client.known_hosts.read_text())
    assert await client.reached(f"Host h1\n  HostName 127.0.0.1\n  Port {port}\n") == "web1"


async def test_identities(client: Client, tmp_path: Path) -> None:
    port = client.servers.ports["web1"]
    where = f"Host h1\n  HostName 127.0.0.1\n  Port {port}\n"
    key = client.servers.key_file
    good = tmp_path / getpass.getuser()
    shutil.copy(key, good)
    good.chmod(0o600)
    assert await client.reached(f"{where}  IdentityFile /none\n  IdentityFile {tmp_path}/%u\n") == "web1"
    error = await client.reached(f"{where}  IdentityFile /none\n")
    assert "does not let" in error
    assert "no key: there is none that can be read" in error
    assert await client.reached(f"{where}  IdentityFile {key}\n  IdentitiesOnly yes\n") == "web1"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("Port 22x\n", 1, "Port 22x"),
        ("Host h1\n\n  HostNme h2\n", 3, "hostnme"),
        ("Host h1\n  HostName\n", 2, "has no argument"),
        ("Host h1\n  HostName a b\n", 2, "takes one argument"),
        ('Host "h1\n', 1, "quotes do not match"),
        ("Match localnetwork 10.0.0.0/8 bogus x\n", 1, "localnetwork"),
        ("Match\tall host x\n", 1, "all"),
        ("Host h1\n  HostName %x\n", 2, "%x"),
        ("Host h1\n  IdentityFile ${NO_SUCH_VARIABLE}/k\n", 2, "NO_SUCH_VARIABLE"),
        ("Host h1\n  RevokedHostKeys /etc/revoked\n", 2, "revokedhostkeys"),
        ("Host h1\n  Include ~/.ssh/more\n", 1, "Bogus"),
        ("Host h1\n  ProxyCommand nc %h 22\n  HostName $(id)\n", 2, "$(id)"),
    ],
)
async def test_what_is_wrong_is_an_error_with_file_and_line(client: Client, text: str, line: int, words: str) -> None:
    (client.home / ".ssh" / "more").write_text("Bogus yes\n")
    error = await client.reached(text)
    name = "more" if "Include" in text else "config"
    assert error.startswith(f"{client.home}/.ssh/{name}:{line}: "), error
    assert words.lower() in error.lower()
    assert "defect" not in error


async def test_a_file_that_others_can_write_is_refused(client: Client) -> None:
    client.config.write_text("")
    client.config.chmod(0o666)
    assert "others can write it" in await client.reached("Host h1\n  HostName 127.0.0.1\n")


async def test_an_unknown_keyword_that_is_to_be_ignored(client: Client) -> None:
    port = client.servers.ports["web1"]
    config = f"IgnoreUnknown UseKeychain,x*\nUseKeychain yes\nHost h1\n  HostName 127.0.0.1\n  Port {port}\n"
    assert await client.reached(config) == "web1"


async def test_what_only_ssh_can_evaluate(client: Client) -> None:
    port = client.servers.ports["web1"]
    config = f"CanonicalizeHostname yes\nHost h1\n  HostName 127.0.0.1\n  Port {port}\nHost 127.0.0.1\n  User nobody\n"
    if shutil.which("ssh") is None:
        assert "ssh program" in await client.reached(config)
    else:
        assert await client.reached(config) == "web1"


async def test_a_certificate_authority_of_known_hosts(client: Client, tmp_path: Path) -> None:
    # pyinfra#1944, paramiko#771: @cert-authority lines were skipped, and with them the trust.
    authority = asyncssh.generate_private_key("ssh-ed25519")
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_host_certificate(host_key, "host", principals=["h1.example.com"])
    public = client.servers.key_file.with_name("client.pub")
    asyncssh.read_private_key(client.servers.key_file).write_public_key(public)
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[(host_key, certificate)], authorized_client_keys=str(public),
        process_factory=lambda process: process.exit(3),
    )  # fmt: skip
    ours = authority.export_public_key().decode().strip()
    where = f"Host h1\n  HostName 127.0.0.1\n  Port {server.get_port()}\n"
    client.known_hosts.write_text(f"@cert-authority *.example.com {ours}\n")
    # It is known by its alias only: the address is no principal of its certificate.
    trusted = await client.reached(f"{where}  HostKeyAlias h1.example.com\n")
    assert "the payload did not start" in trusted
    for alias in ("127.0.0.1", "h2.example.com", "h1.example.org"):
        refused = await client.reached(f"{where}  HostKeyAlias {alias}\n")
        assert "payload" not in refused, alias
        assert ("host key is unknown" in refused) == (alias != "h2.example.com"), refused
    # A certificate of an unknown authority is just a key, as for ssh.
    client.known_hosts.write_text("")
    accepted = await client.reached(f"{where}  HostKeyAlias new\n", inventory='host_keys = "accept-new"')
    assert "the payload did not start" in accepted
    assert client.known_hosts.read_text().startswith("new ssh-ed25519 ")
    server.close()
    await server.wait_closed()


async def test_reports_of_asyncssh(client: Client) -> None:
    port = client.servers.ports
    here = "HostName 127.0.0.1"
    # asyncssh#520: a token in ProxyCommand; and patterns with a negation.
    config = f"Host * !jump\n  {here}\n  Port {port['web2']}\n  KexAlgorithms +diffie-hellman-group14-sha1\n"
    assert await client.reached(config + f"Host jump\n  {here}\n  Port {port['web1']}\n") == "web2"
    # asyncssh#792, #636: each jump host is looked up again, with its own port and keys.
    jumps = f"Host h1\n  {here}\n  Port {port['db1']}\n  ProxyJump one,two\nHost one\n  {here}\n  Port {port['web1']}\n"
    jumps += f"  IdentityFile {client.servers.key_file}\nHost two\n  {here}\n  Port {port['web2']}\n"
    jumps += f"Host h1 two\n  IdentityFile {client.servers.key_file}\n"
    assert await client.reached(jumps) == "db1"
    # asyncssh#635: a list with blanks is nothing that ssh knows.
    assert "takes one argument" in await client.reached(jumps.replace("one,two", "one two"))
    # asyncssh#36: an odd line in known_hosts.
    client.known_hosts.write_text("=\n\n" + client.known_hosts.read_text())
    assert await client.reached(jumps) == "db1"
    # pyinfra#1095: several known_hosts files.
    several = f"Host h1\n  {here}\n  Port {port['web1']}\n  UserKnownHostsFile /none ~/.ssh/known_hosts /none2\n"
    assert await client.reached(several) == "web1"
