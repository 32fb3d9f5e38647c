"""What a large file costs, told in packets, writes, reads and hashes: seconds cannot be asserted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import asyncssh
import pytest

from sloth.engine import assets
from sloth.inventory import Inventory
from sloth.payload.session import wire
from sloth.transport import bundle, connect, corked, outbox, ssh
from sloth.transport.loopback import LoopbackFleet
from tests.support.running import results, run_site

SIZE = 8 * 1024 * 1024
PACKET = 32 * 1024  # bytes that servers take in one


class Counted:
    """A transport that notes what is written."""

    def __init__(self, transport: Any, sizes: list[int]) -> None:
        self._transport = transport
        self._sizes = sizes

    def write(self, data: bytes) -> None:
        self._sizes.append(len(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def _copy(directory: Path, ciphers: str = "") -> tuple[list[int], list[int]]:
    """Copy a large file to a host; return the sizes of what was written to its socket, and the kinds of packets."""
    sizes: list[int] = []
    kinds: list[int] = []
    real = corked.cork

    def counting(connection: Any) -> None:
        connection._transport = Counted(connection._transport, sizes)
        send = connection.send_packet

        def noted(kind: int, *parts: bytes, **more: Any) -> None:
            kinds.append(kind)
            send(kind, *parts, **more)

        connection.send_packet = noted
        real(connection)

    directory.mkdir(exist_ok=True)
    async with LoopbackFleet(("a",), directory / "fleet") as fleet:
        (directory / "large").write_bytes(os.urandom(SIZE))
        (directory / "site.sloth").write_text(
            'task({ name = "t", run = function() file.copy({ src = "large", dest = "~/large" }) end })'
        )
        text = fleet.inventory_toml()
        if ciphers:
            (directory / "config").write_text(f"Host *\n  Ciphers {ciphers}\n")
            text = text.replace("ssh_config = false", f'ssh_config = "{directory}/config"')
        (directory / "inventory.toml").write_text(text)
        inventory = Inventory.read(directory / "inventory.toml")
        with mock.patch.object(connect, "cork", counting):
            events = await run_site(directory / "site.sloth", inventory, directory / "controller")
        assert [result.status for result in results(events)] == ["changed"]
    return sizes, kinds


async def test_packets_are_full_and_written_together_and_none_is_to_be_ignored(tmp_path: Path) -> None:
    sizes, kinds = await _copy(tmp_path)
    assert kinds.count(asyncssh.constants.MSG_IGNORE) == 0
    # Where the window ends a packet is cut in two; the payload and its code go, too.
    assert kinds.count(asyncssh.constants.MSG_CHANNEL_DATA) < SIZE / PACKET * 1.2 + 60
    assert len(sizes) < SIZE / corked.LIMIT * 1.5 + 120


async def test_a_cipher_that_does_not_authenticate_keeps_its_packets_to_be_ignored(tmp_path: Path) -> None:
    _, kinds = await _copy(tmp_path, ciphers="aes256-ctr")
    assert kinds.count(asyncssh.constants.MSG_IGNORE) > kinds.count(asyncssh.constants.MSG_CHANNEL_DATA) > 0


async def test_keys_are_exchanged_again_in_the_midst_of_a_file(tmp_path: Path) -> None:
    real = connect.ConnectAttempt._given
    with mock.patch.object(
        connect.ConnectAttempt, "_given", lambda self: {**real(self), "rekey_bytes": 1024 * 1024, "rekey_seconds": 3600}
    ):
        _, kinds = await _copy(tmp_path)
    assert kinds.count(asyncssh.constants.MSG_KEXINIT) >= SIZE / 1024 / 1024 / 2
    assert kinds.count(asyncssh.constants.MSG_IGNORE) == 0


async def test_hosts_are_connected_while_a_file_is_hashed(tmp_path: Path) -> None:
    begun = threading.Event()
    hashed: list[bool] = []
    real_connect = ssh.Connector.connect
    real_hash = assets.hash_file

    async def connecting(self: ssh.Connector, *given: Any) -> Any:
        begun.set()
        return await real_connect(self, *given)

    def hashing(path: Path, size: int) -> str:
        hashed.append(begun.wait(60))
        return real_hash(path, size)

    with mock.patch.object(ssh.Connector, "connect", connecting), mock.patch.object(assets, "hash_file", hashing):
        await _copy(tmp_path)
    assert hashed == [True]


def test_files_are_read_in_pieces_that_fill_whole_frames(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    chunks = assets.read_chunks(tmp_path / "file", 1_000_000)
    frames = [len(frame) for data in chunks for frame in wire.pack_pieces(1, 0, data)]
    assert frames[:-1] == [2 * PACKET] * (len(frames) - 1)


async def test_a_packet_that_waits_is_written_before_the_connection_ends() -> None:
    class Transport:
        def __init__(self) -> None:
            self.log: list[object] = []

        def write(self, data: bytes) -> None:
            self.log.append(data)

        def close(self) -> None:
            self.log.append("close")

        def abort(self) -> None:
            self.log.append("abort")

    ends: tuple[Callable[[Any], None], ...] = (lambda one: one.close(), lambda one: one.abort())
    for end, name in zip(ends, ("close", "abort"), strict=True):
        transport = Transport()
        one = corked.Corked(transport)  # type: ignore[arg-type]
        one.write(b"a")
        one.write(b"b")
        assert transport.log == []
        end(one)
        assert transport.log == [b"ab", name]


@pytest.mark.parametrize(
    ("round_trip", "is_sent"), [(0.0, True), (0.009, True), (0.011, False), (None, False), ("real", True)]
)
async def test_compiled_code_goes_only_where_it_is_quick(
    tmp_path: Path, round_trip: float | str | None, is_sent: bool
) -> None:
    headers: list[bytes] = []
    real = outbox.Outbox.begin

    async def beginning(self: outbox.Outbox, process: Any, header: bytes) -> None:
        headers.append(header)
        await real(self, process, header)

    found = ssh._round_trip if round_trip == "real" else lambda connection: round_trip
    with mock.patch.object(outbox.Outbox, "begin", beginning), mock.patch.object(ssh, "_round_trip", found):
        async with LoopbackFleet(("a",), tmp_path / "fleet") as fleet:
            (tmp_path / "site.sloth").write_text(
                'task({ name = "t", run = function() file.copy({ content = "x", dest = "~/x" }) end })'
            )
            (tmp_path / "inventory.toml").write_text(fleet.inventory_toml())
            events = await run_site(
                tmp_path / "site.sloth", Inventory.read(tmp_path / "inventory.toml"), tmp_path / "controller"
            )
    assert [result.status for result in results(events)] == ["changed"]
    most = bundle.build().data
    assert (len(headers[-1]) > len(most) + 50_000) == is_sent, len(headers[-1])
