"""The S3 of moto, a second dialect: an If-Match of what is not there is answered with 404."""

from __future__ import annotations

from pathlib import Path

from tests.support.server import Server, free_ports, program

BUCKET = "team"


class MotoServer(Server):
    """A server that keeps everything in memory and takes every key."""

    def __init__(self, directory: Path) -> None:
        [self.port] = free_ports(1)
        command = [program("moto_server"), "-H", "127.0.0.1", "-p", str(self.port)]
        super().__init__(command, directory, f"http://127.0.0.1:{self.port}/moto-api/")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}?endpoint={self.endpoint}"
