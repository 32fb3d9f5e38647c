"""Options that any call takes: notify, environment, retries, until, changed_when, failed_when, sensitive."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sloth.engine.events import Event, Handled, TaskFinished
from sloth.engine.options import Options
from tests.support.home import Home
from tests.support.running import finished_hosts, results, run_local


def ended(events: list[Event], name: str) -> TaskFinished:
    """Return how a task ended."""
    return next(event for event in events if isinstance(event, TaskFinished) and event.task == name)


@pytest.fixture
def throwaway_home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


async def test_a_call_notifies_what_its_task_does_not(throwaway_home: Path) -> None:
    site = """
task({ name = "t", run = function()
    file.copy({ dest = "~/a", content = "x", notify = "web" })
    file.copy({ dest = "~/b", content = "x" })
    exec.run({ cmd = "true", notify = { "quiet" }, changed_when = false })
    exec.run({ cmd = "true", read_only = true, notify = "loud",
        changed_when = function(r) return r.exit_code == 0 end })
end })
handler({ name = "h", listen = "web", run = function() exec.run("echo h >> ~/log") end })
handler({ name = "quiet", run = function() exec.run("echo quiet >> ~/log") end })
handler({ name = "loud", run = function() exec.run("echo loud >> ~/log") end })
"""
    await run_local(site, throwaway_home)
    assert (throwaway_home / "log").read_text().split() == ["h", "loud"]
    await run_local(site, throwaway_home)
    assert (throwaway_home / "log").read_text().split() == ["h", "loud", "loud"]
    wrong = await run_local(site.replace('notify = "web"', 'notify = "wbe"'), throwaway_home)
    assert 'did you mean "web"' in (finished_hosts(wrong)["local"].error or "")


async def test_the_site_decides_what_is_a_change_and_what_a_failure(throwaway_home: Path) -> None:
    events = await run_local(
        """
task({ name = "t", run = function()
    local a = exec.run({ cmd = "echo out; exit 3", failed_when = function(r) return r.exit_code > 3 end })
    assert(a.exit_code == 3 and a.stdout == "out" and a.changed and not a.failed)
    local b = exec.run({ cmd = "echo same", changed_when = function(r) return r.stdout ~= "same" end })
    assert(not b.changed)
    assert(exec.run({ cmd = "exit 1", failed_when = false }).exit_code == 1)
    assert(not exec.run({ cmd = "true", changed_when = false }).changed)
    local ok, why = pcall(exec.run, { cmd = "echo no; true", failed_when = function(r) return r.stdout == "no" end })
    assert(not ok and why:find("failed_when holds", 1, true), why)
    exec.run({ cmd = "echo bad >&2", failed_when = function(r) return r.stderr == "bad" end })
end })
""",
        throwaway_home,
    )
    assert [result.status for result in results(events)] == [
        "changed", "unchanged", "changed", "unchanged", "failed", "failed",
    ]  # fmt: skip
    assert "exec.run echo bad >&2 on local: failed_when holds" in (ended(events, "t").error or "")
    assert results(events)[-1].detail == "bad"
    assert results(events)[-2].handled is Handled.RESCUED


async def test_a_call_is_tried_again(throwaway_home: Path) -> None:
    site = """
task({ name = "t", run = function()
    exec.run({ cmd = "echo x >> ~/count; test $(wc -l < ~/count) -ge 3", retries = 5, delay = 0.01 })
    local r = exec.run({ cmd = "echo y >> ~/other; wc -l < ~/other", delay = 0,
        ["until"] = function(r) return tonumber(r.stdout) == 2 end })
    assert(r.stdout == "2")
    exec.run({ cmd = "false", retries = 1, delay = 0 })
end })
"""
    events = await run_local(site, throwaway_home)
    assert (throwaway_home / "count").read_text() == "x\n" * 3
    task = ended(events, "t")
    assert (task.status, task.retried) == ("failed", 4)
    handled = [result.handled for result in results(events) if result.status == "failed"]
    assert handled == [Handled.RETRIED] * 4 + [Handled.NONE]


async def test_a_check_does_not_wait_and_calls_no_function_for_what_it_does_not_know(throwaway_home: Path) -> None:
    events = await run_local(
        """
task({ name = "action", run = function()
    exec.run({ cmd = "true", changed_when = function(r) return r.stdout:find("x") end })
    exec.run({ cmd = "true", retries = 3, ["until"] = function(r) return r.stdout == "x" end })
end })
task({ name = "look", run = function()
    exec.run({ cmd = "echo no", read_only = true, ["until"] = function(r) return r.stdout == "yes" end })
end })
""",
        throwaway_home,
        Options(check=True),
    )
    assert (ended(events, "action").status, ended(events, "look").status) == ("changed", "unknown")


async def test_variables_are_there_for_the_call_and_not_longer(throwaway_home: Path) -> None:
    events = await run_local(
        """
task({ name = "t", environment = { A = "task", B = 2 }, run = function()
    local r = exec.run({ cmd = "echo $A $B $C", environment = { A = "call", C = true }, read_only = true })
    log.info(r.stdout)
    log.info(exec.run({ cmd = "echo $A $B $C.", read_only = true }).stdout)
end })
task({ name = "u", run = function()
    assert(exec.run({ cmd = "echo $A$B$C", read_only = true }).stdout == "")
end })
""",
        throwaway_home,
    )
    texts = [getattr(event, "text", "") for event in events if type(event).__name__ == "Log"]
    assert texts == ["call 2 true", "task 2 ."]
    assert ended(events, "u").status == "unchanged"


async def test_a_sensitive_call_is_neither_shown_nor_recorded(throwaway_home: Path) -> None:
    site = """
task({ name = "t", run = function()
    local r = exec.run({ cmd = "echo Canary-1; echo Canary-2 >&2", sensitive = true })
    assert(r.stdout == "Canary-1")
    file.lineinfile({ path = "~/conf", line = "password=Canary-3", create = true, sensitive = true })
    file.copy({ dest = "~/whole", content = "Canary-4", sensitive = true })
    file.lineinfile({ path = "~/conf", line = "password=Canary-5", regexp = "^password", sensitive = true })
    pcall(exec.run, { cmd = { "sh", "-c", "echo Canary-6 >&2; exit 1" }, sensitive = true })
    exec.run({ cmd = "env | grep Canary-7; exit 1", environment = { X = "Canary-7" }, sensitive = true })
end })
"""
    events = await run_local(site, throwaway_home)
    assert "Canary" not in repr(events)
    assert ended(events, "t").status == "failed"
    state = throwaway_home / ".sloth-runner" / "state" / "local.db"
    with sqlite3.connect(state) as database:
        assert "Canary" not in "\n".join(database.iterdump())
    assert [path.name for path in state.parent.iterdir() if b"Canary" in path.read_bytes()] == []
    again = await run_local(site, throwaway_home, Options(check=True))
    assert "Canary" not in repr(again)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ('exec.run({ cmd = "true", notfy = "h" })', 'did you mean "notify"'),
        ('exec.run({ cmd = "true", notify = "hh" })', "names the handler hh"),
        ('exec.run({ cmd = "true", delegate_to = "web1x" })', 'did you mean "web1"'),
        ('exec.run({ cmd = "true", delegate_to = "localhost" })', 'is "local"'),
        ('exec.run({ cmd = "true", retries = "x" })', "retries must be a whole number"),
        ('exec.run({ cmd = "true", delay = 3 })', "give retries or until"),
        ('exec.run({ cmd = "true", sensitive = "x" })', "sensitive must be true or false"),
        ('exec.run({ cmd = "true", become = "yes" })', "become must be true, false, or an account's name"),
        ('exec.run({ cmd = "true", until = 1 })', "until must be a function"),
        ('exec.run({ cmd = "true", environment = { ["a=b"] = 1 } })', "invalid name of a variable"),
    ],
)
def test_validate_finds_wrong_options(home: Home, call: str, problem: str) -> None:
    (home.path / "site.sloth").write_text(
        f'task({{ name = "t", run = function()\n    {call}\nend }})\nhandler({{ name = "h", run = function() end }})'
    )
    said = home("validate", "-f", "site.sloth", status=2)
    assert problem in said
    assert "site.sloth:2" in said


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ('delegate_to = "wbe1"', 'did you mean "web1"'),
        ("delegate_to = 5", 'delegate_to must be the name of a host, "local", or a function'),
        ("serial = 2, run_once = true", "contradict each other"),
        ('confirm = 30, delegate_to = "web1"', "contradict each other"),
        ('changed_when = false, notify = "h"', "contradict each other"),
        ("environment = 5", "environment must be a table"),
    ],
)
def test_validate_finds_wrong_options_of_tasks(home: Home, options: str, problem: str) -> None:
    (home.path / "site.sloth").write_text(
        f'handler({{ name = "h", run = function() end }})\ntask({{ name = "t", {options}, run = function() end }})'
    )
    said = home("validate", "-f", "site.sloth", status=2)
    assert problem in said
    assert "site.sloth:2" in said


def test_handlers_run_where_they_are_flushed(home: Home) -> None:
    (home.path / "site.sloth").write_text("""
task({ name = "a", notify = "h", run = function() exec.run("echo a >> " .. vars.log) end })
flush_handlers()
task({ name = "b", run = function() exec.run("echo b >> " .. vars.log) end })
flush_handlers()
handler({ name = "h", run = function() exec.run("echo h >> " .. vars.log) end })
""")
    log = home.path / "log"
    document = home.json("run", "-f", "site.sloth", "--limit", "web1", "-e", f"log={log}")
    assert log.read_text().split() == ["a", "h", "b"]
    assert [task["name"] for task in document["hosts"]["web1"]["tasks"]] == ["a", "h", "b"]
