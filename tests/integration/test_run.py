"""Whole runs over SSH: what changes, why, and what happens when a host does not play along."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.events import Event, Log, RunFinished, TaskFinished
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.backends.sqlite import SQLite
from sloth.state.memory import Memory
from sloth.state.shared import Shared
from sloth.transport.loopback import LoopbackFleet
from tests.support.programs import SITE
from tests.support.running import finished_hosts, reasons, results, run_local, run_site


def tree(home: Path) -> dict[str, Any]:
    """Every file below `home` but sloth's own, with mode and hash."""
    found: dict[str, Any] = {}
    for path in sorted(home.rglob("*")):
        if ".sloth-runner" in path.parts:
            continue
        info = path.lstat()
        data = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(home))] = (info.st_mode, hashlib.sha256(os.fsencode(data)).hexdigest())
    return found


async def appears(path: Path) -> None:
    """Wait until a command on a host has made `path`: there is no event to wait for."""
    while not path.exists():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.sloth"
    path.write_text(SITE)
    return path


async def test_changed_then_unchanged_then_drift_then_updated(
    servers: LoopbackFleet, inventory: Inventory, site: Path, tmp_path: Path
) -> None:
    home, memory = servers.homes["web1"], tmp_path / "controller"
    first = await run_site(site, inventory, memory)
    assert reasons(first) == {("changed", "new"): 15, ("changed", "run"): 3}
    assert (home / "etc/motd").read_text() == "hello web1\n"
    assert (home / "log").read_text() == "reloaded\n"

    second = await run_site(site, inventory, memory)
    assert reasons(second) == {("unchanged", ""): 15}
    assert {event.status for event in finished_hosts(second).values()} == {"unchanged"}

    (home / "etc/motd").write_text("hacked\n")
    third = await run_site(site, inventory, memory)
    assert reasons(third)[("changed", "drift")] == 1
    assert (home / "etc/motd").read_text() == "hello web1\n"

    site.write_text(SITE.replace("hello", "goodbye"))
    fourth = await run_site(site, inventory, memory)
    assert reasons(fourth)[("changed", "updated")] == 3


async def test_check_predicts_exactly_and_changes_nothing(
    servers: LoopbackFleet, inventory: Inventory, site: Path, tmp_path: Path
) -> None:
    before = {name: tree(home) for name, home in servers.homes.items()}
    predicted = await run_site(site, inventory, tmp_path / "controller", Options(check=True))
    assert {name: tree(home) for name, home in servers.homes.items()} == before
    done = await run_site(site, inventory, tmp_path / "controller")

    def told(events: list[Event]) -> Counter[tuple[str, str, str]]:
        return Counter((result.key, result.status, result.reason) for result in results(events))

    assert told(predicted) == told(done)


async def test_a_failure_stops_its_host_only_and_names_the_place(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "a", run = function()
    if host.name == "web1" then file.copy({ dest = "~/missing/x", content = "x" }) end
    file.copy({ dest = "~/after", content = "x" })
end })
task({ name = "b", run = function() file.copy({ dest = "~/b", content = "b" }) end })
""")
    events = await run_site(site, inventory, tmp_path / "controller")
    statuses = {host: event.status for host, event in finished_hosts(events).items()}
    assert statuses == {"web1": "failed", "web2": "changed", "db1": "changed"}
    assert not (servers.homes["web1"] / "after").exists()
    assert not (servers.homes["web1"] / "b").exists()
    error = next(e.error for e in events if isinstance(e, TaskFinished) and e.status == "failed")
    assert error is not None
    assert error.startswith(f"{site}:3: file.copy ~/missing/x on web1: the directory ")


async def test_hosts_that_cannot_be_reached_do_not_stop_the_others(
    servers: LoopbackFleet, inventory: Inventory, site: Path, tmp_path: Path
) -> None:
    await servers.stop("web2")
    servers.known_hosts.write_text(
        "".join(
            line + "\n"
            for line in servers.known_hosts.read_text().splitlines()
            if f"]:{servers.ports['db1']} " not in line
        )
    )
    events = await run_site(site, inventory, tmp_path / "controller")
    found = finished_hosts(events)
    assert found["web1"].status == "changed"
    assert (found["web2"].status, found["db1"].status) == ("unreachable", "unreachable")
    assert "refused" in str(found["web2"].error)
    assert "host key is unknown: SHA256:" in str(found["db1"].error)
    summary = next(event.summary for event in events if isinstance(event, RunFinished))
    assert summary.unreachable == 2
    await servers.start("web2")


async def test_a_host_without_python_says_so(
    servers: LoopbackFleet, inventory: Inventory, site: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "sh").symlink_to("/bin/sh")
    servers.environment["PATH"] = str(bare)
    text = (tmp_path / "inventory.toml").read_text().replace("[defaults]", '[defaults]\npython = "python3"')
    (tmp_path / "bare.toml").write_text(text)
    events = await run_site(site, Inventory.read(tmp_path / "bare.toml"), tmp_path / "controller")
    for event in finished_hosts(events).values():
        assert event.status == "failed"
        assert "has no usable Python" in str(event.error)


async def test_a_link_cut_in_mid_run_is_an_error_and_the_next_run_heals(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "slow", run = function()
    file.copy({ dest = "~/before", content = "x" })
    if host.name == "web1" then exec.run("touch ~/begun; sleep 60") end
    file.copy({ dest = "~/after", content = "x" })
end })
""")
    running = asyncio.create_task(run_site(site, inventory, tmp_path / "controller"))
    await appears(servers.homes["web1"] / "begun")
    servers.cut("web1")
    found = finished_hosts(await running)
    assert found["web1"].status == "unreachable"
    assert "lost" in str(found["web1"].error) or "ended" in str(found["web1"].error)
    assert found["web2"].status == "changed"
    site.write_text(site.read_text().replace("sleep 60", "true"))
    assert finished_hosts(await run_site(site, inventory, tmp_path / "controller"))["web1"].status == "changed"


async def test_a_second_controller_waits_then_names_the_holder(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.sloth"
    slow.write_text('task({ name = "s", run = function() exec.run("touch ~/begun; sleep 60") end })')
    quick = tmp_path / "quick.sloth"
    quick.write_text('task({ name = "q", run = function() file.copy({ dest = "~/q", content = "q" }) end })')
    events: list[Event] = []
    memory = Memory(tmp_path / "first")
    job = Run(
        Site.read(str(slow)), inventory, inventory.select("web1"), Options(), events.append, memory,
        Shared(SQLite(tmp_path / "shared.db")),
    )  # fmt: skip
    running = asyncio.create_task(job.run())
    await appears(servers.homes["web1"] / "begun")
    blocked = await run_site(quick, inventory, tmp_path / "second", Options(lock_wait=0.2), "web1")
    error = str(finished_hosts(blocked)["web1"].error)
    assert "web1 is locked by" in error
    assert job.run_id in error
    job.interrupt()
    assert await running == 130
    memory.close()
    freed = await run_site(quick, inventory, tmp_path / "second", Options(lock_wait=10), "web1")
    assert finished_hosts(freed)["web1"].status == "changed"


async def test_a_payload_that_is_killed_releases_the_host(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    site = tmp_path / "site.sloth"
    site.write_text(
        'task({ name = "s", run = function() exec.run("echo $PPID > ~/pid.new; mv ~/pid.new ~/pid; sleep 9") end })'
    )
    running = asyncio.create_task(run_site(site, inventory, tmp_path / "controller", None, "web1"))
    pid = servers.homes["web1"] / "pid"
    await appears(pid)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert finished_hosts(await running)["web1"].status == "unreachable"
    site.write_text('task({ name = "s", run = function() file.copy({ dest = "~/x", content = "x" }) end })')
    again = await run_site(site, inventory, tmp_path / "controller", Options(lock_wait=5), "web1")
    assert finished_hosts(again)["web1"].status == "changed"


async def test_large_contents_go_both_ways(servers: LoopbackFleet, inventory: Inventory, tmp_path: Path) -> None:
    big = os.urandom(3_000_000)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "big.bin").write_bytes(big)
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "big", run = function()
    file.copy({ src = "big.bin", dest = "~/big.bin" })
    file.fetch({ src = "~/big.bin", dest = "back" })
end })
""")
    events = await run_site(site, inventory, tmp_path / "controller", None, "web1")
    assert [result.status for result in results(events)] == ["changed", "changed"]
    assert (servers.homes["web1"] / "big.bin").read_bytes() == big
    assert [path.read_bytes() for path in (tmp_path / "back").rglob("*") if path.is_file()] == [big]
    again = await run_site(site, inventory, tmp_path / "controller", None, "web1")
    assert [result.status for result in results(again)] == ["unchanged", "unchanged"]


async def test_a_tree_a_template_and_facts(servers: LoopbackFleet, inventory: Inventory, tmp_path: Path) -> None:
    for name, text in (
        ("conf/a", "A\n"),
        ("conf/sub/b", "B\n"),
        ("templates/t.j2", "{{ host.name }} {{ facts.cpus > 0 }}\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "t", run = function()
    file.copy({ src = "conf", dest = "~/etc/" })
    file.template({ src = "t.j2", dest = "~/t" })
    print(facts.kernel)
end })
""")
    events = await run_site(site, inventory, tmp_path / "controller", None, "web1")
    home = servers.homes["web1"]
    assert (home / "etc/conf/sub/b").read_text() == "B\n"
    assert (home / "t").read_text() == "web1 True\n"
    assert [event.text for event in events if isinstance(event, Log)] == [os.uname().release]
    again = await run_site(site, inventory, tmp_path / "controller", None, "web1")
    assert {result.status for result in results(again)} == {"unchanged"}


async def test_order_between_hosts(servers: LoopbackFleet, inventory: Inventory, tmp_path: Path) -> None:
    site = tmp_path / "site.sloth"
    site.write_text(f"""
task({{ name = "db", hosts = "db1", run = function() exec.run("sleep 0.2; echo db >> {tmp_path}/order") end }})
task({{ name = "once", run_once = true, run = function() exec.run("echo once >> {tmp_path}/order") end }})
task({{ name = "web", hosts = "@web", depends_on = "db", serial = 1, run = function()
    exec.run("echo in >> {tmp_path}/order; sleep 0.1; echo out >> {tmp_path}/order")
end }})
""")
    events = await run_site(site, inventory, tmp_path / "controller", Options(forks=1))
    assert {event.status for event in finished_hosts(events).values()} <= {"changed", "skipped"}
    order = (tmp_path / "order").read_text().split()
    assert order.count("once") == 1
    assert [word for word in order if word != "once"] == ["db", "in", "out", "in", "out"]


async def test_a_tree_of_one_file_is_a_tree(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".sloth-runner/one").mkdir(parents=True)
    (home / ".sloth-runner/one/page").write_text("x\n")
    (home / "there").mkdir()
    for _ in range(2):
        events = await run_local(
            'task({ name = "t", run = function() file.copy({ src = "one/", dest = "~/there" }) end })', home
        )
    assert results(events)[0].status == "unchanged"
    assert (home / "there/page").read_text() == "x\n"
