"""A real host with a real second account and sshd: root's runs are raced, and their sessions killed."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from sloth.engine.events import Event
from sloth.engine.options import Options
from sloth.inventory import Inventory
from tests.support.machines import Fleet
from tests.support.running import finished_hosts, results, run_site

pytestmark = [pytest.mark.attack, pytest.mark.fleet, pytest.mark.timeout(300)]
HOST = "host2"
RACES = """
task({ name = "race", ignore_errors = true, run = function()
    local tree = "/home/ops/tree"
    local calls = {
        function(n) return file.directory({ path = tree, recurse = true, owner = "ops", mode = "u=rwX,go=rX" }) end,
        function(n) return file.lineinfile({ path = tree .. "/mine", line = "x" .. n, mode = "0644" }) end,
        function(n) return file.copy({ dest = tree .. "/mine", content = "y" .. n, owner = "ops", mode = "0666" }) end,
        function(n) return file.copy({ dest = tree .. "/mine", content = "z" .. n, follow = true }) end,
        function(n) return file.blockinfile({ path = tree .. "/mine", block = "b" .. n, backup = true }) end,
        function(n) return file.absent({ path = tree .. "/mine" }) end,
    }
    for n = 1, 60 do
        for _, call in ipairs(calls) do pcall(function() return call(n).changed end) end
    end
end })
"""
# The account ops exchanges its directory for root's, its file for links and hard links, as fast as it can.
ATTACK = """
cd /home/ops && rm -rf tree link aside && mkdir -p tree && echo mine > tree/mine && ln -s /srv/root link
end=$(($(date +%s) + 12))
while [ $(date +%s) -lt $end ]; do
    mv -T tree aside; mv -T link tree; mv -T tree link; mv -T aside tree
    ln -sfT /srv/root/private tree/mine; rm -f tree/mine
    ln /srv/root/private tree/mine; rm -f tree/mine; echo mine > tree/mine
done 2>/dev/null
true
"""
SITE = """
task({ name = "files", notify = "reload", run = function()
    for n = 1, 8 do file.copy({ dest = "/srv/attack/" .. n, content = "WORD" .. n }) end
    exec.run("sleep 0.05")
end })
handler({ name = "reload", run = function() exec.run("cp /srv/attack/1 /srv/attack/running") end })
"""
KILLS = {
    "payload": 'pkill -9 -f "python3 -I -S -E -c"',
    "sshd": "systemctl kill -s KILL ssh.service",
    "connection": 'pkill -9 -f "^sshd: root"',  # each has a process of its own
}
LEFTOVERS = "ls -A /srv/attack | grep sloth- || true; ls /root/.sloth-runner/unfinished 2>/dev/null || true"


def test_root_is_not_led_astray(fleet: Fleet, tmp_path: Path) -> None:
    fleet.shell(
        HOST, "mkdir -p /srv/root; echo secret > /srv/root/private; echo x > /srv/root/mine; chmod 600 /srv/root/*"
    )
    look = "cd /srv/root && stat -c '%n %U %a %s %h' . * && cat *"
    fleet.shell(HOST, "rm -f /home/ops/tree/mine; sysctl -q -w fs.protected_hardlinks=0 || true")
    before = fleet.shell(HOST, look)
    (tmp_path / "inventory.toml").write_text(fleet.inventory(user="root", become="false"))
    (tmp_path / "site.sloth").write_text(RACES)
    racer = threading.Thread(target=fleet.shell, args=(HOST, "su -s /bin/bash ops", ATTACK.encode()))
    racer.start()
    try:
        events = asyncio.run(
            run_site(
                tmp_path / "site.sloth", Inventory.read(tmp_path / "inventory.toml"), tmp_path / "c", Options(), HOST
            )
        )
        assert finished_hosts(events)[HOST].status in ("changed", "unchanged", "failed")
        assert results(events)
    finally:
        racer.join()
        fleet.shell(HOST, "sysctl -q -w fs.protected_hardlinks=1 || true; rm -rf /home/ops/tree /home/ops/aside")
    assert fleet.shell(HOST, look) == before
    found = fleet.shell(HOST, "find /home/ops -xdev -type f -exec grep -l secret {} + || true").split()
    assert not [path for path in found if "644" in fleet.shell(HOST, f"stat -c %a {path}")]
    assert not fleet.shell(HOST, "find /home/ops -xdev -user root -perm /6000").strip()


@pytest.mark.parametrize("name", KILLS)
def test_sessions_of_a_real_sshd_are_killed(fleet: Fleet, tmp_path: Path, name: str) -> None:
    (tmp_path / "inventory.toml").write_text(fleet.inventory(user="root", become="false"))
    inventory = Inventory.read(tmp_path / "inventory.toml")
    site = tmp_path / "site.sloth"
    fleet.shell(HOST, "mkdir -p /srv/attack")

    def run() -> list[Event]:
        return asyncio.run(run_site(site, inventory, tmp_path / "c", Options(), HOST))

    for number in range(2):
        site.write_text(SITE.replace("WORD", f"{name}{number}-"))
        killer = threading.Thread(target=kill_after, args=(fleet, KILLS[name], 0.3 + 0.3 * number))
        killer.start()
        run()
        killer.join()
        wait_for_sshd(fleet)
        end = finished_hosts(run())[HOST]
        assert end.status in ("changed", "unchanged"), end.error
        assert fleet.shell(HOST, "cat /srv/attack/running") == f"{name}{number}-1"
        assert fleet.shell(HOST, "cat /srv/attack/8") == f"{name}{number}-8"
        assert not fleet.shell(HOST, LEFTOVERS)
    assert {result.status for result in results(run()) if result.module == "file.copy"} == {"unchanged"}


def wait_for_sshd(fleet: Fleet) -> None:
    """Wait until systemd has started sshd again."""
    end = time.monotonic() + 60
    while True:
        try:
            fleet.shell(HOST, "systemctl reset-failed ssh.service; systemctl start ssh.service")
            return
        except AssertionError:
            assert time.monotonic() < end
            time.sleep(0.5)


def kill_after(fleet: Fleet, kill: str, seconds: float) -> None:
    """Kill by way of a unit of the host's own, which does not die with its connection."""
    time.sleep(seconds)
    fleet.shell(HOST, f"systemd-run -q --collect sh -c 'sleep 0.2; {kill}'; true")
    time.sleep(0.5)
