"""Calls that are made on another host than that for which they are: delegate_to, of tasks and of calls."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sloth.engine.events import Event, TaskFinished
from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.running import finished_hosts, results, run_site, run_whole


def ended(events: list[Event], name: str) -> dict[str, TaskFinished]:
    """Return how a task ended, by host."""
    return {event.host: event for event in events if isinstance(event, TaskFinished) and event.task == name}


async def run(
    tmp_path: Path, inventory: Inventory, source: str, options: Options | None = None, hosts: str = "all"
) -> list[Event]:
    site = tmp_path / "site.sloth"
    site.write_text(source)
    return await run_site(site, inventory, tmp_path / "controller", options, hosts)


async def test_a_task_and_a_call_are_delegated_and_facts_stay_those_of_the_host(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    events = await run(
        tmp_path,
        inventory,
        """
task({ name = "whole", hosts = "web*", delegate_to = "db1", run = function()
    file.copy({ dest = "~/whole-" .. host.name, content = host.name })
    file.copy({ dest = "~/own-" .. host.name, content = "x", delegate_to = host.name })
end })
task({ name = "call", hosts = "web1", run = function()
    file.copy({ dest = "~/before", content = "x" })
    local r = exec.run({ cmd = "echo $HOME", read_only = true, delegate_to = "web2" })
    file.copy({ dest = "~/after", content = r.stdout })
    file.copy({ dest = "~/function", content = "x", delegate_to = function(h)
        return h.name == "web1" and "db1" or nil
    end })
end })
task({ name = "function", hosts = "web*", delegate_to = function(h) return h.name == "web1" and "db1" or false end,
    run = function() file.copy({ dest = "~/maybe-" .. host.name, content = "x" }) end })
""",
    )
    made = {name: {p.name for p in home.iterdir() if p.is_file()} for name, home in servers.homes.items()}
    assert made["db1"] == {"whole-web1", "whole-web2", "function", "maybe-web1"}
    assert made["web1"] == {"own-web1", "before", "after"}
    assert made["web2"] == {"own-web2", "maybe-web2"}
    assert (servers.homes["web1"] / "after").read_text() == str(servers.homes["web2"])
    assert {result.delegated_to for result in results(events)} == {"", "db1", "web2"}
    assert {host: end.status for host, end in finished_hosts(events).items()} == {
        "web1": "changed", "web2": "changed", "db1": "skipped",
    }  # fmt: skip


async def test_the_controllers_machine_is_a_delegate(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "own"))
    site = """task({ name = "t", delegate_to = "local", run = function()
        file.copy({ dest = "~/" .. host.name, content = "x" }) end })"""
    await run(tmp_path, inventory, site)
    assert {p.name for p in (tmp_path / "own").iterdir()} >= {"web1", "web2", "db1"}
    checked = await run(tmp_path, inventory, site, Options(check=True))
    assert {r.status for r in results(checked)} == {"unchanged"}


async def test_a_failure_is_that_of_its_host_only(servers: LoopbackFleet, inventory: Inventory, tmp_path: Path) -> None:
    events = await run(
        tmp_path,
        inventory,
        """
task({ name = "t", hosts = "web*", delegate_to = "db1", run = function()
    for i = 1, 20 do
        exec.run({ cmd = "touch ~/" .. host.name .. "-" .. i })
        if host.name == "web1" and i == 5 then exec.run("exit 7") end
    end
end })
""",
    )
    made = {p.name for p in servers.homes["db1"].iterdir() if p.is_file()}
    assert made == {f"web2-{i}" for i in range(1, 21)} | {f"web1-{i}" for i in range(1, 6)}
    ends = finished_hosts(events)
    assert (ends["web1"].status, ends["web2"].status) == ("failed", "changed")
    assert "exec.run exit 7 on db1 (for web1): exit code 7" in (ends["web1"].error or "")


async def test_a_delegate_that_cannot_be_reached_fails_that_task_of_each_host(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    await servers.stop("db1")
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "t", hosts = "web*", delegate_to = "db1", ignore_errors = true, run = function() exec.run("true") end })
task({ name = "own", hosts = "web*", run = function() file.copy({ dest = "~/own", content = "x" }) end })
task({ name = "last", hosts = "web*", run = function() exec.run({ cmd = "true", delegate_to = "db1" }) end })
""")
    events, status = await run_whole(site, inventory, tmp_path / "controller", hosts="web*")
    assert status == 1
    for name in ("web1", "web2"):
        assert ended(events, "own")[name].status == "changed"
        end = finished_hosts(events)[name]
        assert end.status == "failed"
        assert f"exec.run true on db1 (for {name}): " in (end.error or "")


async def test_hosts_delegate_to_each_other_and_the_same_thing(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    site = """
task({ name = "cross", hosts = "web*", run = function()
    local other = host.name == "web1" and "web2" or "web1"
    for i = 1, 5 do
        exec.run({ cmd = "echo own >> ~/log" })
        exec.run({ cmd = "echo " .. host.name .. " >> ~/log", delegate_to = other })
        file.copy({ dest = "~/same", content = "same", delegate_to = "db1" })
        file.lineinfile({ path = "~/lines", line = host.name, create = true, delegate_to = "db1" })
    end
end })
task({ name = "own", run = function() file.copy({ dest = "~/mine", content = "x" }) end })
"""
    events = await run(tmp_path, inventory, site)
    assert {(end.status, end.error) for end in finished_hosts(events).values()} == {("changed", None)}
    for name, other in (("web1", "web2"), ("web2", "web1")):
        assert sorted((servers.homes[name] / "log").read_text().split()) == ["own"] * 5 + [other] * 5
    assert sorted((servers.homes["db1"] / "lines").read_text().split()) == ["web1", "web2"]
    again = await run(tmp_path, inventory, site)
    assert {r.status for r in results(again) if r.module != "exec.run"} == {"unchanged"}


async def test_what_is_delegated_is_no_orphan_of_the_delegates_own_run(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    site = """
task({ name = "for others", hosts = "web*", delegate_to = "db1", run = function()
    file.copy({ dest = "~/for-" .. host.name, content = "x" })
    file.copy({ dest = "~/for-all", content = "x" })
end })
task({ name = "own", run = function() file.copy({ dest = "~/own", content = "x" }) end })
"""
    first = await run(tmp_path, inventory, site)
    assert {(end.status, end.error) for end in finished_hosts(first).values()} == {("changed", None)}
    for options in (Options(prune=True), Options(prune=True, check=True)):
        for hosts in ("all", "db1", "web1"):
            events = await run(tmp_path, inventory, site, options, hosts)
            assert [(r.key, r.reason, r.delegated_to) for r in results(events) if r.status != "unchanged"] == [], hosts
    assert {p.name for p in servers.homes["db1"].iterdir() if p.is_file()} == {
        "for-web1", "for-web2", "for-all", "own",
    }  # fmt: skip


async def test_handlers_of_delegated_calls_run_on_the_host_itself(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    site = """
task({ name = "t", hosts = "web*", delegate_to = "db1", notify = "h", run = function()
    file.copy({ dest = "~/for-" .. host.name, content = "x" })
end })
handler({ name = "h", run = function() exec.run("echo h >> ~/log") end })
"""
    await run(tmp_path, inventory, site)
    await run(tmp_path, inventory, site)
    assert [(servers.homes[name] / "log").exists() for name in servers.names] == [True, True, False]
    assert (servers.homes["web1"] / "log").read_text() == "h\n"


async def test_a_timeout_of_one_host_leaves_the_delegated_calls_of_others(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    begun = time.monotonic()
    events = await run(
        tmp_path,
        inventory,
        """
task({ name = "t", hosts = "web1", delegate_to = "db1", timeout = 3, run = function() exec.run("sleep 60") end })
task({ name = "u", hosts = "web2", delegate_to = "db1", run = function()
    exec.run("true"); exec.run("touch ~/done")
end })
""",
    )
    ends = finished_hosts(events)
    assert (ends["web1"].status, ends["web2"].status) == ("failed", "changed")
    assert time.monotonic() - begun < 50
    assert (servers.homes["db1"] / "done").exists()
