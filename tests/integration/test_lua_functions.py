"""What a site can do besides calls: hostvars, sleep, fail, assert, json."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.running import failure, finished_hosts, printed, results, run_local, run_site


async def test_hostvars_has_variables_and_facts_of_other_hosts(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    path = tmp_path / "inventory.toml"
    path.write_text(path.read_text() + "\n[groups.db]\nhosts = ['db1']\n[groups.db.vars]\nport = 5432\n")
    site = tmp_path / "site.sloth"
    site.write_text("""
task({ name = "t", hosts = "web1", run = function()
    local db = hostvars["db1"]
    local own = hostvars.web1.facts.cpus == facts.cpus
    print(db.port, db.host.name, db.host.groups[1], db.facts.kernel == facts.kernel, own)
    print(pcall(function() return hostvars.db2 end))
    print(pcall(function() return hostvars.web2.facts.kernel end))
    print(hostvars.web2.port, pcall(function() hostvars.web2 = 1 end))
end })
""")
    events = await run_site(site, Inventory.read(path), tmp_path / "controller", None, ["web1", "db1"])
    first, unknown, outside, last = printed(events, "web1")
    assert first == "5432\tdb1\tdb\ttrue\ttrue"
    assert 'the inventory has no host db2; hint: did you mean "db1"?' in unknown
    assert "web2 are not known: it is not among the hosts of this run" in outside
    assert last.startswith("nil\tfalse")
    assert "hostvars cannot be changed" in last


async def test_the_facts_of_a_host_that_does_not_answer(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    site = tmp_path / "site.sloth"
    site.write_text('task({ name = "t", hosts = "web1", run = function() print(hostvars.db1.facts.cpus) end })')
    await servers.stop("db1")
    events = await run_site(site, inventory, tmp_path / "controller")
    error = finished_hosts(events)["web1"].error or ""
    assert "site.sloth:1" in error
    assert "the facts of db1 cannot be gathered" in error


async def test_sleep_waits_but_not_in_a_check(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    source = 'task({ name = "t", run = function() exec.run("true") sleep(0.5) exec.run("true") end })'
    begun = time.monotonic()
    await run_local(source.replace("0.5", "100"), tmp_path / "home", Options(check=True))
    assert time.monotonic() - begun < 60
    begun = time.monotonic()
    events = await run_local(source, tmp_path / "home")
    assert time.monotonic() - begun >= 0.5
    assert [result.status for result in results(events)] == ["changed", "changed"]
    for wrong in ("'1'", "-1", "0/0", "1/0"):
        assert "sleep takes a number of seconds" in await failure(f"sleep({wrong})", tmp_path / "home")


async def test_a_task_s_timeout_ends_a_sleep(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    events = await run_local('task({ name = "t", timeout = 2, run = function() sleep(60) end })', tmp_path / "home")
    assert "did not end within 2 seconds" in (finished_hosts(events)["local"].error or "")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("fail('no disk')", "no disk"),
        ("fail({msg = 'no disk'})", "no disk"),
        ("fail()", "failed"),
        ("fail({1, 2})", "{1, 2}"),
        ("assert(1 == 2, 'of course not')", "of course not"),
        ("assert(nil)", "assertion failed!"),
        ("assert({that = 1 == 2, msg = 'no'})", "no"),
        ("assert({that = {true, false, true}, fail_msg = 'no'})", "no"),
        ("assert(facts.cpus > 100000, 'too few')", "too few"),
    ],
)
async def test_fail_and_assert_name_their_line(tmp_path: Path, source: str, message: str) -> None:
    error = await failure("\n\n" + source, tmp_path / "home")
    assert "site.sloth:3: " in error
    assert message in error


async def test_what_holds_is_returned(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    events = await run_local(
        """
task({ name = "t", run = function()
    local a, b = assert("x", "y")
    assert({ that = { true, 1 } })
    assert({}) assert({ 1 })
    assert(exec.run({ cmd = "true", read_only = true }))
    print(a, b)
end })
""",
        tmp_path / "home",
    )
    assert printed(events) == ["x\ty"]


async def test_json_goes_both_ways(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    events = await run_local(
        r"""
task({ name = "t", run = function()
    local value = json.decode('{"a": [1, 2.5, "ä", true], "b": {"c": null}, "big": 12345678901234567890}')
    print(value.a[1], value.a[2], value.a[3], value.a[4], value.b.c, math.type(value.a[1]))
    print(json.encode({ list = { 1, 2.0, "x\n" }, empty = {}, flag = false }))
    print(json.encode(json.decode("[]")), json.decode("3"), json.decode("null"))
end })
""",
        tmp_path / "home",
    )
    assert printed(events) == [
        "1\t2.5\tä\ttrue\tnil\tinteger",
        '{"empty":[],"flag":false,"list":[1,2.0,"x\\n"]}',
        "[]\t3\tnil",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("json.decode('{')", "this is not JSON: Expecting property name"),
        ("json.decode('NaN')", "NaN is not JSON"),
        ("json.decode(('[' ):rep(100000))", "JSON"),
        ("json.decode(('9' ):rep(10000))", "JSON"),
        ("json.decode(nil)", "json.decode takes a string, not a nil"),
        ("json.encode(print)", "json.encode is a function; only plain data can be sent"),
        ("json.encode({1, x = 2})", "mixes a list with names"),
        ("json.encode(0/0)", "not a finite number"),
        ("json.parse('1')", "there is no json.parse"),
    ],
)
async def test_what_is_not_json_is_an_error_with_its_line(tmp_path: Path, source: str, message: str) -> None:
    error = await failure("\n" + source, tmp_path / "home")
    assert "site.sloth:2: " in error
    assert message in error


async def test_templates_see_what_ansible_gives_every_host(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    site = """task({ name = "t", run = function()
        print(jinja("{{ inventory_hostname }} {{ inventory_hostname_short }} {{ group_names | length }}"))
        print(jinja("{{ inventory_hostname }}", { inventory_hostname = "mine" }))
    end })"""
    assert printed(await run_local(site, tmp_path / "home")) == ["local local 0", "mine"]
