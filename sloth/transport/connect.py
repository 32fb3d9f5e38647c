"""One attempt to connect to one host: reads ~/.ssh/config, checks the host key, explains every way to fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from sloth.errors import AuthError, ConnectError, HostKeyError, Unreachable
from sloth.inventory import Host
from sloth.transport import algorithms, asyncssh_import
from sloth.transport.corked import cork
from sloth.transport.host_keys import HostKeys
from sloth.transport.proxy import Proxy
from sloth.transport.ssh_config import Target

if TYPE_CHECKING:
    import asyncssh

    from sloth.transport.ssh import Connector

TOGETHER = 0.01  # seconds that the import of asyncssh, which blocks the event loop, waits for other hosts' connects
KEEPALIVE = 15  # seconds; three unanswered ones in a row end the connection
# Options of asyncssh, and the keywords of ssh_config that they correspond to.
_ALGORITHMS = {
    "kex_algs": "kexalgorithms",
    "encryption_algs": "ciphers",
    "mac_algs": "macs",
    "server_host_key_algs": "hostkeyalgorithms",
    "signature_algs": "pubkeyacceptedalgorithms",
}
_AUTHENTICATION = {
    "public_key_auth": "pubkeyauthentication",
    "password_auth": "passwordauthentication",
    "kbdint_auth": "kbdinteractiveauthentication",
}

Options: TypeAlias = dict[str, Any]  # the keyword arguments of asyncssh.connect()


class HungUp(Exception):
    """The server closed the connection before the handshake began."""


class ConnectAttempt:
    """One attempt to connect. It notes how far it came, so that the error after its deadline can name the phase."""

    def __init__(
        self, connector: Connector, host: Host, target: Target, tunnel: asyncssh.SSHClientConnection | None
    ) -> None:
        """host: the policies of the inventory; target: where to connect to, which may be a jump host."""
        self._connector = connector
        self._host = host
        self._target = target
        self._tunnel = tunnel
        name = host.name if target.name == host.address else target.name
        usual = name == target.host and (target.port == 22 or not name)
        self.title = name if usual else f"{name} ({target.host}:{target.port})"
        self.proxy: Proxy | None = None  # carries the connection; whoever closes the connection must close it
        self._host_keys = HostKeys(connector, host, target, self.title)
        self._phase = "connecting"
        self._has_answered = False
        self.authenticating_since = 0.0  # by the event loop's clock
        self._early: socket.socket | None = None

    async def run(self, deadline: float) -> asyncssh.SSHClientConnection:
        """Return the connection; deadline: by the event loop's clock. Raises HungUp, and what connect() raises."""
        try:
            return await self._attempt(deadline)
        except BaseException as error:
            if self.proxy is not None:
                printed = await self.proxy.explain() if isinstance(error, HungUp) else ""
                self.proxy.close()
                await self.proxy.wait_closed()
                if printed:
                    raise HungUp(printed) from None
            raise
        finally:
            if self._early is not None:  # it was not used
                self._early.close()

    async def _attempt(self, deadline: float) -> asyncssh.SSHClientConnection:
        loop = asyncio.get_running_loop()
        if self._tunnel is None and self._target.proxy_command is None:
            # The server starts a process for the connection meanwhile; the import of asyncssh takes as long.
            with contextlib.suppress(OSError):  # it is tried again below, where its errors are explained
                async with asyncio.timeout(max(0.1, deadline - loop.time())):
                    self._early = await _connected_socket(self._target)
            if not asyncssh_import.is_loaded():
                await asyncio.sleep(TOGETHER)
        asyncssh_import.load()
        import asyncssh

        left = max(0.1, deadline - loop.time())
        try:
            async with asyncio.timeout(left):
                return await self._run()
        except TimeoutError:
            raise ConnectError(
                f"{self.title}: {self._phase} took longer than {self._host.connect_timeout:g} seconds",
                hint="check the address, and whether a firewall drops packets; connect_timeout sets the limit",
            ) from None
        except asyncssh.HostKeyNotVerifiable as error:
            raise self._host_keys.refused or HostKeyError(f"{self.title}: {error}") from None
        except asyncssh.PermissionDenied as error:
            raise self._denied(error) from None
        except (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError) as error:
            if not self._has_answered:
                raise HungUp(str(error)) from None
            raise ConnectError(f"{self.title}: the connection was lost while {self._phase}: {error}") from None
        except asyncssh.KeyExchangeFailed as error:
            raise ConnectError(f"{self.title}: no common algorithms: {error}") from None
        except asyncssh.ChannelOpenError as error:
            raise ConnectError(f"{self.title}: the jump host cannot reach it: {error.reason}") from None
        except asyncssh.ProtocolNotSupported as error:
            raise ConnectError(f"{self.title} is not an SSH server: {error}") from None
        except asyncssh.DisconnectError as error:
            if not self._has_answered:
                raise HungUp(str(error)) from None
            raise ConnectError(f"{self.title}: {error.reason}") from None
        except socket.gaierror as error:
            raise ConnectError(
                f"{self.title}: the name {self._target.host} cannot be resolved: {error.strerror}",
                hint="check address in the inventory",
            ) from None
        except asyncssh.KeyImportError as error:
            raise ConnectError(f"{self.title}: a key cannot be read: {error}") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectError(f"{self.title}: {reason[:1].lower()}{reason[1:]}") from None

    async def _run(self) -> asyncssh.SSHClientConnection:
        import asyncssh

        given = self._given()
        sock: socket.socket | None = None
        if self._tunnel is None and self._target.proxy_command is not None:
            self.proxy = await Proxy.start(self._target.proxy_command)
            sock = self.proxy.sock
        elif self._tunnel is None:
            early, self._early = self._early, None
            sock = early or await _connected_socket(self._target)
        self._phase = "the key exchange"
        options = await asyncssh.SSHClientConnectionOptions.construct(**given)
        # connect() has its own ideas of a tunnel, even where the options name one: without it here there is none.
        arguments: Options = {"options": options, "config": None, "tunnel": self._tunnel}
        if sock is not None:
            arguments["sock"] = sock
        return await asyncssh.connect(self._target.host, self._target.port, **arguments)

    def _given(self) -> Options:
        """Return everything about the connection as options of asyncssh, which is to read no configuration itself."""
        host, target = self._host, self._target
        given: Options = {
            "config": None,
            "host": target.host,
            "port": target.port,
            "username": target.user,
            "client_factory": lambda: _client_class()(self),
            "known_hosts": self._host_keys.match,
            "host_key_alias": target.known_name if target.is_alias else None,
            "keepalive_interval": KEEPALIVE,
            "keepalive_count_max": 3,
            "login_timeout": host.connect_timeout,
            "connect_timeout": None,
            "gss_auth": False,
            "gss_kex": False,
            "compression_algs": None,
            "tunnel": None,
            "proxy_command": None,
            "agent_forwarding": target.forward_agent,
            "env": list(target.environment) or None,
            "send_env": [name for name in target.send_env if not name.startswith("-")] or None,
            "pkcs11_provider": target.pkcs11_provider,
        }
        for option, keyword in _ALGORITHMS.items():
            setting = target.algorithms.get(keyword)
            if setting is not None or keyword in ("kexalgorithms", "ciphers"):
                given[option] = algorithms.chosen(keyword, setting)
        if not self._host_keys.has_authority() and (not self._host_keys.match()[0] or "server_host_key_algs" in given):
            # A certificate that nobody vouches for is no more than its key, which may be known, or be accepted.
            names = given.get("server_host_key_algs") or algorithms.chosen("hostkeyalgorithms", None)
            given["server_host_key_algs"] = [name for name in names if "-cert-v0" not in name]
        for option, keyword in _AUTHENTICATION.items():
            if keyword in target.authentication:
                given[option] = target.authentication[keyword] not in ("no", "false")
        if "preferredauthentications" in target.authentication:
            given["preferred_auth"] = target.authentication["preferredauthentications"]
        given["password"] = os.environ.get(host.password_env) if host.password_env else self._connector.password
        given.update(self._connector.identities.options(self._host, target))
        return given

    # What the client reports on the way

    def authenticating(self) -> None:
        """Note that the host key was accepted."""
        self._has_answered = True
        self._phase = "authentication"
        self.authenticating_since = self.authenticating_since or asyncio.get_running_loop().time()

    def accept(self, key: asyncssh.SSHKey) -> bool:
        """Decide about a host key that is not among the trusted ones."""
        self._has_answered = True
        return self._host_keys.accept(key)

    def _denied(self, error: Exception) -> Unreachable:
        host = self._host
        tried, hint = self._connector.identities.describe(host, self._target)
        if host.password_env is None and self._connector.password is not None:
            tried.append("the password")
        elif host.password_env:
            known = os.environ.get(host.password_env)
            tried.append("the password" if known else f"no password, since ${host.password_env} is not set")
        return AuthError(
            f"{self.title} does not let {self._target.user} in (tried {' and '.join(tried)})",
            hint=hint or "check its authorized_keys, and user and identity_file in the inventory",
        )


async def _connected_socket(target: Target) -> socket.socket:
    """Return a connected socket. We connect it ourselves so that a refusal and a timeout can be told apart."""
    loop = asyncio.get_running_loop()
    wanted = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(target.address_family, socket.AF_UNSPEC)
    to, port = target.host, target.port
    try:
        try:  # a numeric address needs no resolver, nor a thread for it
            found = socket.getaddrinfo(to, port, wanted, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = await loop.getaddrinfo(to, port, family=wanted, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "a part of it is empty or too long") from None
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            if target.bind_address is not None:
                _bind(sock, target.bind_address)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
            continue
        except BaseException:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    assert failure is not None  # no name has no address: that is an error
    raise OSError(failure.errno, os.strerror(failure.errno)) if failure.errno else failure


def _bind(sock: socket.socket, address: str) -> None:
    try:
        sock.bind((address, 0))
    except TypeError:  # Python's answer to what cannot be a name
        raise OSError(f"cannot connect from {address} (BindAddress): it is no address") from None
    except OSError as error:
        raise OSError(f"cannot connect from {address} (BindAddress): {error.strerror}") from None


@cache
def _client_class() -> Callable[[ConnectAttempt], asyncssh.SSHClient]:
    """Return the class of clients; it needs asyncssh, which is imported late."""
    import asyncssh

    class Client(asyncssh.SSHClient):
        """Reports to the attempt how far it came."""

        def __init__(self, attempt: ConnectAttempt) -> None:
            self._attempt = attempt

        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            cork(conn)

        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            return self._attempt.accept(key)

        def begin_auth(self, username: str) -> None:
            self._attempt.authenticating()

        def public_key_auth_requested(self) -> None:
            self._attempt.authenticating()
            return None

        def auth_completed(self) -> None:
            self._attempt.authenticating()

    return Client
