"""One attempt to connect to one host: reads ~/.ssh/config, checks the host key, explains every way to fail."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sloth.errors import AuthError, ConnectError, HostKeyError, Unreachable
from sloth.inventory import Host
from sloth.transport import asyncssh_import

if TYPE_CHECKING:
    import asyncssh

    from sloth.transport.ssh import Connector

TOGETHER = 0.01  # seconds that the import of asyncssh, which blocks the event loop, waits for other hosts' connects
KEEPALIVE = 15  # seconds; three unanswered ones in a row end the connection
# These come first, then whatever else asyncssh has: an order, not a ban. They were measured to need the least CPU time.
FAST_KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
FAST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")


Options: TypeAlias = dict[str, Any]  # the keyword arguments of asyncssh.connect()


class HungUp(Exception):
    """The server closed the connection before the handshake began."""


class ConnectAttempt:
    """One attempt to connect. It notes how far it came, so that the error after its deadline can name the phase."""

    def __init__(self, connector: Connector, host: Host, tunnel: asyncssh.SSHClientConnection | None) -> None:
        self._connector = connector
        self._host = host
        self._tunnel = tunnel
        self.target = host.name
        self._phase = "connecting"
        self._refused: HostKeyError | None = None
        self._has_answered = False
        self._early: socket.socket | None = None

    async def run(self, deadline: float) -> asyncssh.SSHClientConnection:
        """Return the connection; deadline: by the event loop's clock. Raises HungUp, and what connect() raises."""
        try:
            return await self._attempt(deadline)
        finally:
            if self._early is not None:  # it was not used
                self._early.close()

    async def _attempt(self, deadline: float) -> asyncssh.SSHClientConnection:
        loop = asyncio.get_running_loop()
        if self._tunnel is None and _is_plain(self._host):
            # The server starts a process for the connection meanwhile; the import of asyncssh takes as long.
            with contextlib.suppress(OSError):  # it is tried again below, where its errors are explained
                async with asyncio.timeout(max(0.1, deadline - loop.time())):
                    self._early = await _connected_socket(self._host.address, self._host.port or 22)
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
                f"{self.target}: {self._phase} took longer than {self._host.connect_timeout:g} seconds",
                hint="check the address, and whether a firewall drops packets; connect_timeout sets the limit",
            ) from None
        except asyncssh.HostKeyNotVerifiable as error:
            raise self._refused or HostKeyError(f"{self.target}: {error}") from None
        except asyncssh.PermissionDenied as error:
            raise self._denied(error) from None
        except (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError) as error:
            if not self._has_answered:
                raise HungUp(str(error)) from None
            raise ConnectError(f"{self.target}: the connection was lost while {self._phase}: {error}") from None
        except asyncssh.KeyExchangeFailed as error:
            raise ConnectError(f"{self.target}: no common algorithms: {error}") from None
        except asyncssh.ChannelOpenError as error:
            raise ConnectError(f"{self.target}: the jump host cannot reach it: {error.reason}") from None
        except asyncssh.ProtocolNotSupported as error:
            raise ConnectError(f"{self.target} is not an SSH server: {error}") from None
        except asyncssh.DisconnectError as error:
            if not self._has_answered:
                raise HungUp(str(error)) from None
            raise ConnectError(f"{self.target}: {error.reason}") from None
        except socket.gaierror as error:
            raise ConnectError(
                f"{self.target}: the name {self._host.address} cannot be resolved: {error.strerror}",
                hint="check address in the inventory",
            ) from None
        except (asyncssh.ConfigParseError, asyncssh.KeyImportError) as error:
            raise ConnectError(f"{self.target}: the SSH configuration or a key cannot be read: {error}") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectError(f"{self.target}: {reason[:1].lower()}{reason[1:]}") from None

    async def _run(self) -> asyncssh.SSHClientConnection:
        import asyncssh

        given = self._given()
        options = await asyncssh.SSHClientConnectionOptions.construct(**given)
        given.update(_preferred(options))
        files = tuple(str(Path(name).expanduser()) for name in _names(options.known_hosts))
        self.known_files = files or (str(Path("~/.ssh/known_hosts").expanduser()),)
        given["known_hosts"] = self._connector.known_hosts(self.known_files)
        self.user, self.address, self.port = options.username, options.host, options.port
        is_address = self._host.name == self.address
        self.target = self._host.name if is_address else f"{self._host.name} ({self.address}:{self.port})"
        sock: socket.socket | None = None
        if self._tunnel is not None:
            given["tunnel"] = self._tunnel
        elif not options.proxy_command:
            early, self._early = self._early, None
            sock = early or await _connected_socket(self.address, self.port)
        self._phase = "the key exchange"
        # Constructed again: asyncssh.connect() with `options` takes everything from there.
        final = await asyncssh.SSHClientConnectionOptions.construct(**given)
        arguments: Options = {"options": final, "config": given.get("config", ())}
        if sock is not None:
            arguments["sock"] = sock
        return await asyncssh.connect(self._host.address, **arguments)

    def _given(self) -> Options:
        """Return what the inventory says about the connection, as options of asyncssh."""
        host = self._host
        given: Options = {
            "host": host.address,
            "client_factory": lambda: _client_class()(self),
            "keepalive_interval": KEEPALIVE,
            "keepalive_count_max": 3,
            "login_timeout": host.connect_timeout,
            "connect_timeout": None,
            "gss_auth": False,
            "gss_kex": False,
            "compression_algs": None,
            "tunnel": None,
        }
        if host.ssh_config is False:
            given["config"] = None
        elif host.ssh_config:
            given["config"] = [host.ssh_config]
        if host.port is not None:
            given["port"] = host.port
        if host.user is not None:
            given["username"] = host.user
        if host.identity_files:
            given["client_keys"] = [self._connector.private_key(path) for path in host.identity_files]
        if host.password_env:
            given["password"] = os.environ.get(host.password_env)
        if host.known_hosts:
            given["known_hosts"] = [host.known_hosts]
        return given

    # What the client reports on the way

    def authenticating(self) -> None:
        """Note that the host key was accepted."""
        self._has_answered = True
        self._phase = "authentication"

    def accept(self, key: asyncssh.SSHKey) -> bool:
        """Decide about a host key that is not among the trusted ones: refuse it with a reason, or add it to them."""
        self._has_answered = True
        fingerprint = key.get_fingerprint("sha256")
        name = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        files = " ".join(self.known_files[:1])
        trusted = self._connector.known_hosts(self.known_files).match(
            self.address, "", self.port if self.port != 22 else None
        )[0]
        if trusted:
            self._refused = HostKeyError(
                f"{self.target}: the host key has CHANGED: it is now {fingerprint}, and {files} has another",
                hint=f"if you know why, remove the old one: ssh-keygen -R '{name}' -f {files}",
            )
            return False
        if self._host.host_keys != "accept-new":
            self._refused = HostKeyError(
                f"{self.target}: the host key is unknown: {fingerprint}",
                hint=f"compare it, then add it: ssh-keyscan -p {self.port} {self.address} >> {files}; "
                'or set host_keys = "accept-new"',
            )
            return False
        try:
            _append(self.known_files[0], name, key)
        except OSError as error:
            self._refused = HostKeyError(
                f"{self.target}: the new host key cannot be added to {files}: {error.strerror}"
            )
            return False
        self._connector.forget_known_hosts()
        return True

    def _denied(self, error: Exception) -> Unreachable:
        tried = [f"the key{'s' * (len(self._host.identity_files) > 1)} {', '.join(self._host.identity_files)}"]
        if not self._host.identity_files:
            tried = (
                ["the keys of ~/.ssh and of the agent"] if os.environ.get("SSH_AUTH_SOCK") else ["the keys of ~/.ssh"]
            )
        if self._host.password_env:
            known = os.environ.get(self._host.password_env)
            tried.append("the password" if known else f"no password, since ${self._host.password_env} is not set")
        return AuthError(
            f"{self.target} does not let {self.user} in (tried {' and '.join(tried)})",
            hint="check its authorized_keys, and user and identity_file in the inventory",
        )


async def _connected_socket(to: str, port: int) -> socket.socket:
    """Return a connected socket. We connect it ourselves so that a refusal and a timeout can be told apart."""
    loop = asyncio.get_running_loop()
    try:  # a numeric address needs no resolver, nor a thread for it
        found = socket.getaddrinfo(to, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(to, port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
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
    if failure is not None and failure.errno:
        raise OSError(failure.errno, os.strerror(failure.errno))
    raise failure or OSError(f"{to} has no address")


@cache
def _client_class() -> Callable[[ConnectAttempt], asyncssh.SSHClient]:
    """Return the class of clients; it needs asyncssh, which is imported late."""
    import asyncssh

    class Client(asyncssh.SSHClient):
        """Reports to the attempt how far it came."""

        def __init__(self, attempt: ConnectAttempt) -> None:
            self._attempt = attempt

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


def _preferred(options: asyncssh.SSHClientConnectionOptions) -> Options:
    """Return our order of algorithms, unless the user's configuration has one."""
    chosen: Options = {}
    for name, config, fast in (("kex_algs", "KexAlgorithms", FAST_KEX), ("encryption_algs", "Ciphers", FAST_CIPHERS)):
        if options.config.get(config):
            continue
        have = [alg.decode("ascii") for alg in getattr(options, name)]
        chosen[name] = [alg for alg in fast if alg in have] + [alg for alg in have if alg not in fast]
    return chosen


def _names(known_hosts: object) -> list[str]:
    if known_hosts is None or known_hosts == ():
        return []
    return [str(name) for name in known_hosts] if isinstance(known_hosts, (list, tuple)) else [str(known_hosts)]


def _is_plain(host: Host) -> bool:
    """Return whether no ssh_config can override what the inventory says about where the host is."""
    if isinstance(host.ssh_config, str):
        return False
    return host.ssh_config is False or not Path("~/.ssh/config").expanduser().is_file()


def _append(path: str, name: str, key: asyncssh.SSHKey) -> None:
    """Add a key to a known_hosts file, under a lock: other controllers may do the same. Raises OSError."""
    words = key.export_public_key("openssh").decode("ascii").split()
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file.fileno()).st_size
        is_cut = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write(b"\n" * is_cut + f"{name} {words[0]} {words[1]}\n".encode())
