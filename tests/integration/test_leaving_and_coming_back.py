"""host.reboot and host.wait over SSH: what a host that comes back must show, and what is said when it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sloth.engine.events import Event, TaskFinished
from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.running import finished_hosts, printed, run_site

BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Each session sees another boot, as if the host had booted before it: a counter is part of the boot's id.
BOOTS = (
    "unshare", "-m", "/bin/sh", "-c",
    'echo x >> "$HOME/boots"; { echo 01234567-89ab-cdef-0123-; wc -l < "$HOME/boots"; } | tr -d "\\n" > "$HOME/boot";'
    f' mount --bind "$HOME/boot" {BOOT_ID} && exec /bin/sh -c "$1"', "sh",
)  # fmt: skip
HIDDEN = (
    "unshare", "-m", "/bin/sh", "-c",
    f'mount --bind /dev/null {BOOT_ID} && mount --bind /dev/null /proc/1/stat && exec /bin/sh -c "$1"', "sh",
)  # fmt: skip
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for mounts of its own")


async def run(tmp_path: Path, inventory: Inventory, body: str, options: Options | None = None) -> list[Event]:
    """Run a task on web1 that names a file, does `body`, and names another one."""
    site = tmp_path / "site.sloth"
    site.write_text(f"""
handler({{ name = "h", run = function() print("notified") end }})
task({{ name = "t", run = function()
    file.copy({{ dest = "~/before", content = "x" }})
    local r = {body}
    file.copy({{ dest = "~/after", content = "x" }})
    print(r.status)
end }})
""")
    return await run_site(site, inventory, tmp_path / "controller", options, "web1")


def error_of(events: list[Event]) -> str:
    (error,) = (event.error or "" for event in events if isinstance(event, TaskFinished) and event.task == "t")
    return error


async def test_a_host_is_waited_for_until_its_test_passes_and_nothing_is_orphaned(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    events = await run(tmp_path, inventory, "host.wait({ sleep = 0.1 })")
    assert (error_of(events), printed(events)) == ("", ["unchanged"])
    command = "test -e ~/ready || { touch ~/ready; echo not yet >&2; exit 1; }"
    body = f'host.wait({{ sleep = 0.1, timeout = 60, test_command = "{command}" }})'
    events = await run(tmp_path, inventory, body, Options(prune=True))
    assert (error_of(events), printed(events)) == ("", ["unchanged"])
    assert (servers.homes["web1"] / "before").exists(), "it was named before the connection was left"


async def test_a_test_that_never_passes_is_the_reason(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    body = 'host.wait({ sleep = 0.1, timeout = 3, test_command = "echo no page >&2; exit 7" })'
    error = error_of(await run(tmp_path, inventory, body))
    assert "the host was not reachable within 3 seconds: test_command: " in error
    assert "exit code 7" in error
    assert not (servers.homes["web1"] / "after").exists()
    error = error_of(await run(tmp_path, inventory, body.replace("{ sleep", '{ msg = "the page is down", sleep')))
    assert "the page is down" in error


@needs_root
async def test_a_host_that_has_booted_is_back_and_is_known(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    servers.shell = BOOTS
    reboot = 'host.reboot({ reboot_command = "true", post_delay = 0, timeout = 15, notify = "h" })'
    events = await run(tmp_path, inventory, reboot, Options(prune=True))
    assert (error_of(events), printed(events)) == ("", ["changed", "notified"])
    assert {path.name for path in servers.homes["web1"].iterdir()} >= {"before", "after"}


@needs_root
async def test_a_host_that_has_not_booted_is_not_back(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    reboot = 'host.reboot({ reboot_command = "true", timeout = 4 })'
    events = await run(tmp_path, inventory, reboot)
    assert "the host was not back within 4 seconds: it answers, and has not booted again; hint: some" in error_of(
        events
    )
    servers.shell = HIDDEN
    events = await run(tmp_path, inventory, reboot)
    said = "it cannot be known when web1 has booted again: its /proc cannot be read; hint: nothing was done"
    assert said in error_of(events)
    assert not (servers.homes["web1"] / "after").exists()
    assert finished_hosts(events)["web1"].status == "failed"


async def test_the_options_of_the_call_count(inventory: Inventory, tmp_path: Path) -> None:
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "t", become = "nosuch", run = function()
    host.wait({ become = false, sleep = 0.1, timeout = 20 })
end })""")
    events = await run_site(site, inventory, tmp_path / "controller", None, "web1")
    assert error_of(events) == ""


async def test_a_reboot_can_neither_be_delegated_nor_tried_again(inventory: Inventory, tmp_path: Path) -> None:
    for options in ('delegate_to = "web2"', "retries = 2"):
        error = error_of(await run(tmp_path, inventory, f'host.reboot({{ reboot_command = "true", {options} }})'))
        assert "this cannot be delegated, nor be tried again by itself" in error
