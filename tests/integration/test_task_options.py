"""The options of tasks that people move over from Ansible: until, throttle, max_fail, listen, always and the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from sloth.engine.events import Event, Log, Skip, SkipKind, TaskFinished
from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.home import Home
from tests.support.running import finished_hosts, run_local, run_whole


def ended(events: list[Event], name: str) -> dict[str, TaskFinished]:
    """Return how a task ended, by host."""
    return {event.host: event for event in events if isinstance(event, TaskFinished) and event.task == name}


async def test_until_tries_again_until_what_run_returned_is_right(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    events = await run_local(
        """
task({ name = "wait", retries = 5, delay = 0.01, until = function(r) return #r.stdout > 3 end, run = function()
    return exec.run("printf x >> ~/count; cat ~/count")
end })
""",
        tmp_path / "home",
    )
    (task,) = ended(events, "wait").values()
    assert (task.status, task.retried, (tmp_path / "home/count").read_text()) == ("changed", 3, "xxxx")


async def test_until_that_never_holds_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    site = """
task({ name = "wait", retries = 2, delay = 0, until = function(r) return r == 7 end, run = function() return 6 end })
task({ name = "default", delay = 0, until = function(r) return r.changed == "x" end, run = function()
    return exec.run({ cmd = "true" })
end })
"""
    events = await run_local(site, tmp_path / "home")
    (task,) = ended(events, "wait").values()
    assert (task.status, task.retried) == ("failed", 2)
    assert "`until` of task wait does not hold" in (task.error or "")
    assert ended(events, "default") == {}
    checked = await run_local(site.replace("return 6 end", "return 7 end"), tmp_path / "home", Options(check=True))
    assert ended(checked, "wait")["local"].status == "unchanged"
    assert (ended(checked, "default")["local"].status, ended(checked, "default")["local"].retried) == ("unknown", 0)


async def test_always_and_on_failure_run_whatever_happened(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    events = await run_local(
        """
task({ name = "good", run = function() exec.run("echo good >> ~/log") end,
    on_failure = function() exec.run("echo never >> ~/log") end,
    always = function() exec.run("echo always >> ~/log") end })
task({ name = "bad", retries = 1, delay = 0, ignore_errors = true, run = function()
        exec.run("echo try >> ~/log; false")
        exec.run("echo not reached >> ~/log")
    end,
    on_failure = function(why) file.copy({ content = why, dest = "~/why" }) end,
    always = function() exec.run("echo always >> ~/log") end })
task({ name = "slow", timeout = 4, ignore_errors = true, run = function() exec.run("sleep 60") end,
    always = function() exec.run("echo slow >> ~/log") end })
task({ name = "last", run = function() end, always = function() error("of always") end })
""",
        home,
    )
    assert (home / "log").read_text().split() == ["good", "always", "try", "try", "always", "slow"]
    assert "exec.run echo try >> ~/log; false on local: exit code 1" in (home / "why").read_text()
    statuses = {name: ended(events, name)["local"].status for name in ("good", "bad", "slow", "last")}
    assert statuses == {"good": "changed", "bad": "failed", "slow": "failed", "last": "failed"}
    assert "of always" in (ended(events, "last")["local"].error or "")


async def test_a_failure_in_on_failure_is_said_and_the_first_one_counts(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    events = await run_local(
        'task({ name = "t", run = function() error("first") end, on_failure = function() error("second") end })',
        tmp_path / "home",
    )
    assert "first" in (ended(events, "t")["local"].error or "")
    (log,) = [event for event in events if isinstance(event, Log)]
    assert "second" in log.text


async def test_a_handler_listens(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    site = """
task({ name = "t", notify = { "web changed" }, run = function() file.copy({ content = "1", dest = "~/a" }) end })
handler({ name = "second", listen = { "web changed", "other" }, run = function() exec.run("echo second >> ~/log") end })
handler({ name = "deaf", listen = "nothing", run = function() exec.run("echo deaf >> ~/log") end })
handler({ name = "third", listen = "web changed", run = function() exec.run("echo third >> ~/log") end })
"""
    await run_local(site, home)
    assert (home / "log").read_text().split() == ["second", "third"]
    wrong = await run_local(site.replace('notify = { "web changed" }', 'notify = "web chnaged"'), home)
    assert 'did you mean "web changed"' in (finished_hosts(wrong)["local"].error or "")


EVERYTHING = " ".join(step + host for step in ("", "after-", "last-") for host in ("web1", "web2", "db1"))
ROLL = """
task({{ name = "before", run = function() end }})
task({{ name = "roll", {options}, run = function()
    exec.run("mkdir {directory}/" .. host.name)
    if host.name == "web1" or host.name == "{second}" then error("broken") end
end }})
task({{ name = "after", depends_on = "roll", run = function() exec.run("mkdir {directory}/after-" .. host.name) end }})
task({{ name = "last", run = function() exec.run("mkdir {directory}/last-" .. host.name) end }})
"""


@pytest.mark.parametrize(
    ("options", "second", "made"),
    [
        ("serial = 1", "", "web1"),
        ("serial = {1, 2}", "", "web1"),
        ("serial = {2, 1}", "", "web1 web2 last-web2"),
        ("serial = 1, max_fail = 1", "", "web1 web2 db1 after-web2 after-db1 last-web2 last-db1"),
        ("serial = 1, max_fail = '34%'", "web2", "web1 web2"),
        ("throttle = 1, max_fail = 1", "web2", "web1 web2"),
        ("throttle = 1", "web2", "web1 web2 db1 last-db1"),
        ("throttle = 1, max_fail = 0", "", "web1"),
        ("throttle = 1, any_errors_fatal = true", "", "web1"),
        (
            "throttle = 1, ignore_errors = true",
            "web2",
            "web1 web2 db1 after-web1 after-web2 after-db1 last-web1 last-web2 last-db1",
        ),
    ],
)
async def test_how_far_a_task_goes_that_fails(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path, options: str, second: str, made: str
) -> None:
    site, directory = tmp_path / "site.sloth", tmp_path / "made"
    directory.mkdir()
    site.write_text(ROLL.format(options=options, directory=directory, second=second))
    _, status = await run_whole(site, inventory, tmp_path / "controller", Options(forks=3))
    assert {path.name for path in directory.iterdir()} == set(made.split())
    assert status == (0 if "ignore_errors" in options else 1)


async def test_a_host_that_is_lost_in_a_batch_has_failed_there(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    site, directory = tmp_path / "site.sloth", tmp_path / "made"
    directory.mkdir()
    site.write_text(ROLL.format(options="serial = 1", directory=directory, second="").replace('"web1"', '"none"'))
    await servers.stop("web1")
    events, status = await run_whole(site, inventory, tmp_path / "controller", Options(forks=3))
    assert finished_hosts(events)["web1"].status == "unreachable"
    assert {path.name for path in directory.iterdir()} == set()
    assert {task.skip for task in ended(events, "roll").values()} == {Skip(SkipKind.BATCH, "roll", "web1")}
    assert status == 4


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("serial = 2, run_once = true", "run_once and serial contradict each other"),
        ("max_fail = 2, ignore_errors = true", "ignore_errors and max_fail contradict each other"),
        ("any_errors_fatal = true, max_fail = '10%'", "any_errors_fatal and max_fail contradict each other"),
        ("serial = 0", "serial must be"),
        ("serial = {}", "serial must be"),
        ("serial = {1, 'x'}", "serial must be"),
        ("serial = '101%'", "serial must be"),
        ("throttle = 0", "throttle must be"),
        ("throttle = '10%'", "throttle must be"),
        ("max_fail = -1", "max_fail must be"),
        ("max_fail = '2'", "max_fail must be"),
        ("any_errors_fatal = 'yes'", "any_errors_fatal must be"),
        ("until_ = print", 'did you mean "until"?'),
        ("until = true", "until must be a function"),
        ("always = 'x'", "always must be a function"),
        ("on_failure = 'rolback'", 'on_failure must be "rollback" or a function'),
        ("listen = 'x'", "task has no option 'listen'"),
        ("retries = print", "retries must not be a function"),
        ("always = function() file.copy({dst = '/x'}) end", 'did you mean "dest"?'),
    ],
)
def test_contradictions_and_wrong_values_are_found_by_validate(home: Home, declaration: str, message: str) -> None:
    home.site("", options=declaration + ",")
    said = home("validate", "-f", "site.sloth", status=2)
    assert message in said
    assert "site.sloth:2" in said
