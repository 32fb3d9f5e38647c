"""What users of S3 as a backend have reported of other tools, tried on ours: the numbers are of those reports."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sloth.errors import UsageError
from sloth.state.backends.backend import BackendError, Unsupported
from sloth.state.backends.documents import Change, change, load
from sloth.state.backends.location import open_server, parse
from tests.support.moto import BUCKET, MotoServer
from tests.support.relay import relay
from tests.support.seaweed import KEY, SECRET, SeaweedServer
from tests.support.server import free_ports


@pytest.fixture
def aws_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of credentials that is used, as the environment has none."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path / "credentials"


def save(file: Path, key: str, secret: str) -> None:
    file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")


# terraform #34480, obstore #228: what is left in the environment counts less than the URL and the profile


async def test_the_url_and_the_profile_count_more_than_what_is_left_in_the_environment(
    seaweed_server: SeaweedServer, aws_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [nobody] = free_ports(1)
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{nobody}")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-a-session-that-has-ended")
    save(aws_file, KEY, SECRET)
    backend = open_server(parse(seaweed_server.url(secrets.token_hex(4))))
    assert await backend.write("a", b"1", None) is not None
    entry = await backend.read("a")
    assert entry is not None
    assert await backend.remove("a", entry.version)
    await backend.close()


@pytest.mark.parametrize("endpoint", ["http://h:99999", "http://[::1", "http://ann:s3cret@h:9000", "http://h\u00fc:1"])
def test_an_endpoint_of_the_environment_that_is_none(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    with pytest.raises(UsageError, match="the endpoint of the environment is wrong") as caught:
        open_server(parse("s3://team/x"))
    assert "s3cret" not in f"{caught.value}{caught.value.hint}"


def test_a_setting_that_the_client_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "rot13")
    with pytest.raises(UsageError, match="rot13"):
        open_server(parse("s3://team/x?endpoint=http://127.0.0.1:1"))


# terraform #5927, pulumi #7198: credentials that are renewed while many requests are under way


@pytest.mark.parametrize(("key", "secret"), [("expired", SECRET), (KEY, "former")])
async def test_every_request_uses_renewed_credentials(
    seaweed_server: SeaweedServer, aws_file: Path, key: str, secret: str
) -> None:
    save(aws_file, KEY, SECRET)
    url = seaweed_server.url(secrets.token_hex(4))
    backend = open_server(parse(url))
    version = await backend.write("a", b"1", None)
    assert version is not None
    await backend.close()
    save(aws_file, key, secret)
    backend, sweeper = open_server(parse(url)), open_server(parse(url))
    with pytest.raises(BackendError, match=r"InvalidAccessKeyId|SignatureDoesNotMatch"):
        await backend.read("a")
    save(aws_file, KEY, SECRET)
    found = await asyncio.gather(*(backend.read("a") for _ in range(8)), return_exceptions=True)
    assert [getattr(one, "value", one) for one in found] == [b"1"] * 8
    assert await sweeper.remove("a", version)
    for one in (backend, sweeper):
        await one.close()


async def test_a_list_is_whole_though_credentials_expire_between_two_pages(
    moto_server: MotoServer, aws_file: Path
) -> None:
    body = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    refused = 0

    def refuse(head: bytes) -> bytes | None:
        nonlocal refused
        if b"continuation-token=" not in head or b"Credential=old/" not in head:
            return None
        refused += 1
        save(aws_file, "new", SECRET)
        return b"HTTP/1.1 400 x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)

    save(aws_file, "old", SECRET)
    prefix = secrets.token_hex(4)
    backend = open_server(parse(moto_server.url(prefix)))
    keys = sorted(f"runs/{number:04}" for number in range(1100))
    slots = asyncio.Semaphore(16)

    async def write(key: str) -> None:
        async with slots:
            await backend.write(key, b"1", None)

    await asyncio.gather(*map(write, keys))
    async with relay(moto_server.port, refuse) as port:
        reader = open_server(parse(f"s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{port}"))
        assert await reader.names("") == keys
        assert refused == 1
        await reader.close()
    await backend.close()


# obstore #429, multistore #116: an object of others that spoils the list


@pytest.mark.parametrize("stray", ["/x", "a//b", "./x", "a/../b"])
async def test_an_object_of_others_beside_which_nothing_can_be_listed_is_named(
    moto_server: MotoServer, stray: str
) -> None:
    import boto3

    prefix = secrets.token_hex(4)
    client = boto3.client("s3", endpoint_url=moto_server.endpoint, region_name="us-east-1")
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/{stray}", Body=b"")
    client.close()
    backend = open_server(parse(moto_server.url(prefix)))
    assert await backend.write("runs/a", b"1", None) is not None
    with pytest.raises(BackendError) as caught:
        await backend.names("")
    assert f'the object "{prefix}/{stray}"' in caught.value.message
    assert type(caught.value) is BackendError, "asking again does not help"
    await backend.close()


# terraform #23127 and #36113: a bucket with a default retention


async def test_a_bucket_that_keeps_what_is_written_for_a_time(moto_server: MotoServer) -> None:
    body = (
        b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required for "
        b"Put Object requests with Object Lock parameters</Message></Error>"
    )
    refused = 0

    def refuse(head: bytes) -> bytes | None:
        nonlocal refused
        if not head.startswith(b"PUT ") or b"\r\nx-amz-checksum-" in head.lower():
            return None
        refused += 1
        return b"HTTP/1.1 400 x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)

    async with relay(moto_server.port, refuse) as port:
        backend = open_server(parse(f"s3://{BUCKET}/{secrets.token_hex(4)}?endpoint=http://127.0.0.1:{port}"))
        await asyncio.gather(*(change(backend, f"shared/{n}", lambda *_: (Change(1), None)) for n in range(4)))
        assert [await load(backend, f"shared/{n}") for n in range(4)] == [1] * 4
        seen = refused
        await backend.write("a", b"1", None)
        assert refused == seen, "it is known by now"
        await backend.close()


# terraform #33987: a server that only a proxy reaches, and a firewall that drops everything else


@contextlib.contextmanager
def dropping() -> Iterator[int]:
    """Yield a port of this machine at which connections are not answered: its queue is full."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        port: int = hole.getsockname()[1]
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_server_that_only_a_proxy_reaches(
    moto_server: MotoServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relay(moto_server.port) as proxy:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        with dropping() as port:

            async def addresses(*words: Any, **options: Any) -> list[Any]:
                return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
            backend = open_server(parse(f"s3://{BUCKET}/{secrets.token_hex(4)}?endpoint=http://storage:{port}"))
            began = time.monotonic()
            for _ in range(3):
                await change(backend, "shared/n", lambda content, now: (Change(now), None))
            assert time.monotonic() - began < 4
            found: Any = await load(backend, "shared/n")
            assert abs(found - time.time()) < 3
            entry = await backend.read("shared/n")
            assert entry is not None
            with pytest.raises(Unsupported, match="proxy"):
                await backend.remove("shared/n", entry.version)
            await backend.close()
