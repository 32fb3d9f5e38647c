"""The SSH servers of the demo leave nothing behind."""

import asyncio
import os
from pathlib import Path

import asyncssh

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
