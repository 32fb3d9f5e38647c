"""What people reported of delegation in Ansible, tried on ours; the numbers are those of ansible/ansible's issues."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench.proxy import DelayProxy
from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.home import Home
from tests.support.running import finished_hosts, results, run_site


async def test_loops_ports_omission_and_names(servers: LoopbackFleet, inventory: Inventory, tmp_path: Path) -> None:
    """#65783 and #41969 (loops), #8224 (connection of the delegate), #79961 (no delegate), #13014 (which host did it).

    #42344: a call that is hidden shows where it was made, too. #16568: many hosts to one delegate.
    """
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "loop", hosts = "web*", run = function()
    for _, name in ipairs({ "db1", host.name, "web1", "db1" }) do
        exec.run({ cmd = "echo " .. host.name .. " >> ~/loop", delegate_to = name })
    end
    exec.run({ cmd = "true", delegate_to = nil })
    exec.run({ cmd = "true", delegate_to = "db1", sensitive = true })
    exec.run({ cmd = "true", delegate_to = function() return nil end })
end })
""")
    events = await run_site(site, inventory, tmp_path / "controller")
    loop = {name: sorted((servers.homes[name] / "loop").read_text().split()) for name in servers.names}
    assert loop == {"web1": ["web1", "web1", "web2"], "web2": ["web2"], "db1": ["web1"] * 2 + ["web2"] * 2}
    places = [(result.delegated_to, result.subject) for result in results(events) if "true" in result.subject]
    assert places == [("", "true")] * 4
    assert [result.delegated_to for result in results(events) if "*" in result.subject] == ["db1", "db1"]


async def test_once_on_a_delegate_and_when_of_the_host(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    """#38226 and #9488 (run_once), #9784 (when is that of the host), #15484 and #26336 (handlers are the host's)."""
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "once", run_once = true, delegate_to = "db1", notify = "h", run = function()
    exec.run("echo " .. host.name .. " >> ~/once")
end })
task({ name = "when", delegate_to = "db1", when = function() return host.name == "web2" end, run = function()
    exec.run("echo " .. host.name .. " >> ~/when")
end })
handler({ name = "h", run = function() exec.run("echo h >> ~/handler") end })
handler({ name = "g", delegate_to = "web2", run = function() exec.run("echo g >> ~/handler") end })
task({ name = "other", hosts = "db1", notify = "g", run = function() exec.run("true") end })
""")
    await run_site(site, inventory, tmp_path / "controller")
    assert (servers.homes["db1"] / "once").read_text() == "web1\n"
    assert (servers.homes["db1"] / "when").read_text() == "web2\n"
    handled = {name: (home / "handler").exists() for name, home in servers.homes.items()}
    assert handled == {"web1": True, "web2": True, "db1": False}


async def test_a_lost_delegate_is_a_failure_that_can_be_ignored_and_tried_again(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    """#35030 and #14762: the host is not unreachable because its delegate is.

    #32379: a host that has failed may be a delegate: what it depends on is in the site (depends_on).
    """
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "failed", hosts = "db1", run = function() exec.run("false") end })
task({ name = "to it", hosts = "web1", depends_on = {}, run = function()
    exec.run({ cmd = "touch ~/delegated", delegate_to = "db1" })
end })
task({ name = "ignored", hosts = "web1", delegate_to = "web2", ignore_errors = true, run = function()
    exec.run("sleep 60")
end })
task({ name = "again", hosts = "web1", retries = 20, delay = 1, run = function()
    exec.run({ cmd = "touch ~/again", delegate_to = "web2" })
end })
""")

    async def lose() -> None:
        for _ in range(600):
            await asyncio.sleep(0.1)
            if (servers.homes["db1"] / "delegated").exists() and (servers.homes["web2"] / ".sloth-runner").exists():
                break
        await asyncio.sleep(2)
        await servers.stop("web2")
        await servers.start("web2")

    losing = asyncio.create_task(lose())
    events = await run_site(site, inventory, tmp_path / "controller", Options(), ["web1", "db1"])
    await losing
    ends = finished_hosts(events)
    assert {name: end.status for name, end in ends.items()} == {"web1": "changed", "db1": "failed"}, ends
    assert (servers.homes["web2"] / "again").exists()


async def test_what_is_delegated_costs_no_round_trip_for_each_call(tmp_path: Path) -> None:
    async def turns(directory: Path, count: int) -> int:
        async with LoopbackFleet(("own", "slow"), directory) as fleet, DelayProxy(fleet.ports["slow"], 0.05) as proxy:
            text = fleet.inventory_toml().replace(f"port = {fleet.ports['slow']}", f"port = {proxy.port}")
            known = fleet.known_hosts.read_text().replace(str(fleet.ports["slow"]), str(proxy.port))
            fleet.known_hosts.write_text(known)
            (directory / "inventory.toml").write_text(text)
            site = directory / "site.sloth"
            site.write_text(f"""
task({{ name = "lines", hosts = "own", delegate_to = "slow", run = function()
    for i = 1, {count} do file.lineinfile({{ path = "~/lines", line = "line " .. i, create = true }}) end
end }})
""")
            inventory = Inventory.read(directory / "inventory.toml")
            await run_site(site, inventory, directory / "controller", hosts="own")
            proxy.turns = 0
            await run_site(site, inventory, directory / "controller", hosts="own")
            return proxy.turns

    few, many = await turns(tmp_path / "few", 5), await turns(tmp_path / "many", 60)
    assert many <= few + 8, (few, many)  # replies of shared sessions may come in more pieces


async def test_the_report_says_where_it_was_done(home: Home) -> None:
    (home.path / "site.sloth").write_text("""
task({ name = "t", hosts = "web1", run = function() exec.run({ cmd = "true", delegate_to = "web2" }) end })
""")
    assert "exec.run true on web2 (run)  web1" in home("run", "-f", "site.sloth")
