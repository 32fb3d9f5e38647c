"""The spine on five real systemd hosts: as root by sudo, over their own sshd."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.passwords import Passwords
from tests.support.machines import Fleet
from tests.support.running import finished_hosts, results, run_site

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]

SITE = """
task({ name = "directories", run = function()
    for i = 1, 8 do file.directory({ path = "/srv/app/" .. i, mode = "0750", owner = "deploy", group = "deploy" }) end
end })
task({ name = "files", run = function()
    for i = 1, 8 do
        file.copy({ dest = "/srv/app/" .. i .. "/conf", content = "GREETING " .. i .. "\\n", mode = "0640" })
    end
end })
task({ name = "lines", run = function()
    for i = 1, 8 do file.lineinfile({ path = "/etc/hosts", line = "10.9.0." .. i .. " peer" .. i }) end
end })
task({ name = "blocks", run = function()
    for i = 1, 8 do
        file.blockinfile({ path = "/etc/app.conf", block = "number = " .. i, marker = "# {mark} " .. i, create = true })
    end
end })
task({ name = "links", run = function()
    for i = 1, 8 do file.link({ path = "/srv/app/link" .. i, src = i .. "/conf" }) end
end })
"""


PRINT = """
task({ name = "t", run = function() print(exec.run({ cmd = "COMMAND", read_only = true }).stdout) end })
"""


def test_forty_resources_on_five_hosts(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(fleet.inventory())
    inventory = Inventory.read(tmp_path / "inventory.toml")
    site = tmp_path / "site.sloth"
    site.write_text(SITE.replace("GREETING", "hello"))

    def go(check: bool = False) -> Counter[tuple[str, str, str, str]]:
        events = asyncio.run(run_site(site, inventory, tmp_path / "controller", Options(check=check)))
        statuses = {event.status for event in finished_hosts(events).values()}
        assert statuses <= {"changed", "unchanged"}, [event.error for event in finished_hosts(events).values()]
        return Counter((result.module, result.key, result.status, result.reason) for result in results(events))

    def why(told: Counter[tuple[str, str, str, str]]) -> Counter[tuple[str, str]]:
        return sum((Counter({key[2:]: n}) for key, n in told.items()), Counter())

    before = {name: fleet.tree(name) for name in fleet.addresses}
    predicted = go(check=True)
    assert {name: fleet.tree(name) for name in fleet.addresses} == before
    assert go() == predicted
    assert why(predicted) == {("changed", "new"): 200}
    assert why(go()) == {("unchanged", ""): 200}

    (fleet.roots["host3"] / "srv/app/4/conf").write_text("by hand\n")
    assert why(go()) == {("unchanged", ""): 199, ("changed", "drift"): 1}
    assert (fleet.roots["host3"] / "srv/app/4/conf").read_text() == "hello 4\n"

    site.write_text(SITE.replace("GREETING", "goodbye"))
    predicted = go(check=True)
    assert go() == predicted
    assert why(predicted) == {("unchanged", ""): 160, ("changed", "updated"): 40}


def test_sudo_with_a_password(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(fleet.inventory(user="ops"))
    inventory = Inventory.read(tmp_path / "inventory.toml")
    site = tmp_path / "site.sloth"
    site.write_text(PRINT.replace("COMMAND", "id -u"))

    def go(password: str | None) -> tuple[str, str]:
        options = Options(passwords=Passwords(become=password))
        event = finished_hosts(asyncio.run(run_site(site, inventory, tmp_path / "controller", options, "host1")))[
            "host1"
        ]
        return event.status, str(event.error)

    assert go("secret")[0] == "unchanged"
    status, error = go(None)
    assert (status, "--ask-become-pass" in error) == ("failed", True)
    status, error = go("wrong")
    assert (status, "does not accept the become password" in error) == ("failed", True)


def test_a_full_disk_leaves_the_old_file(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(fleet.inventory(user="root", become="false"))
    inventory = Inventory.read(tmp_path / "inventory.toml")
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "fill", run = function()
    exec.run("mkdir -p /mnt/small; mount -t tmpfs -o size=64k tmpfs /mnt/small; echo old > /mnt/small/file")
    file.copy({ dest = "/mnt/small/file", content = string.rep("x", 200000) })
end })
task({ name = "after", run = function() exec.run("true") end })
""")
    events = asyncio.run(run_site(site, inventory, tmp_path / "controller", None, ["host1", "host2"]))
    for host, event in finished_hosts(events).items():
        assert event.status == "failed", host
    errors = [result.error for result in results(events) if result.status == "failed"]
    assert len(errors) == 2
    assert all("no space left" in error.lower() for error in errors)
    site.write_text(PRINT.replace("COMMAND", "cat /mnt/small/file; ls -A /mnt/small"))
    events = asyncio.run(run_site(site, inventory, tmp_path / "controller", None, "host1"))
    assert results(events)[0].values["stdout"] == "old\nfile"
