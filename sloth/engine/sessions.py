"""Opens every session, for runs and for queries: one connection a host, one payload an account."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING

from sloth.errors import BecomeError, HostError
from sloth.frozen import frozen
from sloth.inventory import ConnectionType, Host
from sloth.passwords import Passwords
from sloth.payload.kernel.record import ReplicaChange, ReplicaPosition
from sloth.payload.session.messages import VERSION, Hello, Ready
from sloth.state.author import who
from sloth.state.group_commit import GroupCommit
from sloth.state.memory import Known, Memory, Seen
from sloth.state.patience import patiently
from sloth.transport import (
    Become,
    Bootstrap,
    Connection,
    Listener,
    LocalConnection,
    NoFurtherSession,
    Session,
    bundle,
    connector,
    engine_connection,
    printed_password,
)

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject
    from sloth.transport import Connector

BOOTSTRAP = 30.0  # seconds from the start of the command on the host to its first sign of life


@frozen
class Purpose:
    """What sessions are for; the hosts record it. lock_wait: seconds."""

    run: str
    site: str = ""  # the site's identity; "": no run of one
    check: bool = False
    adopt: bool = False
    readonly: bool = False
    lock_wait: float = 10.0
    shared: bool = False  # several sessions may write to one state: see Hello
    passwords: Passwords = Passwords()
    custom: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    calls: Collection[str] = ()  # the names of those that will be made, as far as they are known


class Sessions:
    """The connections of one run or query."""

    def __init__(self, purpose: Purpose, memory: Memory, hosts: Iterable[Host]) -> None:
        self._purpose = purpose
        self._memory = memory
        self._commits = GroupCommit(memory)
        self._known = memory.known([host.name for host in hosts])
        self._connector: Connector | None = None  # made for the first host that SSH leads to
        self._connections: dict[str, asyncio.Task[Connection]] = {}
        self._lost_links: dict[str, int] = {}
        self._machines: dict[str, str] = {}  # which a host is, as its last session has found
        self._printed: dict[str, asyncio.Task[str]] = {}  # by become_password_command
        self._further: dict[str, list[Connection]] = {}  # to hosts that allow few sessions on one
        self._fresh: dict[str, list[Connection]] = {}  # see open_fresh()
        self.print_password = printed_password  # runs a become_password_command of this machine
        self.worker = ""  # the name of this machine, where it is not that of the run
        self._bundle = bundle.build(purpose.custom, memory.directory)
        self._hello = Hello(
            v=VERSION,
            agent="",
            run=purpose.run,
            site=purpose.site,
            who=who(),
            origin=socket.gethostname(),
            check=purpose.check,
            adopt=purpose.adopt,
            readonly=purpose.readonly,
            lock_wait=purpose.lock_wait,
            shared=purpose.shared,
        )

    def came_from(self, who: str, origin: str) -> None:
        """Let hosts record who works on them, and from where: a worker does not work for its own user."""
        self._hello = self._hello.replace(who=who, origin=origin)

    def known(self, name: str) -> Known:
        """Return what the controller remembers of an agent."""
        return self._known.get(name) or Known()

    async def open(
        self, host: Host, account: str, listener: Listener, on_connecting: Callable[[], None] = lambda: None
    ) -> Session:
        """Start a payload on `host` as `account` ("": the one we log in as). Raises HostError."""
        connection = await asyncio.shield(self.begin(host, on_connecting))
        try:
            return await self._start(connection, host, account, listener)
        except NoFurtherSession:
            connection = await self._connect(host)
            self._further.setdefault(host.name, []).append(connection)
            return await self._start(connection, host, account, listener)

    def begin(self, host: Host, on_connecting: Callable[[], None]) -> asyncio.Task[Connection]:
        """Begin to connect to `host`, unless that has begun; open() waits for it, and disconnect() ends it."""
        if host.name not in self._connections:
            on_connecting()
            self._connections[host.name] = asyncio.create_task(self._connect(host))
        return self._connections[host.name]

    async def open_fresh(self, host: Host, account: str, listener: Listener) -> Session:
        """Start a payload over a new connection of its own. Raises HostError."""
        connection = await self._connect(host)
        self._fresh.setdefault(host.name, []).append(connection)
        return await self._start(connection, host, account, listener)

    async def close_fresh(self, host: Host) -> None:
        """Close the connections of open_fresh()."""
        for connection in self._fresh.pop(host.name, ()):
            await connection.close()

    async def shell(self, host: Host, script: str, limit: float) -> tuple[int | None, bytes, str]:
        """Run a shell script on a host that may have no Python, as the account of its tasks. Raises HostError.

        Return its exit status, stdout, and the end of its stderr; limit: seconds for all of it.
        """
        connection = await self._connect(host)
        try:
            become: Become | None = None
            if host.become:
                become = Become(host.become, await self._become_password(host), host.become_method)
            starter = Bootstrap(host.name, self._bundle, known=True, become=become, timeout=BOOTSTRAP)
            async with asyncio.timeout(limit):
                return await starter.shell(connection, script)
        except TimeoutError:
            raise HostError(f"{host.name}: the command did not end within {limit:g} seconds") from None
        finally:
            await connection.close()

    async def _start(self, connection: Connection, host: Host, account: str, listener: Listener) -> Session:
        """Start a payload over a connection. Raises HostError."""
        known = self.known(agent_name(host, account))
        become: Become | None = None
        if account:
            become = Become(account, await self._become_password(host), host.become_method)
        bootstrap = Bootstrap(
            host.name,
            self._bundle,
            known=known.payload == self._bundle.sha256,
            python=host.python,
            become=become,
            timeout=BOOTSTRAP,
            calls=self._purpose.calls,
        )
        position = ReplicaPosition(id=known.store_id, seq=known.seq)
        session = Session(
            connection,
            bootstrap,
            self._hello.replace(
                agent=host.name,
                replica=position,
                link=self._lost_links.get(host.name, 0),
                machine=self._machines.get(host.name, ""),
            ),
            listener,
        )
        session.ready.add_done_callback(lambda ready: self._note_machine(host.name, ready))
        try:
            await session.open()
        except BaseException:
            await session.abort()
            raise
        return session

    def _note_machine(self, host: str, ready: asyncio.Future[Ready]) -> None:
        """Remember which machine a host is: one that answers at its address later must be the same."""
        if not ready.cancelled() and ready.exception() is None and ready.result().machine:
            self._machines[host] = ready.result().machine

    async def _become_password(self, host: Host) -> str | None:
        """Return the password for becoming another account on `host`, None if there is none. Raises BecomeError."""
        command = host.become_password_command
        if self._purpose.passwords.become is not None or command is None:
            return self._purpose.passwords.become
        if command not in self._printed:  # all hosts share it, and the user may be asked for something
            self._printed[command] = asyncio.create_task(self.print_password(command))
        try:
            return await asyncio.shield(self._printed[command])
        except BecomeError as error:
            raise BecomeError(f"{host.name}: {error.message}", hint=error.hint) from error

    async def _connect(self, host: Host) -> Connection:
        if self.worker and host.connection is not ConnectionType.SSH:
            raise HostError(
                f"{host.name}: connection {host.connection.value} means the machine of the run, and the worker "
                f"{self.worker} is another one",
                hint="reach it by SSH, or run without --engine",
            )
        if host.connection is ConnectionType.LOCAL:
            return LocalConnection()
        if host.connection is not ConnectionType.SSH:
            return await engine_connection(host)
        if self._connector is None:
            self._connector = connector(self._purpose.passwords.login)
        return await self._connector.connect(host)

    async def reconnect(self, host: Host) -> None:
        """Close the connections to `host`, which were lost; the next session makes a new one."""
        self._lost_links[host.name] = self._lost_links.get(host.name, 0) + 1
        await self.disconnect(host)

    async def disconnect(self, host: Host) -> None:
        """Close the connections to `host`, if there are any."""
        await self.close_fresh(host)
        for connection in self._further.pop(host.name, ()):
            await connection.close()
        task = self._connections.pop(host.name, None)
        if task is None:
            return
        if not task.done():
            task.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await (await task).close()

    async def close(self) -> None:
        """Close what is left."""
        if self._connector is not None:
            await self._connector.close()

    async def remember(
        self,
        host: Host,
        account: str,
        replica: ReplicaChange | None,
        rows: Iterable[JsonObject] | None,
        shipped: Iterable[str],
        is_hurried: Callable[[], bool],
    ) -> None:
        """Keep what a session taught us: the payload is there, these contents are, and the state's changes.

        is_hurried: whether to give up when another process holds a file. Raises StateError.
        """
        name = agent_name(host, account)
        known = self.known(name)
        all_rows = tuple(rows) if rows is not None else None
        seen = Seen(name, self._bundle.sha256, frozenset(shipped), replica, all_rows, known.seq)
        await self._commits.keep(await patiently(partial(self._memory.replicate, seen), is_hurried), is_hurried)


def agent_name(host: Host, account: str) -> str:
    """Return the name under which an account of a host is remembered."""
    return f"{host.name}@{account}" if account and account != (host.become or "") else host.name
