"""The host on which calls are made for others is lost in the middle of one: those that wait hear it, others go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sloth.engine.events import Event, HostFinished
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.backends.sqlite import SQLite
from sloth.state.memory import Memory
from sloth.state.shared import Shared
from sloth.transport import session
from sloth.transport.loopback import LoopbackFleet

pytestmark = [pytest.mark.attack, pytest.mark.timeout(240)]
SITE = """
task({ name = "delegated", hosts = "web*", delegate_to = "db", run = function()
    file.copy({ dest = "~/before-" .. host.name, content = host.name })
    exec.run({ cmd = "echo $PPID > ~/pid; mv ~/pid ~/payload; sleep LONG", creates = "~/no" })
    file.copy({ dest = "~/after-" .. host.name, content = host.name })
end })
task({ name = "own", run = function() file.copy({ dest = "~/own", content = host.name }) end })
"""
Fault = Callable[[LoopbackFleet, int], None]
FAULTS: dict[str, Fault] = {
    "killed": lambda servers, pid: os.kill(pid, signal.SIGKILL),
    "stopped": lambda servers, pid: os.kill(pid, signal.SIGSTOP),
    "cut": lambda servers, pid: servers.cut("db"),
}


async def run(directory: Path, servers: LoopbackFleet, long: int) -> tuple[int, dict[str, HostFinished]]:
    """Run SITE; return the exit status and how each host ended."""
    (directory / "inventory.toml").write_text(servers.inventory_toml())
    (directory / "site.sloth").write_text(SITE.replace("LONG", str(long)))
    inventory = Inventory.read(directory / "inventory.toml")
    ended: dict[str, HostFinished] = {}

    def emit(event: Event) -> None:
        if isinstance(event, HostFinished):
            ended[event.host] = event

    memory = Memory(directory / "controller")
    try:
        shared = Shared(SQLite(directory / "shared.db"))
        site = Site.read(str(directory / "site.sloth"))
        status = await Run(site, inventory, inventory.select("all"), Options(), emit, memory, shared).run()
    finally:
        memory.close()
    return status, ended


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_a_delegate_that_is_lost_in_a_call(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("PING", 1.0), ("SILENCE", 6.0), ("BYE", 6.0), ("CLOSE", 2.0)):
        monkeypatch.setattr(session, name, seconds)
    async with LoopbackFleet(("web1", "web2", "db", "alone"), tmp_path / "fleet") as servers:
        payloads: list[int] = []

        async def strike() -> None:
            noted = servers.homes["db"] / "payload"
            while not noted.exists():  # noqa: ASYNC110  another process makes it
                await asyncio.sleep(0.05)
            payloads.append(int(noted.read_text()))
            FAULTS[fault](servers, payloads[0])

        striking = asyncio.create_task(strike())
        try:
            status, ended = await run(tmp_path, servers, 30)
        finally:
            striking.cancel()
            for pid in payloads:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert payloads
        assert status in (1, 4)
        assert set(ended) == {"web1", "web2", "db", "alone"}
        assert ended["alone"].status == "changed"
        assert (servers.homes["alone"] / "own").read_text() == "alone"
        hit = [ended[name] for name in ("web1", "web2") if ended[name].status in ("failed", "unreachable", "unknown")]
        assert hit
        for end in hit:
            assert "db" in (end.error or ""), end.error
            assert "defect" not in (end.error or "")
        await asyncio.sleep(1)  # what runs on the delegate sees that nobody is there
        status, ended = await run(tmp_path, servers, 0)
        assert status == 0, {name: end.error for name, end in ended.items()}
        for name in ("web1", "web2"):
            for when in ("before", "after"):
                assert (servers.homes["db"] / f"{when}-{name}").read_text() == name
        for name in servers.homes:
            assert (servers.homes[name] / "own").read_text() == name
