"""Measures the backends for shared state: a change and a read of a document, and a race of processes."""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sloth.state.backends.documents import Change, change, load
from sloth.state.backends.location import open_backend, parse
from sloth.state.keys import Keys, generate
from tests.support.buckets import create_bucket
from tests.support.consul import ConsulStub
from tests.support.etcd import EtcdServer
from tests.support.moto import MotoServer
from tests.support.seaweed import BUCKET, KEY, SECRET, SeaweedServer

ROUNDS = 200
PROCESSES, EACH = 10, 20
ROOT = Path(__file__).parent.parent


def table(directory: Path) -> list[str]:
    """Return the lines of the section."""
    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    lines = [
        "## Backends: shared values on each kind of server, on loopback",
        "",
        f"| | `set` | `get` | `set`, encrypted | {PROCESSES} processes × {EACH} increments | lost |",
        "|---" * 6 + "|",
    ]
    for name, serve in (
        ("SQLite", _sqlite), ("etcd", _etcd), ("S3 (SeaweedFS)", _seaweed), ("S3 (moto, a mock)", _moto),
        ("Consul (a stub)", _consul),
    ):  # fmt: skip
        own = directory / secrets.token_hex(4)
        own.mkdir()
        try:
            with serve(own) as url:
                lines.append(f"| {name} | {_row(url)} |")
        except pytest.skip.Exception as error:
            lines.append(f"| {name} | {error} | | | | |")
    return [*lines, ""]


def _row(url: str) -> str:
    writes, reads = asyncio.run(_latency(url, None))
    os.environ["SLOTH_KEY"] = generate()
    sealed, _ = asyncio.run(_latency(url, Keys()))
    del os.environ["SLOTH_KEY"]
    seconds, lost = _race(url)
    cells = [f"{one * 1000:.2f} ms" for one in (writes, reads, sealed)]
    return " | ".join([*cells, f"{seconds:.1f} s", str(lost)])


async def _latency(url: str, keys: Keys | None) -> tuple[float, float]:
    """Return the medians of a change and of a read of a document."""
    backend = open_backend(parse(url), keys)
    key = f"shared/{secrets.token_hex(4)}"
    writes, reads = [], []
    for number in range(ROUNDS):
        started = time.perf_counter()
        await change(backend, key, lambda content, now, number=number: (Change(number), None))
        writes.append(time.perf_counter() - started)
        started = time.perf_counter()
        await load(backend, key)
        reads.append(time.perf_counter() - started)
    await backend.close()
    return statistics.median(writes[5:]), statistics.median(reads[5:])


def _race(url: str) -> tuple[float, int]:
    """Return how long the processes take together, and how many of their increments are missing at the end."""
    command = [sys.executable, "-m", "tests.support.racer", url, "increments", str(EACH)]
    started = time.perf_counter()
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(PROCESSES)]
    for process in processes:
        if process.wait(timeout=300) != 0:
            raise RuntimeError(f"a process of the race failed on {url}")
    seconds = time.perf_counter() - started

    async def count() -> int:
        backend = open_backend(parse(url))
        found = await load(backend, "count")
        await backend.close()
        return int(found)

    return seconds, PROCESSES * EACH - asyncio.run(count())


@contextmanager
def _sqlite(directory: Path) -> Iterator[str]:
    yield f"sqlite://{directory}/shared.db"


@contextmanager
def _etcd(directory: Path) -> Iterator[str]:
    with _running(EtcdServer(directory)) as server:
        yield server.url("bench")


@contextmanager
def _seaweed(directory: Path) -> Iterator[str]:
    with _running(SeaweedServer(directory), lambda server: create_bucket(server.endpoint, BUCKET)) as server:
        yield server.url("bench")


@contextmanager
def _moto(directory: Path) -> Iterator[str]:
    with _running(MotoServer(directory), lambda server: create_bucket(server.endpoint, BUCKET)) as server:
        yield server.url("bench")


@contextmanager
def _consul(directory: Path) -> Iterator[str]:
    with _running(ConsulStub()) as server:
        yield server.url("bench")


@contextmanager
def _running(server, prepare: Callable[..., None] = lambda server: None):  # type: ignore[no-untyped-def]
    try:
        server.start()
        prepare(server)
        yield server
    finally:
        server.kill()
