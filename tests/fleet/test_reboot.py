"""host.reboot and host.wait on a real host, which boots in the middle of a run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.events import Event, OrphansFound
from sloth.engine.options import Options
from sloth.inventory import Inventory
from tests.support.machines import Fleet
from tests.support.running import finished_hosts, results, run_whole

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(400)]
HOST = "host5"


def run_on(fleet: Fleet, directory: Path, text: str, **options: Any) -> tuple[list[Event], int]:
    (directory / "inventory.toml").write_text(fleet.inventory())
    (directory / "site.sloth").write_text(text)
    inventory = Inventory.read(directory / "inventory.toml")
    controller = directory / "controller"
    fleet.may_reboot()
    return asyncio.run(run_whole(directory / "site.sloth", inventory, controller, Options(**options), HOST))


SITE = """
handler({ name = "h", run = function() exec.run("echo handled >> /srv/reboots") end })
task({ name = "before", notify = "h", run = function()
    file.copy({ content = "x", dest = "/srv/before" })
    exec.run("touch /run/volatile")
end })
task({ name = "login account", become = false, run = function() file.copy({ content = "x", dest = "~/before" }) end })
task({ name = "boot", run = function()
    local r = host.reboot({ timeout = 90, test_command = "test ! -e /run/volatile" })
    if not check then assert(r.rebooted and r.elapsed > 0) end
    file.copy({ content = "x", dest = "/srv/after" })
end })
task({ name = "login account again", become = false, run = function()
    file.copy({ content = "x", dest = "~/after" })
end })
"""


def test_a_run_goes_on_after_a_reboot(fleet: Fleet, tmp_path: Path) -> None:
    events, status = run_on(fleet, tmp_path, SITE, check=True)
    assert status == 0, finished_hosts(events)[HOST].error
    boots = [result for result in results(events) if result.module == "host.reboot"]
    assert [(result.status, result.msg) for result in boots] == [("changed", "would reboot")]
    fleet.shell(HOST, "test ! -e /srv/before")

    events, status = run_on(fleet, tmp_path, SITE)
    assert status == 0, finished_hosts(events)[HOST].error
    assert [(result.module, result.status) for result in results(events)] == [
        ("file.copy", "changed"),
        ("exec.run", "changed"),
        ("file.copy", "changed"),
        ("host.reboot", "changed"),
        ("file.copy", "changed"),
        ("file.copy", "changed"),
        ("exec.run", "changed"),
    ]
    files = "/srv/before /srv/after /home/deploy/before /home/deploy/after"
    assert fleet.shell(HOST, f"cat /srv/reboots && ls {files}").split() == ["handled", *sorted(files.split())]
    # What was named before the reboot is still known to be named: nothing of it is an orphan.
    assert not [event for event in events if isinstance(event, OrphansFound)]
    fleet.shell(HOST, f"rm -rf /srv/reboots {files} /root/.sloth-runner/state")


def test_what_does_not_come_back_is_a_failure(fleet: Fleet, tmp_path: Path) -> None:
    """A reboot that is refused, one without the right, and a host that is only waited for."""
    text = 'task({ name = "t", run = function() host.reboot({ timeout = 4, reboot_command = "true" }) end })'
    events, status = run_on(fleet, tmp_path, text)
    assert status == 1
    error = str(finished_hosts(events)[HOST].error)
    assert "the host was not back within 4 seconds: " in error, error  # busy as it is, it may not even answer in time
    events, status = run_on(fleet, tmp_path, 'task({ name = "t", become = false, run = function() host.reboot() end })')
    assert status == 1
    assert "only root can reboot this host" in str(finished_hosts(events)[HOST].error)
    calls = 'exec.run("true") print(host.wait({ timeout = 60 }).elapsed) exec.run("true")'
    text = f'task({{ name = "t", run = function() {calls} end }})'
    events, status = run_on(fleet, tmp_path, text)
    assert status == 0, finished_hosts(events)[HOST].error
    assert [(result.module, result.status) for result in results(events)] == [
        ("exec.run", "changed"),
        ("host.wait", "unchanged"),
        ("exec.run", "changed"),
    ]
