"""What a run costs in round trips does not grow with the number of its resources."""

from __future__ import annotations

from pathlib import Path

from bench.proxy import DelayProxy
from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.running import results, run_site


async def _turns(directory: Path, resources: int) -> int:
    async with LoopbackFleet(("slow",), directory) as fleet, DelayProxy(fleet.ports["slow"], 0.05) as proxy:
        text = fleet.inventory_toml().replace(f"port = {fleet.ports['slow']}", f"port = {proxy.port}")
        fleet.known_hosts.write_text(fleet.known_hosts.read_text().replace(str(fleet.ports["slow"]), str(proxy.port)))
        (directory / "inventory.toml").write_text(text)
        site = directory / "site.sloth"
        site.write_text(f"""
task({{ name = "lines", run = function()
    for i = 1, {resources} do file.lineinfile({{ path = "~/lines", line = "line " .. i, create = true }}) end
end }})
""")
        inventory = Inventory.read(directory / "inventory.toml")
        await run_site(site, inventory, directory / "controller")
        proxy.turns = 0
        events = await run_site(site, inventory, directory / "controller")
        assert [result.status for result in results(events)] == ["unchanged"] * resources
        return proxy.turns


async def test_a_hundred_resources_make_as_many_round_trips_as_ten(tmp_path: Path) -> None:
    ten, hundred = await _turns(tmp_path / "ten", 10), await _turns(tmp_path / "hundred", 100)
    # Window updates and replies that come in two pieces are worth a turn or two; a call each would be 90 more.
    assert hundred <= ten + 4, (ten, hundred)
