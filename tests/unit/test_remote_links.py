"""Workers as their run sees them: started, cut off, lost; those of a cluster over a real relay, without Dask."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.events import Skip, SkipKind
from sloth.engine.workers import address
from sloth.engine.workers.asking import Clock
from sloth.engine.workers.channel import Channel, Line
from sloth.engine.workers.link import Process
from sloth.engine.workers.messages import Interrupt, Stopped
from sloth.engine.workers.placing import Found
from sloth.engine.workers.questions import refusal
from sloth.engine.workers.relay import Relay
from sloth.engine.workers.remote import RemoteBarriers
from sloth.engine.workers.worker import Worker
from sloth.errors import StateError, UsageError
from tests.support.tls import Certificates

pytest.importorskip("distributed", reason="needs the extra dask")

from sloth.engine.workers import cluster
from sloth.engine.workers.certificates import CheckedSecurity
from sloth.engine.workers.engine import Gone, Remote

FOUND = Found("tcp://127.0.0.1:1", frozenset(), {"host": "w1", "user": "ann"})
NAME = "w1 (tcp://127.0.0.1:1, user ann)"


class Future:
    """What a scheduler promises: an actor, or an error."""

    def __init__(self, made: Any) -> None:
        self._made = made
        self.is_released = False

    def __await__(self) -> Generator[None, None, Any]:
        yield
        if isinstance(self._made, Exception):
            raise self._made
        return self._made

    def release(self) -> None:
        self.is_released = True


class Client:
    """A client of a scheduler that has `made` ready; `known`: its workers."""

    def __init__(self, made: Any = None, known: dict[str, Any] | None = None) -> None:
        self.future = Future(made)
        self.scheduler = self
        self._known = known

    def submit(self, *_: object, **__: object) -> Future:
        return self.future

    async def identity(self, n_workers: int) -> dict[str, Any]:
        return {"workers": self._known}

    async def run(self, *_: object, **__: object) -> Any:
        raise OSError("they are busy")


def remote(client: Client) -> Remote:
    return Remote(0, ("a",), client, FOUND, True)


def take(*_: object) -> None:
    raise AssertionError("it sends nothing")


async def test_a_worker_of_a_cluster_that_is_killed() -> None:
    relay = Relay()
    link = remote(client := Client(relay))
    await link.start()
    assert link.directory == ""
    child = relay._share._child
    assert child is not None
    child.kill()
    with pytest.raises(EOFError):
        await link.serve(take)
    assert await link.end() == f"{NAME}: it was ended by SIGKILL"
    assert client.future.is_released


async def test_a_worker_of_a_cluster_that_is_cut_off() -> None:
    relay = Relay()
    link = remote(Client(relay))
    await link.start()
    link.cut_off()
    with pytest.raises(Gone, match="it did not end after the second interrupt"):
        await link.serve(take)
    assert await link.end() == f"{NAME}: it did not end after the second interrupt"
    await relay.end()


async def test_a_worker_that_was_never_started() -> None:
    link = remote(Client())
    link.cut_off()
    assert await link.end() == f"{NAME}: it did not end after the second interrupt"
    link = remote(client := Client(OSError("no memory")))
    with pytest.raises(Gone, match="it could not be started: no memory"):
        await link.start()
    assert await link.end() == f"{NAME}: it could not be started: no memory"
    assert client.future.is_released
    process = Process(0, ("a",))
    process.cut_off()
    process.send(Interrupt())
    assert await process.end() == "it could not be started"


async def test_a_process_that_is_cut_off() -> None:
    process = Process(0, ("a",))
    await process.start()
    assert process._child is not None
    process._child.beat()  # it minds none: this process is its parent
    process.cut_off()
    with pytest.raises((EOFError, OSError)):
        await process.serve(take)
    assert await process.end() == "it was ended by SIGKILL"
    process.cut_off()


class Slow:
    """A relay that takes the first part only when it is let."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.may = asyncio.Event()

    async def begin(self, is_here: bool) -> bytes:
        return b""

    async def send(self, data: bytes) -> bytes:
        self.sent.append(data)
        await self.may.wait()
        return b""


async def test_what_comes_while_a_part_is_sent_goes_together() -> None:
    """A call for each message would let a cluster's scheduler do nothing else."""
    link = remote(Client(slow := Slow()))
    await link.start()
    assert link.channel is not None
    for _ in range(4):
        link.channel.send(Interrupt())
        link.channel.flush()
        await asyncio.sleep(0.01)
    assert len(slow.sent) == 1
    slow.may.set()
    async with asyncio.timeout(20):
        while sum(map(len, slow.sent)) < 4 * len(slow.sent[0]):  # noqa: ASYNC110  it takes some turns of the loop
            await asyncio.sleep(0.01)
    assert slow.sent[1:] == [3 * slow.sent[0]]
    link.cut_off()
    await link.end()


async def test_what_a_run_sends_to_its_worker() -> None:
    ours, theirs = socket.socketpair()
    line, other = socket.socketpair()
    worker = Worker(await Channel.over(ours), Line(line), "")
    asked = asyncio.create_task(worker._questions.ask(Clock()))
    await asyncio.sleep(0.01)
    worker._take(refusal(1, StateError("the backend is gone")))
    with pytest.raises(StateError, match="the backend is gone"):
        await asked
    skip = Skip(SkipKind.FATAL, "first", "a")
    worker._take(Stopped(skip))  # it has no hosts yet, and asks before it begins one
    worker._barriers = barriers = RemoteBarriers(worker._questions, linear=False, is_stepping=False)
    worker._take(Stopped(skip))
    assert barriers.fatal == skip
    worker._take(Interrupt())
    assert worker._is_interrupted, "its hosts do not begin"
    await worker._channel.close()
    for end in (theirs, line, other):
        end.close()


async def closing(context: ssl.SSLContext | None = None) -> tuple[asyncio.Server, int]:
    """A server that closes each connection at once."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    return server, server.sockets[0].getsockname()[1]


async def test_a_server_that_is_no_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    server, port = await closing()
    async with server:
        with pytest.raises(UsageError, match=f"the scheduler 127.0.0.1:{port} cannot be reached: ") as caught:
            await cluster.connect(address.parse(f"dask://127.0.0.1:{port}"))
        assert "is it a scheduler of Dask" in caught.value.hint
    made = Certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.cert, made.key)
    server, port = await closing(context)
    where = f"127.0.0.1:{port}"
    async with server:
        with pytest.raises(UsageError, match="it has closed the connection"):
            await cluster.connect(address.parse(f"dasks://{where}?ca={made.ca}&cert={made.cert}&key={made.key}"))
        with pytest.raises(UsageError, match=f"the scheduler {where} takes connections with TLS only") as caught:
            await cluster.connect(address.parse(f"dask://{where}"))
        assert f"use dasks://{where} with certificates" in caught.value.hint


async def test_workers_of_a_cluster_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.1)
    here = address.parse("dask://127.0.0.1:1")
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "the scheduler 127.0.0.1:1 has no workers"),
        ({"tls://10.0.0.5:1": {}, "tcp://10.0.0.5:2": {}}, "the worker tcp://10.0.0.5:2 has no TLS, and is not on"),
        ({"tcp://[::1]:1": {}, "tcp://localhost:2": {}}, "the workers of 127.0.0.1:1 do not answer: they are busy"),
    )
    for known, message in cases:
        client: Any = Client(known=known)
        with pytest.raises(UsageError) as caught:
            await cluster.look_at(client, here)
        assert caught.value.message.startswith(message)


def test_the_name_of_a_schedulers_certificate_is_checked(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    files = {"tls_ca_file": str(made.ca), "tls_client_cert": str(made.cert), "tls_client_key": str(made.key)}
    arguments = CheckedSecurity("scheduler", **files).get_connection_args("client")
    assert arguments["ssl_context"].check_hostname
    assert arguments["server_hostname"] == "scheduler"
    assert "server_hostname" not in CheckedSecurity("", **files).get_connection_args("client")
    assert CheckedSecurity("").get_connection_args("client")["ssl_context"] is None
