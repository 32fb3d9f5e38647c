"""Servers that refuse, fall silent, are killed or lie: every request ends in time, with an error that fits."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from sloth.state.backends import etcd, http
from sloth.state.backends.backend import Backend, BackendError, BackendUnavailable, Unsure
from sloth.state.backends.check import Aspect, Verdict, check
from sloth.state.backends.documents import Change, change, load
from sloth.state.backends.location import open_backend, open_server, parse
from sloth.state.backends.s3_errors import Refused
from tests.support.consul import ConsulStub
from tests.support.etcd import EtcdServer, EtcdTlsServer
from tests.support.moto import MotoServer
from tests.support.rclone import RcloneServer
from tests.support.seaweed import READER, READER_SECRET, SeaweedServer
from tests.support.server import free_ports
from tests.support.tls import Certificates

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject
    from sloth.state.backends.location import EtcdLocation

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """An etcd of this test alone, to be killed."""
    directory = tmp_path / "own-etcd"
    directory.mkdir()
    server = EtcdServer(directory)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter deadlines."""
    monkeypatch.setattr(http, "CONNECT", 1.0)
    monkeypatch.setattr(http, "ANSWER", 1.0)


@contextlib.asynccontextmanager
async def fake(serve: Serve) -> AsyncIterator[int]:
    """Run a server that does what serve() does with each connection; yield its port."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def saying(answer: bytes) -> Serve:
    """Return what answers every request with the same bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
            await writer.drain()
            if answer.startswith(b"HTTP/1.0"):
                return

    return serve


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


def url(kind: str, port: int) -> str:
    return f"s3://team/x?endpoint=http://127.0.0.1:{port}" if kind == "s3" else f"{kind}://127.0.0.1:{port}/x"


async def both(backend: Backend) -> tuple[BackendError, BackendError]:
    """Return the errors of a read and of a write."""
    with pytest.raises(BackendError) as read:
        await backend.read("a")
    with pytest.raises(BackendError) as write:
        await backend.write("a", b"1", None)
    await backend.close()
    return read.value, write.value


@pytest.mark.parametrize("kind", ["etcd", "consul", "s3"])
async def test_nobody_listens(kind: str) -> None:
    [port] = free_ports(1)
    for error in await both(open_backend(parse(url(kind, port)))):
        assert type(error) is BackendUnavailable, "nothing was sent"
        assert error.hint


@pytest.mark.parametrize("kind", ["etcd", "consul", "s3"])
async def test_a_server_that_never_answers(kind: str, impatient: None) -> None:
    async with fake(silent) as port:
        started = time.monotonic()
        backend = open_backend(parse(url(kind, port)))
        with pytest.raises(BackendUnavailable):
            await backend.names("a")
        read, write = await both(backend)
        assert time.monotonic() - started < 60
        assert type(read) is BackendUnavailable
        assert type(write) is (BackendUnavailable if kind == "s3" else Unsure)


@pytest.mark.parametrize("kind", ["etcd", "consul", "s3"])
async def test_a_server_that_closes_the_connection(kind: str) -> None:
    async with fake(closing) as port:
        read, write = await both(open_server(parse(url(kind, port))))
        assert type(read) is BackendUnavailable
        assert type(write) is (BackendUnavailable if kind == "s3" else Unsure), "S3 was only probed"


@pytest.mark.parametrize("kind", ["etcd", "consul"])
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16" * 20000,
        b"HTTP/1.1 two\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_a_server_that_is_none_or_refuses_us(kind: str, answer: bytes, impatient: None) -> None:
    async with fake(saying(answer)) as port:
        for error in await both(open_backend(parse(url(kind, port)))):
            assert type(error) is BackendError, "it is not tried again"
            if b"HTTPS" in answer:
                assert error.hint == f"use {kind}s://"


@pytest.mark.parametrize("kind", ["etcd", "consul"])
async def test_answers_are_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST_ANSWER", 1024 * 1024)
    async with fake(endless) as port:
        for error in await both(open_backend(parse(url(kind, port)))):
            assert type(error) is BackendError


@pytest.mark.parametrize("kind", ["etcd", "consul", "s3"])
@pytest.mark.parametrize("status", [500, 503])
async def test_a_server_in_trouble(kind: str, status: int) -> None:
    answer = b"HTTP/1.1 %d Trouble\r\nContent-Length: 0\r\n\r\n" % status
    async with fake(saying(answer)) as port:
        read, write = await both(open_server(parse(url(kind, port))))
        assert type(read) is BackendUnavailable
        assert type(write) is (BackendUnavailable if kind == "s3" else Unsure), "S3 was only probed"


@pytest.mark.parametrize("kind", ["consul", "s3"])
async def test_a_server_that_limits_the_rate_has_not_written(kind: str) -> None:
    async with fake(saying(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")) as port:
        for error in await both(open_server(parse(url(kind, port)))):
            assert type(error) is BackendUnavailable


async def test_an_answer_in_chunks(etcd_server: EtcdServer) -> None:
    async with fake(
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n")
    ) as port:
        backend = open_backend(parse(url("etcd", port)))
        assert await backend.read("a") is None
        assert await backend.read("a") is None
        await backend.close()


async def test_the_event_loop_goes_on_while_a_server_is_silent(impatient: None) -> None:
    async with fake(silent) as port:
        backend = open_backend(parse(url("etcd", port)))
        task = asyncio.ensure_future(both(backend))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 20


# etcd


async def test_another_server_takes_over(etcd_server: EtcdServer, impatient: None) -> None:
    [nobody] = free_ports(1)
    async with fake(silent) as dumb:
        backend = open_backend(parse(f"etcd://127.0.0.1:{nobody},127.0.0.1:{dumb},127.0.0.1:{etcd_server.port}/over"))
        assert await backend.read("a") is None
        version = await backend.write("a", b"1", None)
        started = time.monotonic()
        entry = await backend.read("a")
        assert entry is not None
        assert entry.version == version
        assert time.monotonic() - started < 1, "it stays with the one that answers"
        await backend.close()


async def test_a_killed_server_loses_nothing_that_it_has_confirmed(own_etcd: EtcdServer) -> None:
    backend = open_backend(parse(own_etcd.url("kill")))

    async def count() -> int:
        return await change(backend, "n", lambda content, now: (Change((content or 0) + 1), (content or 0) + 1))

    for _ in range(5):
        await count()
    work = [asyncio.ensure_future(count()) for _ in range(10)]
    await asyncio.sleep(0.01)
    own_etcd.kill()
    await asyncio.sleep(0.3)
    await asyncio.to_thread(own_etcd.start)
    assert sorted(await asyncio.gather(*work)) == list(range(6, 16))
    assert await load(backend, "n") == 15
    await backend.close()


async def test_a_stopped_server_is_waited_for_in_bounded_time(own_etcd: EtcdServer, impatient: None) -> None:
    backend = open_backend(parse(own_etcd.url("stop")))
    version = await backend.write("a", b"1", None)
    own_etcd.signal(signal.SIGSTOP)
    await asyncio.sleep(0.2)  # all its threads have stopped
    started = time.monotonic()
    with pytest.raises(BackendUnavailable):
        await backend.read("a")
    with pytest.raises(Unsure):
        await backend.write("a", b"2", version)
    assert time.monotonic() - started < 20
    own_etcd.signal(signal.SIGCONT)
    entry = await backend.read("a")
    assert entry is not None
    assert entry.value in (b"1", b"2"), "what was sent may happen late"
    await backend.close()


async def test_users_and_passwords_of_etcd(own_etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_server(parse(own_etcd.url("team")))
    await own_etcd.call("auth/role/add", name="team")
    start, end = (base64.b64encode(key).decode() for key in (b"team/", b"team0"))
    permission = {"permType": "READWRITE", "key": start, "range_end": end}
    await own_etcd.call("auth/role/grant", name="team", perm=permission)
    for user, password, role in (("root", "pw", "root"), ("ci", "s3cret", "team")):
        await own_etcd.call("auth/user/add", name=user, password=password)
        await own_etcd.call("auth/user/grant", user=user, role=role)
    await own_etcd.call("auth/enable")
    with pytest.raises(BackendError, match="user name is empty") as caught:
        await backend.read("a")
    assert "ETCDCTL_USER" in caught.value.hint
    await backend.close()
    monkeypatch.setenv("ETCDCTL_USER", "ci:wrong")
    wrong = open_server(parse(own_etcd.url("team")))
    with pytest.raises(BackendError, match="cannot log in") as caught:
        await wrong.read("a")
    assert "wrong" not in str(caught.value)
    await wrong.close()
    monkeypatch.setenv("ETCDCTL_USER", "ci")
    monkeypatch.setenv("ETCDCTL_PASSWORD", "s3cret")
    right = open_server(parse(own_etcd.url("team")))
    assert await right.write("a", b"1", None) is not None
    right._token = "old.1"  # type: ignore[attr-defined]  # as after the server was started again
    assert await right.names("") == ["a"]
    await right.close()
    elsewhere = open_server(parse(own_etcd.url("other")))
    with pytest.raises(BackendError, match="permission denied") as caught:
        await elsewhere.read("a")
    assert "other/" in caught.value.hint
    await elsewhere.close()


async def test_tls_with_certificates_of_both_sides(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    (tmp_path / "etcd").mkdir()
    server = EtcdTlsServer(tmp_path / "etcd", certificates.ca, certificates.cert, certificates.key)
    server.start()
    try:
        base = f"etcds://127.0.0.1:{server.port}/tls"
        mine = f"cert={certificates.cert}&key={certificates.key}"
        backend = open_backend(parse(f"{base}?ca={certificates.ca}&{mine}"))
        assert await backend.write("a", b"1", None) is not None
        assert await backend.names("") == ["a"]
        await backend.close()
        for query, message in (
            ("", "certificate"),
            (f"?ca={certificates.ca}", "ertificate"),
            (f"?ca={certificates.other_ca}&{mine}", "certificate"),
        ):
            for error in await both(open_backend(parse(base + query))):
                assert type(error) is BackendError, error
                assert message in error.message
                assert error.hint
        plain = open_backend(parse(base.replace("etcds", "etcd")))
        for error in await both(plain):
            assert "TLS" in error.hint
    finally:
        server.kill()


async def test_tls_to_a_server_without_it(etcd_server: EtcdServer) -> None:
    for error in await both(open_backend(parse(f"etcds://127.0.0.1:{etcd_server.port}/x"))):
        assert "the server speaks TLS" in error.hint


async def test_a_server_that_takes_less_than_we_send(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    server = EtcdServer(tmp_path / "small", ("--max-request-bytes", "100000"))
    server.start()
    try:
        backend = open_backend(parse(server.url("x")))
        [size] = [one for one in await check(backend) if one.aspect is Aspect.SIZE]
        assert size.verdict is Verdict.FAILED
        assert "--max-request-bytes" in size.hint
        await backend.close()
    finally:
        server.kill()


async def test_a_server_that_is_full(tmp_path: Path) -> None:
    """As without compaction, some day."""
    (tmp_path / "full").mkdir()
    server = EtcdServer(tmp_path / "full", ("--quota-backend-bytes", "1000000"))
    server.start()
    try:
        backend = open_server(parse(server.url("x")))
        work = (backend.write(f"n/{number}", bytes(200_000), None) for number in range(20))
        with pytest.raises(BackendError, match="database space exceeded") as caught:
            await _in_turn(work)
        assert not isinstance(caught.value, BackendUnavailable)
        assert "defragment" in caught.value.hint
        assert await backend.read("n/0") is not None
        await backend.close()
    finally:
        server.kill()


async def _in_turn(work: Iterable[Awaitable[object]]) -> None:
    for one in work:
        await one


async def test_a_list_whose_revision_is_compacted_between_two_pages(
    etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd, "PAGE", 2)
    backend = etcd.Etcd(cast("EtcdLocation", parse(etcd_server.url("compacted"))))
    for number in range(5):
        await backend.write(f"n/{number}", b"", None)
    call = backend._call
    pages = 0

    async def compacting(what: str, body: Mapping[str, object], again: bool) -> JsonObject:
        nonlocal pages
        pages += 1
        found = await call(what, body, again)
        if pages == 1:
            await backend.write("n/5", b"", None)
            await etcd_server.call("kv/compaction", revision=str(int(found["header"]["revision"]) + 1))
        return found

    monkeypatch.setattr(backend, "_call", compacting)
    assert await backend.names("n/") == [f"n/{number}" for number in range(6)]
    await backend.close()


# S3


async def test_a_server_that_ignores_conditions_is_refused_before_the_first_write(rclone_server: RcloneServer) -> None:
    backend = open_backend(parse(rclone_server.url("x")))
    with pytest.raises(BackendError, match="ignores If-None-Match") as caught:
        await backend.write("a", b"1", None)
    assert "conditional writes" in caught.value.hint
    assert await backend.names("") == []
    assert {one.verdict for one in await check(backend) if one.aspect is Aspect.WRITE} == {Verdict.FAILED}
    await backend.close()


async def test_keys_of_s3_that_are_wrong_or_may_only_read(
    seaweed_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    for error in await both(open_backend(parse(seaweed_server.url("x")))):
        assert type(error) is Refused
        assert "SignatureDoesNotMatch" in error.message
        assert "s3cret" not in str(error)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    backend = open_backend(parse(seaweed_server.url("x")))
    assert await backend.read("a") is None
    with pytest.raises(BackendError, match="AccessDenied") as caught:
        await backend.write("a", b"1", None)
    assert "s3:PutObject" in caught.value.hint
    await backend.close()


async def test_a_bucket_that_is_missing(moto_server: MotoServer) -> None:
    backend = open_backend(parse(f"s3://missing/x?endpoint={moto_server.endpoint}"))
    for error in await both(backend):
        assert "there is no such bucket" in error.message
    with pytest.raises(BackendError, match="no such bucket"):
        await backend.names("")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ExpiredToken", Refused),
        (503, "SlowDown", BackendUnavailable),
        (400, "AuthorizationHeaderMalformed", BackendError),
    ],
)
async def test_what_amazon_s_errors_mean(status: int, code: str, kind: type[BackendError]) -> None:
    body = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>why</Message></Error>" % code.encode()
    answer = b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
    async with fake(saying(answer)) as port:
        for error in await both(open_backend(parse(url("s3", port)))):
            assert type(error) is kind
            assert code in error.message
            assert "why" in error.message


async def test_a_bucket_of_another_region() -> None:
    async with fake(saying(b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n")) as port:
        for error in await both(open_backend(parse(url("s3", port)))):
            assert type(error) is BackendError
            assert error.hint == "check ?region="


# Consul


async def test_tokens_of_consul(consul_stub: ConsulStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    consul_stub.store.tokens = {"t0ken": "team/"}
    for error in await both(open_backend(parse(consul_stub.url("team")))):
        assert type(error) is BackendError
        assert "CONSUL_HTTP_TOKEN" in error.hint
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "wr0ng")
    for error in await both(open_backend(parse(consul_stub.url("team")))):
        assert "ACL not found" in error.message
        assert "wr0ng" not in str(error)
    monkeypatch.delenv("CONSUL_HTTP_TOKEN")
    (tmp_path / "token").write_text("t0ken\n")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(tmp_path / "token"))
    backend = open_backend(parse(consul_stub.url("team")))
    assert await backend.write("a", b"1", None) is not None
    assert await backend.names("") == ["a"]
    await backend.close()


async def test_consul_that_lets_us_read_and_not_write(consul_stub: ConsulStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction is then answered with 409, as one whose index is stale."""
    consul_stub.store.tokens = {"t0ken": "team/ro"}
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "t0ken")
    backend = open_server(parse(consul_stub.url("team")))
    consul_stub.store.readable = "team/"
    with pytest.raises(BackendError, match="Permission denied") as caught:
        await backend.write("a", b"1", None)
    assert not isinstance(caught.value, BackendUnavailable)
    await backend.close()


async def test_consul_without_a_leader(consul_stub: ConsulStub) -> None:
    consul_stub.store.has_leader = False
    read, write = await both(open_backend(parse(consul_stub.url("x"))))
    assert type(read) is BackendUnavailable
    assert type(write) is Unsure
    assert "No cluster leader" in write.message
