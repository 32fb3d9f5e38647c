"""Every way in which a connection can fail is told apart; against SSH servers in this process."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncssh
import pytest

from sloth.errors import AuthError, ConnectError, ConnectionLost, HostError
from sloth.inventory import Host, Inventory
from sloth.transport.connection import NoFurtherSession
from sloth.transport.ssh import Connector, SshConnection


class Server(asyncssh.SSHServer):
    """Lets in who has the key or the password "secret"; notes what it sees."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._site.peers.append(str(conn.get_extra_info("peername")[0]))
        self._site.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._site.open -= 1
        self._site.closed.set()

    def begin_auth(self, username: str) -> bool:
        self._site.at_login(self._connection)
        return True

    def auth_completed(self) -> None:
        self._site.logins += 1

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self._site.tried.append("key")
        return bool(key.public_data == self._site.key.public_data)

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        self._site.tried.append(f"password {password}")
        return password == "secret"

    def session_requested(self) -> asyncssh.SSHServerProcess[bytes] | bool:
        if self._site.sessions == 0:
            return False
        self._site.sessions -= 1
        return asyncssh.SSHServerProcess(lambda process: process.exit(3), None, 3, False)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        self._site.passed.append((dest_host, dest_port))
        return True


class Site:
    """A server, and what is needed to reach it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.at_login: Callable[[asyncssh.SSHServerConnection], object] = lambda connection: None
        self.peers: list[str] = []
        self.tried: list[str] = []
        self.passed: list[tuple[str, int]] = []  # where it was asked to connect to, as a jump host
        self.logins = 0
        self.sessions = 100  # how many it starts
        self.open = 0
        self.closed = asyncio.Event()

    async def start(self) -> asyncssh.SSHAcceptor:
        self.directory.joinpath("key").touch(mode=0o600)
        self.key.write_private_key(self.directory / "key")
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen("127.0.0.1", 0, server_factory=lambda: Server(self), server_host_keys=[host_key])
        self.port = server.get_port()
        words = host_key.export_public_key().decode().split()
        (self.directory / "known").write_text(f"[127.0.0.1]:{self.port} {words[0]} {words[1]}\n")
        return server

    def host(self, more: str = "", config: str = "", port: int | None = None, key: str = "key") -> Host:
        """The host web1 as the inventory describes it with `more`, and an ssh_config `config`."""
        (self.directory / "config").write_text(config)
        given = {
            "address": "127.0.0.1",
            "user": "ann",
            "known_hosts": str(self.directory / "known"),
            "ssh_config": str(self.directory / "config"),
            "identity_file": str(self.directory / key),
        }
        lines = [f'{name} = "{value}"' for name, value in given.items()]
        path = self.directory / "inventory.toml"
        path.write_text("\n".join(["[hosts.web1]", *lines, f"port = {port or self.port}", more]))
        (host,) = Inventory.read(path).select("all")
        return host

    async def connect(self, host: Host, password: str | None = None) -> SshConnection:
        return await Connector(password).connect(host)

    async def refusal(self, host: Host, password: str | None = None) -> HostError:
        with pytest.raises(HostError) as caught:
            await self.connect(host, password)
        return caught.value


@pytest.fixture
async def ssh_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    site = Site(tmp_path)
    server = await site.start()
    yield site
    server.close()
    await server.wait_closed()


async def test_a_server_that_closes_before_it_lets_anybody_in(ssh_site: Site) -> None:
    title = f"web1 (127.0.0.1:{ssh_site.port})"
    ssh_site.at_login = lambda connection: connection.disconnect(asyncssh.DISC_BY_APPLICATION, "closed for the night")
    error = await ssh_site.refusal(ssh_site.host())
    assert (type(error), error.message) == (ConnectError, f"{title}: closed for the night (error 11)")
    ssh_site.at_login = lambda connection: connection.abort()
    error = await ssh_site.refusal(ssh_site.host())
    assert type(error) is ConnectError
    assert error.message.startswith(f"{title}: the connection was lost while authentication: ")
    assert len(ssh_site.peers) == 2, "neither is tried again"


DISCONNECT = struct.pack(">BI", 1, 12) + struct.pack(">I", 9) + b"too many!" + struct.pack(">I", 0)


@pytest.mark.parametrize(
    ("sent", "message", "hint"),
    [
        (b"SSH-2.0-x\r\n" + struct.pack(">IB", len(DISCONNECT) + 11, 10) + DISCONNECT + bytes(10), "too many!", "Max"),
        (b"", "Connection lost", "is it an SSH server, and is its MaxStartups large enough?"),
        (b"SSH-1.5-old\r\n", "Unsupported SSH version", ""),
    ],
)
async def test_a_server_that_closes_at_once(ssh_site: Site, sent: bytes, message: str, hint: str) -> None:
    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await ssh_site.refusal(ssh_site.host("connect_timeout = 1", port=port))
    assert type(error) is ConnectError
    assert message in error.message
    assert ("closed the connection before it sent anything: " in error.message) == bool(hint)
    assert hint in error.hint


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sh -c 'exit 0'", "before it sent anything: "),
        ("sh -c 'echo no way through >&2; exit 0'", "before it sent anything: no way through"),
        ("sh -c 'echo no way through >&2; exit 9'", "its ProxyCommand ended with exit status 9: no way through"),
    ],
)
async def test_a_proxy_command_that_ends(ssh_site: Site, command: str, words: str) -> None:
    error = await ssh_site.refusal(ssh_site.host("connect_timeout = 1", f"ProxyCommand {command}\n"))
    assert words in error.message
    assert "closed the connection before it sent anything" in error.message


async def test_what_was_tried_is_told(ssh_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(ssh_site.directory / "other")
    (ssh_site.directory / "other").chmod(0o600)
    key = f"the key {ssh_site.directory}/other"
    monkeypatch.setenv("WEB1_PASSWORD", "wrong")
    monkeypatch.delenv("NO_PASSWORD", raising=False)
    for more, password, tried in (
        ("", None, key),
        ("", "wrong", f"{key} and the password"),
        ('password_env = "WEB1_PASSWORD"', "secret", f"{key} and the password"),
        ('password_env = "NO_PASSWORD"', "secret", f"{key} and no password, since $NO_PASSWORD is not set"),
    ):
        error = await ssh_site.refusal(ssh_site.host(more, key="other"), password)
        assert isinstance(error, AuthError)
        assert f"does not let ann in (tried {tried})" in error.message
        assert "authorized_keys" in error.hint
    assert "password secret" not in ssh_site.tried, "a host with a password of its own gets no other"
    monkeypatch.setenv("WEB1_PASSWORD", "secret")
    await (await ssh_site.connect(ssh_site.host('password_env = "WEB1_PASSWORD"', key="other"), "wrong")).close()
    await (await ssh_site.connect(ssh_site.host(key="other"), "secret")).close()
    assert ssh_site.logins == 2


async def test_which_ways_to_log_in_are_tried(ssh_site: Site) -> None:
    for config, tried in (
        ("", ["key"]),
        ("PreferredAuthentications password,publickey\n", ["password secret"]),
        ("PreferredAuthentications publickey\nPubkeyAuthentication no\n", None),
        ("PubkeyAuthentication no\n", ["password secret"]),
    ):
        ssh_site.tried.clear()
        if tried is None:
            assert isinstance(await ssh_site.refusal(ssh_site.host(config=config), "secret"), AuthError)
        else:
            await (await ssh_site.connect(ssh_site.host(config=config), "secret")).close()
        assert list(dict.fromkeys(ssh_site.tried)) == (tried or []), config


async def test_the_address_to_connect_from(ssh_site: Site) -> None:
    await (await ssh_site.connect(ssh_site.host(config="BindAddress 127.0.0.3\n"))).close()
    assert set(ssh_site.peers) == {"127.0.0.3"}
    for address, why in (("192.0.2.77", "cannot assign requested address"), ("::1", "address family")):
        error = await ssh_site.refusal(ssh_site.host(config=f"BindAddress {address}\n"))
        assert f"cannot connect from {address} (BindAddress): " in error.message
        assert why in error.message.lower()


@pytest.mark.parametrize("name", ["web1..example", f"{'x' * 64}.example", "ü" * 63])
async def test_a_name_that_no_resolver_takes(ssh_site: Site, name: str) -> None:
    """Python has an error of its own for it, which is none of the system."""
    for keyword, why in (
        ("HostName", "a part of it is empty or too long"),
        ("BindAddress", "Name or service not known" if name.isascii() else "it is no address"),
    ):
        error = await ssh_site.refusal(ssh_site.host(config=f"{keyword} {name}\n"))
        assert type(error) is ConnectError
        assert name in error.message
        assert error.message.endswith(why)


async def test_a_host_that_starts_no_further_command(ssh_site: Site) -> None:
    ssh_site.sessions = 1
    connection = await ssh_site.connect(ssh_site.host())
    assert await (await connection.start("true")).wait() == 3
    with pytest.raises(NoFurtherSession, match="web1 refuses a further session") as caught:
        await connection.start("true")
    assert caught.value.hint == "see MaxSessions of its sshd"
    await connection.close()
    with pytest.raises(ConnectionLost, match="web1 cannot start a command"):
        await connection.start("true")


async def test_a_jump_host_carries_the_connection(ssh_site: Site) -> None:
    """It once was logged in to, and then the host was connected to directly."""
    here = f"127.0.0.1:{ssh_site.port}"
    connection = await ssh_site.connect(ssh_site.host(f'proxy_jump = "{here},{here}"'))
    assert ssh_site.passed == [("127.0.0.1", ssh_site.port)] * 2
    assert ssh_site.logins == 3
    assert await (await connection.start("true")).wait() == 3
    await connection.close()


async def test_what_was_opened_on_the_way_is_closed_again(ssh_site: Site) -> None:
    """A jump host must not keep a connection for each host that it cannot reach."""
    host = ssh_site.host(f'proxy_jump = "127.0.0.1:{ssh_site.port}"', port=1)
    error = await ssh_site.refusal(host)
    assert "the jump host cannot reach it: " in error.message
    assert ssh_site.passed == [("127.0.0.1", 1)]
    async with asyncio.timeout(20):
        await ssh_site.closed.wait()
    assert (ssh_site.logins, ssh_site.open) == (1, 0)
