"""Delegation between real hosts: accounts, a delegate that another run holds, and a lost one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sloth.inventory import Inventory
from tests.support.machines import Fleet
from tests.support.running import finished_hosts, results, run_site

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

SITE = """
task({ name = "load balancer", serial = 1, run = function()
    file.lineinfile({ path = "/etc/pool", line = host.name, create = true, become = "root", delegate_to = "host3" })
    local who = exec.run({ cmd = "id -un; hostname", read_only = true, become = false, delegate_to = "host3" })
    assert(who.stdout ~= "deploy\\n" .. facts.hostname and who.stdout:match("^deploy\\n"), who.stdout)
    local own = exec.run({ cmd = "hostname", read_only = true })
    assert(own.stdout == facts.hostname, own.stdout)
end })
task({ name = "each other", run = function()
    local other = host.name == "host1" and "host2" or "host1"
    file.copy({ dest = "/etc/from-" .. host.name, content = "x", delegate_to = other, become = true })
end })
"""


async def test_hosts_delegate_to_each_other_and_as_other_accounts(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(fleet.inventory(user="deploy", become="false"))
    (tmp_path / "site.sloth").write_text(SITE)
    inventory = Inventory.read(tmp_path / "inventory.toml")
    for expected in ("changed", "unchanged"):
        events = await run_site(tmp_path / "site.sloth", inventory, tmp_path / "controller", hosts=["host1", "host2"])
        ends = finished_hosts(events)
        assert {(end.status, end.error) for end in ends.values()} == {(expected, None)}
        assert {result.delegated_to for result in results(events)} == {"", "host1", "host2", "host3"}
    assert (fleet.roots["host3"] / "etc/pool").read_text() == "host1\nhost2\n"
    for name, other in (("host1", "host2"), ("host2", "host1")):
        assert (fleet.roots[name] / f"etc/from-{other}").exists()
    for name in ("host1", "host2", "host3"):
        for path in ("etc/pool", "etc/from-host1", "etc/from-host2"):
            (fleet.roots[name] / path).unlink(missing_ok=True)
