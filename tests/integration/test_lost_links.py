"""A connection that is lost while the payload does not notice: its work and the next attempt's never overlap."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.link import Link
from tests.support.running import finished_hosts, run_site

# Notes when two of it run at once. It takes its time until `slow` is removed.
SLOW = """#!/bin/sh
mkdir DIR/busy || echo overlap >> DIR/log
trap 'rmdir DIR/busy; echo ended >> DIR/log; exit 1' TERM
echo begun >> DIR/log
if test -e DIR/slow; then sleep 600 & wait; fi
rmdir DIR/busy
echo finished >> DIR/log
"""


@pytest.mark.timeout(180)
async def test_the_next_attempt_waits_for_the_end_of_the_last(servers: LoopbackFleet, tmp_path: Path) -> None:
    script = tmp_path / "slow.sh"
    script.write_text(SLOW.replace("DIR", str(tmp_path)))
    script.chmod(0o755)
    (tmp_path / "slow").touch()
    site = tmp_path / "site.sloth"
    site.write_text(
        # What is owed to the handler is committed before the change: nothing but the run lock keeps others away.
        'handler({name = "h", run = function() end})\n'
        'task({name = "t", notify = "h", retries = 2, delay = 0, run = function()\n'
        f'file.copy({{content = "x", dest = "{tmp_path}/f", validate = "{script} %s"}})\nend}})'
    )
    port = re.search(r"\[hosts\.web1\]\n.*\nport = (\d+)", servers.inventory_toml())
    assert port is not None
    async with Link(int(port[1])) as link:
        text = servers.inventory_toml().replace(f"port = {port[1]}\n", f"port = {link.port}\n")
        text = text.replace(f'"{servers.known_hosts}"', f'"{tmp_path}/known"\nhost_keys = "accept-new"')
        (tmp_path / "i.toml").write_text(text)
        inventory = Inventory.read(tmp_path / "i.toml")
        run = asyncio.create_task(run_site(site, inventory, tmp_path / "controller", None, "web1"))
        while not (tmp_path / "log").exists():
            assert not run.done()
            await asyncio.sleep(0.05)
        (tmp_path / "slow").unlink()
        link.cut()
        events = await run
    assert finished_hosts(events)["web1"].status == "changed", finished_hosts(events)["web1"].error
    assert (tmp_path / "log").read_text().split() == ["begun", "ended", "begun", "finished"]
    assert (tmp_path / "f").read_text() == "x"
