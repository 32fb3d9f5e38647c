"""A real etcd, from the package of Debian."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

from tests.support.server import Server, free_ports, program


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
