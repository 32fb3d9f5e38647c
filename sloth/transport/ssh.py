"""Connections by SSH: a limited number is opened at a time, through jump hosts; and commands on them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from sloth.errors import ConnectError, ConnectionLost
from sloth.inventory import Host
from sloth.transport.connect import ConnectAttempt, HungUp
from sloth.transport.connection import NoFurtherSession, Opening, Stderr
from sloth.transport.identities import Identities
from sloth.transport.known_hosts import read_known_hosts
from sloth.transport.ssh_config import Configuration, Target, find_route

if TYPE_CHECKING:
    import asyncssh
    from asyncssh.known_hosts import SSHKnownHosts

CONNECTS = 40  # connections that are opened at once: with hundreds asyncssh stalls, and sshd drops some
TRIES = 5  # an sshd that has reached its MaxStartups closes new connections before it sends anything
MIN_RTT = 148  # where struct tcp_info of Linux has it, in microseconds
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


class Closable(Protocol):
    """What carries a connection: a connection to a jump host, or a ProxyCommand."""

    def close(self) -> None: ...

    async def wait_closed(self) -> None: ...


class SshConnection:
    """A connection to a host; the jump hosts it goes through are disconnected with it."""

    python = None  # stage 1 looks for one

    def __init__(
        self, host: str, connection: asyncssh.SSHClientConnection, before: Sequence[Closable], opening: Opening
    ) -> None:
        """before: what carries it, the outermost first."""
        self.opening = opening
        self._host = host
        self._connection = connection
        self._before = before

    async def start(self, command: str) -> SshProcess:
        """Start `command`. Raises ConnectionLost, ConnectError, NoFurtherSession."""
        import asyncssh

        try:
            process = await asyncio.wait_for(
                self._connection.create_process(command, encoding=None, request_pty=False), START
            )
        except TimeoutError:
            raise ConnectError(f"{self._host} did not start a command within {START:g} seconds") from None
        except (asyncssh.Error, OSError) as error:
            is_closed = self._connection.is_closed() or "closed" in str(error)
            if isinstance(error, asyncssh.ChannelOpenError) and not is_closed:
                raise NoFurtherSession(
                    f"{self._host} refuses a further session: {error.reason}", hint="see MaxSessions of its sshd"
                ) from error
            raise ConnectionLost(f"{self._host} cannot start a command: {error}") from error
        return SshProcess(process)

    async def close(self) -> None:
        closing: list[Closable] = [self._connection, *reversed(self._before)]
        for connection in closing:
            connection.close()
        for connection in closing:
            with contextlib.suppress(Exception, asyncio.TimeoutError):
                await asyncio.wait_for(connection.wait_closed(), 2)


class Connector:
    """Opens connections for a whole run; private keys and known_hosts files are read once."""

    def __init__(self, password: str | None = None, connects: int = CONNECTS) -> None:
        """password: for every host without one of its own; connects: how many are opened at once."""
        self.password = password
        self._slots = asyncio.Semaphore(connects)
        self._known_hosts: dict[tuple[str, ...], SSHKnownHosts] = {}
        self._configurations: dict[str | Literal[False] | None, Configuration] = {}
        self.identities = Identities()

    async def connect(self, host: Host) -> SshConnection:
        """Connect to `host`, through its jump hosts. Raises ConnectError, AuthError, HostKeyError."""
        clock = asyncio.get_running_loop().time
        async with self._slots:
            begun = clock()
            before: list[Closable] = []
            try:
                connection, authenticating = await self._open(host, before)
            except BaseException:
                for carrier in reversed(before):
                    carrier.close()
                raise
        round_trip = None if before else _round_trip(connection)  # the system knows the first of several links
        opening = Opening(authenticating - begun, clock() - authenticating, round_trip)
        return SshConnection(host.name, connection, before, opening)

    async def close(self) -> None:
        """Close what is kept open: nothing."""

    async def _open(self, host: Host, before: list[Closable]) -> tuple[asyncssh.SSHClientConnection, float]:
        """Connect through the jump hosts; return the connection, and when (by the loop's clock) it was authenticated.

        What carries the connection is added to `before`.
        """
        route = await self._route(host)
        tunnel: asyncssh.SSHClientConnection | None = None
        authenticating = 0.0
        for target in route:
            if tunnel is not None:
                before.append(tunnel)
            tunnel, authenticating = await self._connect(host, target, tunnel, before)
        assert tunnel is not None
        return tunnel, authenticating

    async def _route(self, host: Host) -> list[Target]:
        """Return the way to the host, as inventory and ssh_config describe it."""
        if host.ssh_config not in self._configurations:
            self._configurations[host.ssh_config] = Configuration.read(host.ssh_config)
        configuration = self._configurations[host.ssh_config]
        jump = host.proxy_jump if host.proxy_jump is None else host.proxy_jump.strip() or "none"
        find = partial(
            find_route, configuration, host.address, user=host.user, port=host.port, jump=jump, jump_user=host.user
        )
        return await asyncio.to_thread(find) if configuration.runs_commands else find()

    async def _connect(
        self, host: Host, target: Target, tunnel: asyncssh.SSHClientConnection | None, before: list[Closable]
    ) -> tuple[asyncssh.SSHClientConnection, float]:
        """Connect to one host, directly or through `tunnel`; try again while it closes the connection at once."""
        deadline = asyncio.get_running_loop().time() + host.connect_timeout
        number = 0
        while True:
            number += 1
            attempt = ConnectAttempt(self, host, target, tunnel)
            try:
                connection = await attempt.run(deadline)
            except HungUp as error:
                if number == TRIES or asyncio.get_running_loop().time() + 1 > deadline:
                    raise ConnectError(
                        f"{attempt.title} closed the connection before it sent anything: {error}",
                        hint="is it an SSH server, and is its MaxStartups large enough?",
                    ) from None
                await asyncio.sleep(random.uniform(0.1, 0.4) * number)
                continue
            if attempt.proxy is not None:
                before.append(attempt.proxy)
            return connection, attempt.authenticating_since

    def known_hosts(self, files: tuple[str, ...]) -> SSHKnownHosts:
        """Return the contents of those known_hosts files that exist. Raises HostKeyError."""
        if files not in self._known_hosts:
            self._known_hosts[files] = read_known_hosts(files)
        return self._known_hosts[files]

    def forget_known_hosts(self) -> None:
        """Read the known_hosts files again when they are needed: a key was added to one."""
        self._known_hosts.clear()


def _round_trip(connection: asyncssh.SSHClientConnection) -> float | None:
    """Return the shortest round trip that the system has seen, in seconds; None where it does not say."""
    try:
        info = connection.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, MIN_RTT + 4)
        return int.from_bytes(info[MIN_RTT:], sys.byteorder) / 1e6 if len(info) == MIN_RTT + 4 else None
    except (AttributeError, OSError):  # it is not Linux, or no TCP
        return None
