"""Temporary SSH servers on 127.0.0.1, for the demo, the tests and the benchmark: they need no root and no hosts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sloth.transport.local import close_pipes

AGAIN = 20.0  # seconds to wait for a port that is taken

if TYPE_CHECKING:
    import asyncssh


class _Source(Protocol):
    async def read(self, n: int, /) -> bytes: ...


class _Target(Protocol):
    def write(self, data: bytes, /) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None: ...


class LoopbackFleet:
    """An async context manager: one SSH server for each name, with a home of its own, all in this process.

    Commands run as the user who started it, by `shell`, with HOME set. `directory` holds homes, keys and known_hosts.
    """

    def __init__(self, names: Sequence[str], directory: Path) -> None:
        self.names = tuple(names)
        self.directory = directory
        self.homes = {name: directory / "homes" / name for name in names}
        self.ports: dict[str, int] = {}
        self.key_file = directory / "id_ed25519"
        self.known_hosts = directory / "known_hosts"
        self.shell: tuple[str, ...] = ("/bin/sh", "-c")
        self.environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        self._servers: dict[str, asyncssh.SSHAcceptor] = {}
        self._connections: dict[str, set[asyncssh.SSHServerConnection]] = {name: set() for name in names}
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> LoopbackFleet:
        import asyncssh

        self.directory.mkdir(parents=True, exist_ok=True)
        client = asyncssh.generate_private_key("ssh-ed25519")
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        client.write_private_key(self.key_file)
        self.key_file.chmod(0o600)
        self._authorized = asyncssh.import_authorized_keys(client.export_public_key().decode())
        for name in self.names:
            self.homes[name].mkdir(parents=True, mode=0o700, exist_ok=True)
            await self.start(name)
        public = " ".join(self.host_key.export_public_key().decode().split()[:2])
        self.known_hosts.write_text("".join(f"[127.0.0.1]:{port} {public}\n" for port in self.ports.values()))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for name in list(self._servers):
            await self.stop(name)
        # A command may outlive its connection, but not the fleet.
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def start(self, name: str) -> None:
        """Start the server of `name`, on the port it had before if it had one."""
        end = asyncio.get_running_loop().time() + AGAIN
        while True:
            try:
                self._servers[name] = await self._listen(name)
                break
            except OSError as error:
                # Meanwhile the kernel may have given the port to somebody's connection.
                if error.errno != errno.EADDRINUSE or asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(0.2)
        self.ports[name] = self._servers[name].get_port()

    async def _listen(self, name: str) -> asyncssh.SSHAcceptor:
        import asyncssh

        return await asyncssh.listen(
            "127.0.0.1",
            self.ports.get(name, 0),
            server_factory=lambda: _server(self._connections[name]),
            server_host_keys=[self.host_key],
            authorized_client_keys=self._authorized,
            process_factory=lambda process: self._serve(name, process),
            encoding=None,
            line_editor=False,
        )

    async def stop(self, name: str) -> None:
        """Stop the server of `name` and cut its connections."""
        server = self._servers.pop(name)
        server.close()
        self.cut(name)
        await server.wait_closed()

    def cut(self, name: str) -> None:
        """Abort every connection to `name`."""
        for connection in list(self._connections[name]):
            connection.abort()

    def inventory_toml(self) -> str:
        """Return an inventory of the fleet: [defaults] and [hosts]."""
        lines = [
            "[defaults]",
            f'identity_file = "{self.key_file}"',
            f'known_hosts = "{self.known_hosts}"',
            "ssh_config = false",
            "",
        ]
        for name in self.names:
            lines += [f"[hosts.{name}]", 'address = "127.0.0.1"', f"port = {self.ports[name]}", ""]
        return "\n".join(lines)

    async def _serve(self, name: str, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run one command as sshd would."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        child = await asyncio.create_subprocess_exec(
            *self.shell,
            process.command or "exit 1",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self.environment, "HOME": str(self.homes[name])},
            cwd=self.homes[name],
            start_new_session=True,
        )
        feeding = asyncio.create_task(_pump(process.stdin, child.stdin, True))
        try:
            await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
            status = await child.wait()
            process.exit(status if status >= 0 else 128 - status)
        finally:
            feeding.cancel()
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGHUP)
            close_pipes(child)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), 2)


async def _pump(source: _Source | None, target: _Target | None, close: bool = False) -> None:
    """Copy a stream until either end closes."""
    assert source is not None
    assert target is not None
    with contextlib.suppress(Exception):  # whoever waits for the process finds out
        while data := await source.read(256 * 1024):
            target.write(data)
            await target.drain()
    if close:
        target.close()


def _server(connections: set[asyncssh.SSHServerConnection]) -> asyncssh.SSHServer:
    import asyncssh

    class Server(asyncssh.SSHServer):
        """Keeps track of its connections, so that they can be cut."""

        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._connection = conn
            connections.add(conn)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.discard(self._connection)

        def connection_requested(self, *_: object) -> bool:
            """Be a jump host."""
            return True

    return Server()
