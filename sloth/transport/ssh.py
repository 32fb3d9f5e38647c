"""Connections by SSH: a limited number is opened at a time, through jump hosts; and commands on them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import AuthError, ConnectError, ConnectionLost, HostError, HostKeyError
from sloth.inventory import Host
from sloth.transport import asyncssh_import
from sloth.transport.connect import ConnectAttempt, HungUp
from sloth.transport.connection import Stderr

if TYPE_CHECKING:
    import asyncssh
    from asyncssh.known_hosts import SSHKnownHosts

CONNECTS = 40  # connections that are opened at once: with hundreds asyncssh stalls, and sshd drops some
TRIES = 5  # an sshd that has reached its MaxStartups closes new connections before it sends anything
START = 30.0  # seconds for the host to open a channel and start a command


class SshProcess:
    """A command on a host."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process
        self._stderr = Stderr()
        self._collector = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        with contextlib.suppress(Exception):  # read() reports the end of the connection
            while data := await self._process.stderr.read(4096):
                self._stderr.feed(data)

    async def write(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except Exception as error:  # asyncssh raises its own, BrokenPipeError or ConnectionError
            raise OSError(str(error)) from error

    async def read(self, limit: int) -> bytes:
        import asyncssh

        try:
            return await self._process.stdout.read(limit)
        except (asyncssh.Error, OSError):
            return b""

    def stderr_tail(self) -> str:
        return self._stderr.tail()

    async def stderr_contains(self, text: str, after: int) -> int:
        return await self._stderr.contains(text, after)

    async def wait(self) -> int | None:
        await self._process.wait_closed()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._collector), 1)
        status = self._process.returncode
        return status

    def kill(self) -> None:
        self._process.close()
        self._collector.cancel()


class SshConnection:
    """A connection to a host; the jump hosts it goes through are disconnected with it."""

    python = None  # stage 1 looks for one

    def __init__(
        self, host: str, connection: asyncssh.SSHClientConnection, hops: list[asyncssh.SSHClientConnection]
    ) -> None:
        self._host = host
        self._connection = connection
        self._hops = hops

    async def start(self, command: str) -> SshProcess:
        """Start `command`. Raises ConnectionLost, ConnectError."""
        import asyncssh

        try:
            process = await asyncio.wait_for(
                self._connection.create_process(command, encoding=None, request_pty=False), START
            )
        except TimeoutError:
            raise ConnectError(f"{self._host} did not start a command within {START:g} seconds") from None
        except (asyncssh.Error, OSError) as error:
            raise ConnectionLost(f"{self._host} cannot start a command: {error}") from error
        return SshProcess(process)

    async def close(self) -> None:
        for connection in (self._connection, *reversed(self._hops)):
            connection.close()
        for connection in (self._connection, *reversed(self._hops)):
            with contextlib.suppress(Exception, asyncio.TimeoutError):
                await asyncio.wait_for(connection.wait_closed(), 2)


class Connector:
    """Opens connections for a whole run; private keys and known_hosts files are read once."""

    def __init__(self, connects: int = CONNECTS) -> None:
        """connects: how many are opened at once."""
        self._slots = asyncio.Semaphore(connects)
        self._known_hosts: dict[tuple[str, ...], SSHKnownHosts] = {}
        self._private_keys: dict[str, asyncssh.SSHKey] = {}

    async def connect(self, host: Host) -> SshConnection:
        """Connect to `host`, through its jump hosts. Raises ConnectError, AuthError, HostKeyError."""
        async with self._slots:
            hops: list[asyncssh.SSHClientConnection] = []
            try:
                connection = await self._open(host, hops)
            except BaseException:
                for hop in hops:
                    hop.close()
                raise
        return SshConnection(host.name, connection, hops)

    async def close(self) -> None:
        """Close what is kept open: nothing."""

    async def _open(self, host: Host, hops: list[asyncssh.SSHClientConnection]) -> asyncssh.SSHClientConnection:
        jump = host.proxy_jump
        if jump is None and host.ssh_config is not False:
            jump = _configured_jump(host)
        if not jump or jump.lower() == "none":
            return await self._connect(host, None)
        for hop in jump.split(","):
            hops.append(await self._connect(_hop(host, hop.strip()), hops[-1] if hops else None))
        return await self._connect(host, hops[-1])

    async def _connect(self, host: Host, tunnel: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
        """Connect to one host, directly or through `tunnel`; try again while it closes the connection at once."""
        deadline = asyncio.get_running_loop().time() + host.connect_timeout
        for number in range(1, TRIES + 1):
            attempt = ConnectAttempt(self, host, tunnel)
            try:
                return await attempt.run(deadline)
            except HungUp as error:
                if number == TRIES or asyncio.get_running_loop().time() + 1 > deadline:
                    raise ConnectError(
                        f"{attempt.target} closed the connection before it sent anything: {error}",
                        hint="is it an SSH server, and is its MaxStartups large enough?",
                    ) from None
                await asyncio.sleep(random.uniform(0.1, 0.4) * number)
        raise AssertionError("unreachable")

    def known_hosts(self, files: tuple[str, ...]) -> SSHKnownHosts:
        """Return the contents of those known_hosts files that exist. Raises HostKeyError."""
        import asyncssh

        if files not in self._known_hosts:
            present = [name for name in files if os.path.exists(name)]
            try:
                self._known_hosts[files] = (
                    asyncssh.read_known_hosts(present) if present else asyncssh.import_known_hosts("")
                )
            except (ValueError, OSError) as error:
                raise HostKeyError(f"the known_hosts file {' '.join(present)} cannot be read: {error}") from error
        return self._known_hosts[files]

    def forget_known_hosts(self) -> None:
        """Read the known_hosts files again when they are needed: a key was added to one."""
        self._known_hosts.clear()

    def private_key(self, path: str) -> asyncssh.SSHKey:
        """Return the private key in the file `path`. Raises AuthError."""
        import asyncssh

        if path not in self._private_keys:
            try:
                self._private_keys[path] = asyncssh.read_private_key(path)
            except FileNotFoundError:
                raise AuthError(
                    f"the identity file {path} does not exist", hint="check identity_file in the inventory"
                ) from None
            except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError, OSError) as error:
                # asyncssh has no error of its own for a key that needs a passphrase when none is given.
                if isinstance(error, asyncssh.KeyEncryptionError) or "passphrase" in str(error).lower():
                    raise AuthError(
                        f"the identity file {path} is protected by a passphrase", hint=f"load it with: ssh-add {path}"
                    ) from None
                raise AuthError(f"the identity file {path} cannot be read: {error}") from error
        return self._private_keys[path]


def _configured_jump(host: Host) -> str | None:
    """Return ProxyJump of the user's ssh_config for this host."""
    path = Path(host.ssh_config) if isinstance(host.ssh_config, str) else Path("~/.ssh/config").expanduser()
    if not path.is_file():
        return None
    import getpass

    asyncssh_import.load()
    from asyncssh.config import SSHClientConfig

    arguments = (None, [path], True, False, False, getpass.getuser(), host.user or (), host.address, host.port or ())
    config = SSHClientConfig.load(*arguments)
    jump = config.get("ProxyJump")
    return str(jump) if jump else None


def _hop(host: Host, text: str) -> Host:
    """Return the jump host [user@]name[:port]; its keys and policies are those of the host behind it."""
    user, at, rest = text.rpartition("@")
    name, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit():
        name, port = rest, ""
    if not name:
        raise HostError(f"{host.name}: proxy_jump {text!r} is not user@host:port")
    return Host(
        name=name.strip("[]"),
        address=name.strip("[]"),
        port=int(port) if port else None,
        user=user if at else host.user,
        identity_files=host.identity_files,
        host_keys=host.host_keys,
        known_hosts=host.known_hosts,
        ssh_config=host.ssh_config,
        connect_timeout=host.connect_timeout,
    )
