"""Delegates that another run holds, that take changes back, and that owe handlers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from sloth.engine.events import CallFinished, HostPhase, PhaseKind
from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.home import Home
from tests.support.paths import ROOT
from tests.support.running import finished_hosts, run_site

HOLD = """
task({ name = "hold", hosts = "db1", run = function()
    exec.run("touch ~/held; while test -e ~/held; do sleep 0.2; done")
end })
"""
DELEGATED = """
task({ name = "own", hosts = "web1", run = function() file.copy({ dest = "~/own", content = "x" }) end })
task({ name = "t", hosts = "web*", delegate_to = "db1", run = function() exec.run("touch ~/for-" .. host.name) end })
"""


async def test_a_delegate_that_another_run_holds_is_waited_for_and_named(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    (tmp_path / "hold.sloth").write_text(HOLD)
    (tmp_path / "site.sloth").write_text(DELEGATED)
    held = servers.homes["db1"] / "held"
    holding = asyncio.create_task(run_site(tmp_path / "hold.sloth", inventory, tmp_path / "other"))
    async with asyncio.timeout(60):
        while not held.exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.1)
    where = (tmp_path / "site.sloth", inventory, tmp_path / "controller")
    events = await run_site(*where, Options(lock_wait=0.5), "web*")
    ends = finished_hosts(events)
    for name in ("web1", "web2"):
        assert f"on db1 (for {name}): db1 is locked by" in (ends[name].error or ""), ends[name].error
        assert "--lock-wait" in (ends[name].error or "")
    assert (servers.homes["web1"] / "own").exists(), "the host itself is not held"
    waiting = asyncio.create_task(run_site(*where, Options(lock_wait=60), "web*"))
    await asyncio.sleep(1)
    held.unlink()
    events = await waiting
    assert {end.status for end in finished_hosts(events).values()} == {"changed"}
    locked = [e for e in events if isinstance(e, HostPhase) and e.phase.kind is PhaseKind.LOCKED]
    assert {event.host for event in locked} <= {"web1", "web2"}
    assert locked
    await holding
    assert {path.name for path in servers.homes["db1"].glob("for-*")} == {"for-web1", "for-web2"}


async def test_throttle_counts_hosts_that_delegate(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    (tmp_path / "site.sloth").write_text(
        """
task({ name = "t", throttle = 1, delegate_to = function(h) return h.name == "web1" and "web2" or "web1" end,
    run = function() exec.run("mkdir BUSY"); exec.run("sleep 0.2; rmdir BUSY") end })
""".replace("BUSY", str(tmp_path / "busy"))
    )
    events = await run_site(tmp_path / "site.sloth", inventory, tmp_path / "controller")
    assert {end.status for end in finished_hosts(events).values()} == {"changed"}


async def test_a_rollback_takes_back_what_was_delegated(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    """Of the host that failed only, on all hosts on which it was made, and its handlers do not run."""
    for name in ("db1", "web2"):
        (servers.homes[name] / "conf").write_text("old")
    (tmp_path / "site.sloth").write_text("""
task({ name = "t", hosts = "web*", on_failure = "rollback", run = function()
    file.copy({ dest = "~/own", content = "x" })
    file.copy({ dest = "~/for-" .. host.name, content = "x", delegate_to = "db1", notify = "h" })
    if host.name == "web1" then
        file.copy({ dest = "~/conf", content = "new", delegate_to = "db1" })
        file.copy({ dest = "~/conf", content = "new", delegate_to = "web2" })
        exec.run({ cmd = "exit 3", delegate_to = "db1" })
    end
end })
handler({ name = "h", run = function() exec.run("touch ~/handled") end })
""")
    events = await run_site(tmp_path / "site.sloth", inventory, tmp_path / "controller", hosts="web*")
    homes = servers.homes
    assert [(homes[name] / "conf").read_text() for name in ("db1", "web2")] == ["old", "old"]
    assert [(homes["db1"] / f"for-{name}").exists() for name in ("web1", "web2")] == [False, True]
    assert [(homes[name] / "own").exists() for name in ("web1", "web2")] == [False, True]
    assert [(homes[name] / "handled").exists() for name in ("web1", "web2", "db1")] == [False, True, False]
    taken = [e.result for e in events if isinstance(e, CallFinished) and e.result.reason == "rollback"]
    assert sorted(result.delegated_to for result in taken) == ["", "db1", "db1", "web2"]


OWED = """
handler({ name = "call", run = function() exec.run("echo call >> FILES/log") end })
handler({ name = "task", run = function() exec.run("echo task >> FILES/log") end })
handler({ name = "delegated", run = function() exec.run("echo delegated >> FILES/log") end })
local function first() return not vars.fixed end
task({ name = "s", notify = "task", changed_when = first, run = function() end })
task({ name = "t", run = function()
    exec.run({ cmd = "true", read_only = true, changed_when = first, notify = "call" })
    file.stat({ path = "/", changed_when = first, notify = "delegated", delegate_to = "web2" })
end })
task({ name = "u", run = function() if first() then exec.run("touch FILES/here; sleep 100") end end })
"""


def test_a_change_that_only_the_site_knows_of_owes_its_handler(home: Home) -> None:
    """`changed_when` makes a change of what changed nothing, and the controller is killed before the handlers."""
    (home.path / "site.sloth").write_text(OWED.replace("FILES", str(home.files)))
    words = [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "--limit", "web1"]
    environment = {**os.environ, "HOME": str(home.path), "PYTHONPATH": str(ROOT)}
    environment.pop("SLOTH_INVENTORY", None)
    with subprocess.Popen(words, cwd=home.path, env=environment, start_new_session=True) as running:
        until = time.monotonic() + 60
        while not (home.files / "here").exists():
            assert time.monotonic() < until
            time.sleep(0.1)
        running.kill()
    home.run("-e", "fixed=true", "--lock-wait", "60")
    assert home.text("log") == "call\ntask\ndelegated\n"
    home.run("-e", "fixed=true")
    assert home.text("log") == "call\ntask\ndelegated\n"
    assert home.json("state", "list", "handler", "--agent", "web1") == []
