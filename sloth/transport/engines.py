"""Connections through the tools of containers: docker, podman, chroot and systemd-nspawn run the payload over pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from pathlib import Path

from sloth.errors import ConnectError
from sloth.inventory import ConnectionType, Host
from sloth.transport.local import LocalConnection, LocalProcess

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")


class EngineConnection(LocalConnection):
    """Starts commands in a container of this machine, or in a directory that is the root of a system.

    The host's `address` is the container's name or id, or the directory; its `user` is the account, by default that of
    the engine.
    """

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.python = None  # this machine's own is not the container's
        self._host = host

    async def open(self) -> None:
        """Find out whether commands can be started there. Raises ConnectError."""
        host = self._host
        tool = _TOOLS[host.connection]
        if host.connection is ConnectionType.NSPAWN and not host.address.startswith("/"):
            tool = "systemd-run"
        if shutil.which(tool) is None:
            raise self._error(f"{tool} was not found on this machine", "install it, or change `connection`")
        if host.user is not None and not _USER.match(host.user):
            raise self._error(f"{host.user!r} is not the name of an account")
        if host.connection in (ConnectionType.DOCKER, ConnectionType.PODMAN):
            await self._look_for_container(tool)
        elif host.connection is ConnectionType.CHROOT or host.address.startswith("/"):
            if not host.address.startswith("/") or not (Path(host.address) / "bin/sh").exists():
                raise self._error(f"{host.address} is not the absolute path of a system's root directory")
            if os.geteuid() != 0:
                raise self._error(f"{tool} needs root", "run sloth-runner as root")
        elif not _CONTAINER.match(host.address):
            raise self._error(f"{host.address!r} is not the name of a machine")

    async def start(self, command: str) -> LocalProcess:
        """Start `command` by the container's /bin/sh."""
        return await self._start(*self._prefix(), "/bin/sh", "-c", command)

    def _prefix(self) -> list[str]:
        """Return the command that runs a command there."""
        host, user = self._host, self._host.user
        match host.connection:
            case ConnectionType.CHROOT:
                given = [f"--userspec={user}"] if user else []
                return ["env", "-i", f"PATH={PATH}", "chroot", *given, host.address]
            case ConnectionType.NSPAWN if host.address.startswith("/"):
                given = [f"--user={user}"] if user else []
                # Not registered and in our own control group, it needs no systemd on this machine.
                quiet = ["--quiet", "--register=no", "--keep-unit", "--pipe"]
                return ["systemd-nspawn", *quiet, *given, f"--directory={host.address}"]
            case ConnectionType.NSPAWN:
                given = [f"--uid={user}"] if user else []
                return ["systemd-run", "--quiet", "--pipe", "--wait", *given, f"--machine={host.address}"]
        return [_TOOLS[host.connection], "exec", "-i", *(["-u", user] if user else []), host.address]

    async def _look_for_container(self, tool: str) -> None:
        address = self._host.address
        if not _CONTAINER.match(address):
            raise self._error(f"{address!r} is not the name of a container")
        process = await asyncio.create_subprocess_exec(
            tool,
            "inspect",
            "--format={{.State.Running}}",
            address,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(self._host.connect_timeout):
                said, problem = await process.communicate()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise self._error(f"no answer from {tool} within {self._host.connect_timeout:g} seconds") from None
        if process.returncode != 0:
            lines = problem.decode("utf-8", "replace").strip().splitlines() or ["it does not know the container"]
            raise self._error(f"{tool}: {lines[-1]}", f"see `{tool} ps -a`")
        if said.strip() != b"true":
            raise self._error(f"the container {address} does not run", f"{tool} start {address}")

    def _error(self, text: str, hint: str = "") -> ConnectError:
        return ConnectError(f"{self._host.name}: {text}", hint=hint)


_TOOLS = {
    ConnectionType.DOCKER: "docker",
    ConnectionType.PODMAN: "podman",
    ConnectionType.CHROOT: "chroot",
    ConnectionType.NSPAWN: "systemd-nspawn",
}
