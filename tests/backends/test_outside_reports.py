"""What users of other tools' backends have reported, tried on ours: the numbers are of those reports."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from sloth.errors import UsageError
from sloth.state.backends.backend import Backend, BackendError
from sloth.state.backends.documents import Change, change, load
from sloth.state.backends.location import open_backend, open_server, parse
from sloth.state.backends.s3_errors import meaning
from sloth.state.shared import Shared
from tests.support.etcd import EtcdCluster, EtcdServer
from tests.support.moto import BUCKET, MotoServer
from tests.support.seaweed import KEY, SECRET, SeaweedServer
from tests.support.server import Server, free_ports, program
from tests.support.tls import Certificates
from tests.support.tls_relay import tls_relay


async def count(backend: Backend, times: int) -> None:
    for _ in range(times):
        await change(backend, "shared/n", lambda content, now: (Change((content or 0) + 1), None))


# terraform #33689 and #36937, arrow-rs #5034: a CA of one's own


async def test_s3_with_a_ca_of_one_s_own(
    moto_server: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Certificates(tmp_path)
    async with tls_relay(moto_server.port, files) as port:
        url = f"s3://{BUCKET}/{secrets.token_hex(4)}?endpoint=https://127.0.0.1:{port}"

        async def works(url: str) -> None:
            backend = open_backend(parse(url))
            await count(backend, 2)
            assert await backend.names("") == ["shared/n"]
            assert abs(await backend.clock() - time.time()) < 5
            await backend.forget("shared/n")
            await backend.close()

        await works(f"{url}&ca={files.ca}")
        for refused in (url, f"{url}&ca={files.other_ca}"):
            backend = open_server(parse(refused))
            with pytest.raises(BackendError, match="no TLS connection to the server") as caught:
                await backend.write("a", b"1", None)
            assert "?ca=FILE" in caught.value.hint
            await backend.close()
        monkeypatch.setenv("AWS_CA_BUNDLE", str(files.ca))
        await works(url)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(files.other_ca))
        await works(f"{url}&ca={files.ca}")
        monkeypatch.delenv("AWS_CA_BUNDLE")
        config = tmp_path / "config"
        config.write_text(f"[default]\nca_bundle = {files.ca}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        await works(url)
        with pytest.raises(UsageError, match=r"cannot read .*missing\.pem"):
            open_server(parse(f"{url}&ca={tmp_path}/missing.pem"))
        with pytest.raises(UsageError, match="has no certificate of a CA"):
            open_server(parse(f"{url}&ca={files.key}"))


# terraform #33987 and #34183: a proxy of the environment


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_of_the_environment_is_not_asked_for_what_is_on_this_machine(
    server_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    backend = open_backend(parse(server_url))
    await count(backend, 1)
    assert await load(backend, "shared/n") == 1
    await backend.close()


# terraform #5927, #17180 and #36395: credentials that expire in the middle of a run, and are renewed meanwhile


async def test_renewed_credentials_are_used_without_a_new_start(
    seaweed_server: SeaweedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def write(key: str, secret: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")

    write("expired", "whatever")
    backend = open_backend(parse(seaweed_server.url(secrets.token_hex(4))))
    with pytest.raises(BackendError, match="InvalidAccessKeyId"):
        await count(backend, 1)
    write(KEY, SECRET)
    await count(backend, 2)
    assert await load(backend, "shared/n") == 2
    await backend.close()


# terraform #19622: a clock that is wrong


def test_a_clock_that_is_wrong_is_named() -> None:
    text = "status code: 403 <Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large</Message>"
    assert "clock of this machine" in meaning("s3://x", text, again=False).hint


# object_store #852, opendal #6741: 409 means that nobody has written


async def test_a_write_that_s3_answers_with_409_is_made_once(moto_server: MotoServer) -> None:
    from obstore.exceptions import AlreadyExistsError

    backend = open_server(parse(moto_server.url(secrets.token_hex(4))))
    await count(backend, 1)
    whole = cast(Any, backend)._bucket.store
    conflicts = iter([True, True, False, True] + [False] * 20)

    class Conflicting:
        def __getattr__(self, name: str) -> object:
            return getattr(whole, name)

        async def put_async(self, *words: object, **options: object) -> object:
            if next(conflicts):
                raise AlreadyExistsError("409 ConditionalRequestConflict")
            return await whole.put_async(*words, **options)

    cast(Any, backend)._bucket.store = Conflicting()
    await count(backend, 5)
    assert await load(backend, "shared/n") == 6
    await backend.close()


# buckets that keep versions


async def test_a_bucket_that_keeps_versions(moto_server: MotoServer, seaweed_server: SeaweedServer) -> None:
    import boto3

    for server in (moto_server, seaweed_server):
        name = f"versions-{secrets.token_hex(4)}"
        client = boto3.client(
            "s3", endpoint_url=server.endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )  # fmt: skip
        client.create_bucket(Bucket=name)
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        client.close()
        backend = open_backend(parse(f"s3://{name}/x?endpoint={server.endpoint}"))
        await count(backend, 3)
        await backend.forget("shared/n")
        assert await backend.names("") == []
        await count(backend, 2)
        assert await load(backend, "shared/n") == 2
        await backend.close()


# etcd #12088, #13134: a token that expires


async def test_a_token_of_etcd_that_expires_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = EtcdServer(tmp_path, ("--auth-token-ttl", "1"))
    server.start()
    try:
        await server.call("auth/user/add", name="root", password="pw")
        await server.call("auth/role/add", name="root")
        await server.call("auth/user/grant", user="root", role="root")
        await server.call("auth/enable")
        monkeypatch.setenv("ETCDCTL_USER", "root:pw")
        backend = open_backend(parse(server.url("x")))
        for _ in range(3):
            await asyncio.gather(*(count(backend, 1) for _ in range(5)))
            await asyncio.sleep(2.5)
        assert await load(backend, "shared/n") == 15
        await backend.close()
    finally:
        server.kill()


# etcd: a leader that is lost, and revisions that are compacted, while others write


async def test_a_leader_that_is_killed_and_a_history_that_is_compacted(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path)
    cluster.start()
    try:
        backends = [open_backend(parse(cluster.url("x"))) for _ in range(3)]
        counting = [asyncio.create_task(count(backend, 60)) for backend in backends]
        await asyncio.sleep(0.5)
        revision = (await cluster.status(0))["header"]["revision"]
        await cluster.call(0, "kv/compaction", revision=revision)
        await cluster.kill_leader()
        await asyncio.gather(*counting)
        assert await load(backends[0], "shared/n") == 180
        for backend in backends:
            await backend.close()
    finally:
        cluster.kill()


# IPv6 literals, and prefixes with anything in them


@pytest.fixture
def over_ipv6(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Start a server on ::1, and return its URL."""
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    servers: list[Server] = []

    def start(kind: str) -> str:
        port, peer = free_ports(2)
        if kind == "moto":
            command = [program("moto_server"), "-H", "::1", "-p", str(port)]
            url = f"s3://{BUCKET}/x?endpoint=http://[::1]:{port}"
        else:
            address, peers = f"http://[::1]:{port}", f"http://[::1]:{peer}"
            command = [
                program("etcd"), "--name", "s", "--data-dir", str(tmp_path / "data"), "--listen-client-urls", address,
                "--advertise-client-urls", address, "--listen-peer-urls", peers, "--initial-advertise-peer-urls",
                peers, "--initial-cluster", f"s={peers}",
            ]  # fmt: skip
            url = f"etcd://[::1]:{port}/x"
        servers.append(Server(command, tmp_path, f"http://[::1]:{port}/{'moto-api/' if kind == 'moto' else 'health'}"))
        servers[-1].start()
        return url

    yield start
    for server in servers:
        server.kill()


@pytest.mark.parametrize("kind", ["etcd", "moto"])
async def test_an_address_of_ipv6(over_ipv6: Callable[[str], str], kind: str) -> None:
    from tests.support.buckets import create_bucket

    url = over_ipv6(kind)
    if kind == "moto":
        create_bucket(url.partition("endpoint=")[2], BUCKET)
    backend = open_backend(parse(url))
    await count(backend, 2)
    assert await load(backend, "shared/n") == 2
    await backend.clock()
    await backend.close()


@pytest.mark.parametrize("prefix", ["t%C3%ABam", "a%20b", "100%25", "a%2Bb", "deep/er/", "/lead", "q%3Fx%23y", "ä"])
async def test_a_prefix_may_have_any_characters_and_sees_no_other(server_url: str, prefix: str) -> None:
    if server_url.startswith("sqlite"):
        pytest.skip("a file has no prefix")
    base, question, query = server_url.partition("?")
    one, other = (
        open_backend(parse(f"{base}/{name}{question}{query}")) for name in (prefix.strip("/"), f"{prefix.strip('/')}2")
    )
    assert await one.write("runs/a", b"1", None) is not None
    assert await other.names("") == []
    assert await other.read("runs/a") is None
    again = open_backend(parse(f"{base}/{prefix.strip('/')}/{question}{query}"))
    assert await again.names("") == ["runs/a"], "a slash at the end makes no difference"
    for backend in (one, other, again):
        await backend.close()


# consul #1136, consul-cli #36: a slash at the beginning


def test_a_slash_at_the_beginning_of_a_prefix_is_no_part_of_it() -> None:
    for url in ("consul://h:8500//team", "etcd://h:2379//team/", "s3://bucket//team?region=x"):
        assert cast(Any, parse(url)).prefix == "team"


async def test_values_of_two_prefixes_do_not_meet(etcd_server: EtcdServer) -> None:
    name = secrets.token_hex(4)
    team, team2 = (Shared(open_backend(parse(etcd_server.url(one)))) for one in (name, f"{name}2"))
    await team.set("x", 1)
    assert await team2.get("x") is None
    for one in (team, team2):
        await one.close()
