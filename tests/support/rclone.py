"""The S3 of rclone, which takes conditions and ignores them: a server that must be refused."""

from __future__ import annotations

from pathlib import Path

from tests.support.seaweed import KEY, SECRET
from tests.support.server import Server, free_ports, program

BUCKET = "team"


class RcloneServer(Server):
    """A server over a directory, with one bucket."""

    def __init__(self, directory: Path) -> None:
        [self.port] = free_ports(1)
        (directory / "data" / BUCKET).mkdir(parents=True)
        command = [
            program("rclone"), "serve", "s3", str(directory / "data"), "--addr", f"127.0.0.1:{self.port}",
            "--auth-key", f"{KEY},{SECRET}", "--config", str(directory / "rclone.conf"),
        ]  # fmt: skip
        super().__init__(command, directory, f"http://127.0.0.1:{self.port}/", {"HOME": str(directory)})

    def url(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{self.port}"
