"""Servers of which one is there and of no use, as users of other clients have reported it."""

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

from sloth.state.backends.backend import BackendError, Entry
from sloth.state.backends.documents import Change, change, load
from sloth.state.backends.location import open_backend, parse
from sloth.state.sync.deliver import probe
from tests.support.consul import ConsulStub
from tests.support.etcd import EtcdCluster, EtcdServer, EtcdTlsServer
from tests.support.tls import Certificates

# etcd #8660, #8326: a member that is cut off from the others answers everything with an error, after seconds


async def test_a_member_that_is_cut_off_is_left_for_the_next(etcd_server: EtcdServer, tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path)
    cluster.start()
    try:
        for member in (1, 2):
            cluster.kill_member(member)
        for _ in range(300):
            if (await cluster.status(0)).get("leader", "0") == "0":  # it knows by now that there is none
                break
            await asyncio.sleep(0.1)
        url = f"etcd://127.0.0.1:{cluster.ports[0]},127.0.0.1:{etcd_server.port}/{secrets.token_hex(4)}"
        command = open_backend(parse(url))
        await probe(command)  # what each command begins with
        assert await change(command, "shared/n", lambda content, now: (Change(1), "done")) == "done"
        other = open_backend(parse(url))
        assert await other.read("shared/n") is not None, "also where nobody has asked for the time before"
        assert await load(other, "shared/n") == 1
        for backend in (command, other):
            await backend.close()
    finally:
        cluster.kill()


# etcd #9949: members whose certificate has expired, or that refuse ours, beside one that is as it should be


async def test_a_member_with_which_tls_fails_is_left_for_the_next(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    old = certificates.issue("old-", "127.0.0.1", is_expired=True)
    good = (certificates.cert, certificates.key)
    servers = []
    for name, ca, pair in (
        ("expired", certificates.ca, old), ("refusing", certificates.other_ca, good), ("good", certificates.ca, good)
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        servers.append(EtcdTlsServer(tmp_path / name, ca, *pair))
    mine = f"ca={certificates.ca}&cert={certificates.cert}&key={certificates.key}"
    try:
        for server in servers:
            server.start()
        ports = [f"127.0.0.1:{server.port}" for server in servers]
        for first in (ports, [ports[1], ports[0], ports[2]]):
            backend = open_backend(parse(f"etcds://{','.join(first)}/x?{mine}"))
            version = await backend.write(first[0], b"1", None)
            assert version is not None
            assert await backend.read(first[0]) == Entry(b"1", version)
            await backend.close()
        for kind in (ports[:1], ports[1:2], ports[:2]):
            backend = open_backend(parse(f"etcds://{','.join(kind)}/x?{mine}"))
            with pytest.raises(BackendError, match=r"no TLS connection to .*certificate") as caught:
                await backend.read("a")
            assert type(caught.value) is BackendError, "to ask again would help nobody"
            await backend.close()
    finally:
        for server in servers:
            server.kill()


# python happy eyeballs: an address of a name that drops packets


@contextlib.contextmanager
def dropping(port: int) -> Iterator[str]:
    """Yield an address of this machine at whose port connections are not answered: its queue is full."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.2", port))
        hole.listen(0)
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", port))
        yield "127.0.0.2"


async def test_a_name_whose_first_address_drops_packets(
    etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dropping(etcd_server.port) as hole:

        async def addresses(*words: Any, **options: Any) -> list[Any]:
            place = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*place, (address, etcd_server.port)) for address in (hole, "127.0.0.1")]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
        backend = open_backend(parse(f"etcd://etcd.example.com:{etcd_server.port}/{secrets.token_hex(4)}"))
        began = time.monotonic()
        assert await backend.read("a") is None
        assert time.monotonic() - began < 4
        await backend.close()


# terraform #16098, consul-template: a token that expires in the middle of a run, and is renewed in its file


async def test_a_renewed_token_of_consul_is_used_without_a_new_start(
    consul_stub: ConsulStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(file))
    consul_stub.store.tokens = {"first": "team/"}
    backend = open_backend(parse(consul_stub.url("team")))
    assert await change(backend, "shared/n", lambda content, now: (Change(1), "done")) == "done"
    consul_stub.store.tokens = {"second": "team/"}
    with pytest.raises(BackendError, match="ACL not found"):
        await load(backend, "shared/n")
    file.write_text("second\n")
    found = await asyncio.gather(*(load(backend, "shared/n") for _ in range(4)))
    assert found == [1] * 4
    await backend.close()
