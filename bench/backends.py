"""Measures the backends for shared state: a change and a read of a document, and a race of processes."""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sloth.state.backends.documents import Change, change, load
from sloth.state.backends.location import open_backend, parse
from sloth.state.keys import Keys, generate
from tests.support.buckets import create_bucket
from tests.support.consul import ConsulStub
from tests.support.etcd import EtcdServer
from tests.support.moto import MotoServer
from tests.support.seaweed import BUCKET, KEY, SECRET, SeaweedServer

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

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
        await change(backend, key, functools.partial(_set, number))
        writes.append(time.perf_counter() - started)
        started = time.perf_counter()
        await load(backend, key)
        reads.append(time.perf_counter() - started)
    await backend.close()
    return statistics.median(writes[5:]), statistics.median(reads[5:])


def _set(number: int, content: Json, now: float) -> tuple[Change, None]:
    return Change(number), None


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


# Runs with and without a backend

HOSTS, PAIRS = 100, 5
SITE = """task({name = "t", run = function()
    file.copy({content = "x\\n", dest = "FILES/" .. host.name})
    file.copy({content = NUMBER, dest = "FILES/" .. host.name .. "-2"})
end})
"""


def runs_table(directory: Path) -> list[str]:
    """Return the lines of the section about runs: the medians of runs with and without etcd, in alternation."""
    lines = [
        f"## Backends: a run on {HOSTS} loopback hosts, with etcd and without, {PAIRS} pairs in alternation",
        "",
        "| | without | with | more |",
        "|---|---|---|---|",
    ]
    with _etcd(directory) as url:
        found: dict[tuple[bool, str], list[tuple[float, float]]]
        found = {(changes, backend): [] for changes in (True, False) for backend in ("none", url)}
        homes = {backend: directory / str(number) for number, backend in enumerate(("none", url))}
        for home in homes.values():
            home.mkdir()
            (home / "inventory.toml").write_text(
                "".join(f'[hosts.h{number}]\nconnection = "local"\n' for number in range(HOSTS))
            )
        for number in range(PAIRS + 1):  # the first ones are no measurement
            for changes in (True, False):
                for backend, home in sorted(homes.items(), reverse=bool(number % 2)):
                    one = _run(home, backend, number)
                    if number:
                        found[changes, backend].append(one)
        for changes, title in ((True, "a run that changes each host"), (False, "a converged run")):
            for at, what in ((0, "wall"), (1, "CPU of the controller and the hosts")):
                without, with_it = (statistics.median(one[at] for one in found[changes, of]) for of in ("none", url))
                more = (with_it / without - 1) * 100
                lines.append(f"| {title}: {what} | {without:.2f} s | {with_it:.2f} s | {more:+.1f} % |")
    return [*lines, ""]


def _run(home: Path, backend: str, number: int) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a run."""
    (home / "site.sloth").write_text(SITE.replace("FILES", str(home)).replace("NUMBER", f'"{number}\\n"'))
    environment = {
        **os.environ, "HOME": str(home), "SLOTH_HOME": str(home / "own"), "SLOTH_BACKEND": backend,
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-m", "sloth", "run", "-i", "inventory.toml", "-f", "site.sloth", "--site-name", "bench"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=600)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
