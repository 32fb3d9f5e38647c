"""The SSH servers of the demo leave nothing behind."""

import asyncio
import os
import socket
from pathlib import Path

import asyncssh
import pytest

from sloth.transport import loopback
from sloth.transport.loopback import LoopbackFleet


async def test_a_command_may_outlive_its_connection_but_not_the_fleet(tmp_path: Path) -> None:
    """A task left to a stopped loop is found by the garbage collector in the midst of another test."""
    before = asyncio.all_tasks()
    async with LoopbackFleet(("a",), tmp_path) as fleet:
        connection = await asyncssh.connect(
            "127.0.0.1",
            fleet.ports["a"],
            client_keys=[str(fleet.key_file)],
            known_hosts=str(fleet.known_hosts),
            config=[],
        )
        process = await connection.create_process("echo $$; sleep 300")
        shell = int(await process.stdout.readline())
        connection.abort()
        await connection.wait_closed()
        os.kill(shell, 0)
    assert asyncio.all_tasks() == before
    assert not Path(f"/proc/{shell}").exists()


async def test_a_server_comes_back_on_its_port_once_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that are lost and come back have the address that the inventory names."""
    async with LoopbackFleet(("web1",), tmp_path / "fleet") as fleet:
        port = fleet.ports["web1"]
        await fleet.stop("web1")
        with socket.create_server(("127.0.0.1", port)):
            with monkeypatch.context() as patch:
                patch.setattr(loopback, "AGAIN", -1.0)
                with pytest.raises(OSError, match="in use"):
                    await fleet.start("web1")
            starting = asyncio.create_task(fleet.start("web1"))
            await asyncio.sleep(0.1)
            assert not starting.done()
        await starting
        assert fleet.ports["web1"] == port
