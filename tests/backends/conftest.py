"""The servers that backends are tested with: real ones, but for Consul, of which there is a stub."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar
from unittest import mock

import pytest

from sloth.state.backends.backend import Backend
from sloth.state.backends.location import open_backend, parse
from sloth.state.keys import Keys
from tests.support.buckets import create_bucket
from tests.support.consul import ConsulStub
from tests.support.etcd import EtcdServer
from tests.support.moto import MotoServer
from tests.support.rclone import RcloneServer
from tests.support.seaweed import BUCKET, KEY, SECRET, SeaweedServer
from tests.support.server import Server

FERNET = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="  # a key for tests, of no secret
S = TypeVar("S", bound=Server)
KINDS = ("sqlite", "etcd", "seaweed", "moto", "consul")


@contextlib.contextmanager
def running(server: S) -> Iterator[S]:
    """Start a server, and end it afterwards."""
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """A real etcd."""
    with running(EtcdServer(tmp_path_factory.mktemp("etcd"))) as server:
        yield server


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A real SeaweedFS with a bucket."""
    with running(SeaweedServer(tmp_path_factory.mktemp("seaweed"))) as server:
        create_bucket(server.endpoint, BUCKET)
        yield server


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """The S3 of moto with a bucket."""
    with running(MotoServer(tmp_path_factory.mktemp("moto"))) as server:
        create_bucket(server.endpoint, BUCKET)
        yield server


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneServer]:
    """The S3 of rclone with a bucket."""
    with running(RcloneServer(tmp_path_factory.mktemp("rclone"))) as server:
        yield server


@pytest.fixture
def consul_stub() -> Iterator[ConsulStub]:
    """A stub of Consul."""
    stub = ConsulStub()
    stub.start()
    yield stub
    stub.kill()


@pytest.fixture(autouse=True)
def credentials(tmp_path: Path) -> Iterator[None]:
    """The environment that the servers need, and nothing of whoever runs the tests."""
    environment = {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "SLOTH_KEY": FERNET,
        "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }  # fmt: skip
    with mock.patch.dict("os.environ", environment):
        yield


@pytest.fixture(params=KINDS)
def server_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each kind of server, with a prefix that nobody has used."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/shared.db"
    name = {"etcd": "etcd_server", "seaweed": "seaweed_server", "moto": "moto_server", "consul": "consul_stub"}
    url: str = request.getfixturevalue(name[request.param]).url(secrets.token_hex(4))
    return url


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
def backend_keys(request: pytest.FixtureRequest, server_url: str) -> Keys | None:
    """No keys, or those of the environment."""
    if request.param and not server_url.startswith(("sqlite", "etcd")) and "SLOTH_ATTACK_ROUNDS" not in os.environ:
        pytest.skip(
            "what is in the values does not matter to the server; SLOTH_ATTACK_ROUNDS=200 tries it all the same"
        )
    return Keys() if request.param else None


@pytest.fixture
async def opened(server_url: str, backend_keys: Keys | None) -> AsyncIterator[Callable[[], Backend]]:
    """Open the backend, as often as one likes."""
    backends: list[Backend] = []

    def open_another() -> Backend:
        backends.append(open_backend(parse(server_url), backend_keys))
        return backends[-1]

    yield open_another
    for one in backends:
        await one.close()


@pytest.fixture
def any_backend(opened: Callable[[], Backend]) -> Backend:
    """A backend of each kind, plain and sealed."""
    return opened()
