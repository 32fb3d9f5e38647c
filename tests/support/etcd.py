"""A real etcd, from the package of Debian."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.server import Server, free_ports, program

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject


class EtcdServer(Server):
    """One member; more: options of the command."""

    def __init__(self, directory: Path, more: tuple[str, ...] = ()) -> None:
        self.port, peer = free_ports(2)
        url, peers = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{peer}"
        command = [
            program("etcd"), "--name", "s", "--data-dir", str(directory / "data"), "--listen-client-urls", url,
            "--advertise-client-urls", url, "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
            "--initial-cluster", f"s={peers}", *more,
        ]  # fmt: skip
        super().__init__(command, directory, f"{url}/health")

    async def call(self, path: str, **body: object) -> None:
        """Call the gateway, as for users and roles; etcdctl is another package."""

        def work() -> None:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.port}/v3/{path}",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                answer.read()

        await asyncio.to_thread(work)

    def url(self, prefix: str) -> str:
        return f"etcd://127.0.0.1:{self.port}/{prefix}"


class EtcdCluster:
    """Three members."""

    def __init__(self, directory: Path) -> None:
        ports = free_ports(6)
        self.ports, peers = ports[:3], ports[3:]
        members = ",".join(f"m{number}=http://127.0.0.1:{port}" for number, port in enumerate(peers))
        self._members: list[Server] = []
        for number, (port, peer) in enumerate(zip(self.ports, peers, strict=True)):
            own = directory / f"m{number}"
            own.mkdir()
            url = f"http://127.0.0.1:{port}"
            command = [
                program("etcd"), "--name", f"m{number}", "--data-dir", str(own / "data"), "--listen-client-urls", url,
                "--advertise-client-urls", url, "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}", "--initial-cluster", members,
            ]  # fmt: skip
            self._members.append(Server(command, own, f"{url}/health"))

    def start(self) -> None:
        with ThreadPoolExecutor(3) as pool:  # one alone is not ready
            list(pool.map(Server.start, self._members))

    def kill(self) -> None:
        for member in self._members:
            member.kill()

    async def call(self, member: int, path: str, **body: object) -> JsonObject:
        """Call the gateway of a member."""

        def work() -> JsonObject:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.ports[member]}/v3/{path}", json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )  # fmt: skip
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: JsonObject = json.loads(answer.read())
                return found

        return await asyncio.to_thread(work)

    async def status(self, member: int) -> JsonObject:
        """Return what a member reports of itself."""
        return await self.call(member, "maintenance/status")

    def kill_member(self, member: int) -> None:
        """Kill one of the members."""
        self._members[member].kill()

    async def kill_leader(self) -> None:
        """Kill the member that leads."""
        states = [await self.status(number) for number in range(3)]
        leader = states[0]["leader"]
        for state, member in zip(states, self._members, strict=True):
            if state["header"]["member_id"] == leader:
                member.kill()

    def url(self, prefix: str) -> str:
        return f"etcd://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{prefix}"


class EtcdTlsServer(Server):
    """One member that speaks TLS with clients, and wants certificates of them from the same CA."""

    def __init__(self, directory: Path, ca: Path, cert: Path, key: Path) -> None:
        self.port, peer, metrics = free_ports(3)
        url, peers = f"https://127.0.0.1:{self.port}", f"http://127.0.0.1:{peer}"
        command = [
            program("etcd"), "--name", "s", "--data-dir", str(directory / "data"), "--listen-client-urls", url,
            "--advertise-client-urls", url, "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
            "--initial-cluster", f"s={peers}", "--listen-metrics-urls",
            f"http://127.0.0.1:{metrics}", "--cert-file", str(cert), "--key-file", str(key),
            "--trusted-ca-file", str(ca), "--client-cert-auth",
        ]  # fmt: skip
        super().__init__(command, directory, f"http://127.0.0.1:{metrics}/health")
