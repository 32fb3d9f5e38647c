"""run --resume: goes on where a run has stopped on each host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.support.home import Home
from tests.support.paths import ROOT

pytestmark = pytest.mark.timeout(180)

# Every task and handler notes that it ran, on which host.
SITE = """
local function note(word)
    exec.run({ cmd = "echo " .. word .. "-" .. host.name .. " >> FILES/log" })
end
handler({ name = "restart", run = function() note("restart") end })
task({ name = "one", notify = "restart", run = function()
    file.copy({ content = "x", dest = "FILES/" .. host.name })
    note("one")
end })
task({ name = "once", run_once = true, run = function() note("once") end })
task({ name = "two", run = function()
    if host.name == "web2" then exec.run({ cmd = "test -e FILES/fixed" }) end
    note("two")
end })
task({ name = "three", depends_on = "two", run = function() note("three") end })
"""


def log(home: Home) -> list[str]:
    """Return what ran since this was called last."""
    lines = sorted((home.text("log") or "").split())
    (home.files / "log").unlink(missing_ok=True)
    return lines


def write(home: Home, text: str = SITE) -> None:
    (home.path / "site.sloth").write_text(text.replace("FILES", str(home.files)))


# ansible 12735: the hosts that a failed batch has kept from beginning are not in the retry file.
def test_each_host_goes_on_where_it_stopped(home: Home) -> None:
    write(home)
    home("run", "-f", "site.sloth", status=1)
    assert log(home) == ["once-web1", "one-web1", "one-web2", "restart-web1", "restart-web2", "two-web1"]
    (home.files / "fixed").touch()
    document: dict[str, Any] = home.json("run", "-f", "site.sloth", "--resume")
    assert log(home) == ["three-web1", "three-web2", "two-web2"]
    tasks = {task["name"]: (task["status"], task["reason"]) for task in document["hosts"]["web2"]["tasks"]}
    run = home.json("runs", "list")[1]["run"]
    assert tasks["one"] == ("skipped", f"done in run {run}")
    assert tasks["two"][0] == "changed"
    shown = home("run", "-f", "site.sloth", "--resume")
    assert "has come to its end on all hosts: nothing is left" in shown
    assert log(home) == []
    assert "0 would change" not in home("run", "-f", "site.sloth", "--resume", run[:-3]), "a former one, by its prefix"
    assert log(home) == ["three-web1", "three-web2", "two-web2"]


def test_it_says_what_has_changed(home: Home) -> None:
    write(home)
    home("run", "-f", "site.sloth", "-e", "color=red", "-e", "size=1", status=1)
    log(home)
    (home.files / "fixed").touch()
    write(home, SITE + 'task({ name = "new", run = function() note("new") end })\n')
    shown = home("run", "-f", "site.sloth", "-e", "color=blue", "-e", "size=1", "--limit", "web2", "--resume")
    assert "the site has changed: tasks that had ended are not run again" in shown
    assert "other values are given for color: the tasks that are left use the new ones" in shown
    assert "web1 of run" in shown
    assert "resuming run" in shown
    assert log(home) == ["new-web2", "three-web2", "two-web2"]
    home("run", "-f", "site.sloth", "-e", "color=blue", "-e", "size=1", "--resume")
    write(home, SITE)
    (home.path / "other.sloth").write_text("")
    assert "no run of this site is recorded" in home("run", "-f", "other.sloth", "--resume", status=2)
    assert "run 1999 not found" in home("run", "-f", "site.sloth", "--resume", "1999", status=1)
    home("call", "local", "exec.run", "true")
    call = home.last_run()
    run = home.json("runs", "list")[-1]["run"]
    assert "was one of" in home("run", "-f", "other.sloth", "--resume", run, status=2)
    assert "cannot be resumed" in home("run", "-f", "site.sloth", "--resume", call, status=2)
    assert "--prune needs the whole site" in home("run", "-f", "site.sloth", "--prune", "--yes", "--resume", status=2)


# ansible 4687, 10647, 15563, 21896: handlers that a failed run owes are lost when it is run again from a retry file.
def test_a_killed_run_is_resumed_with_the_handlers_that_it_owes(home: Home) -> None:
    text = SITE.replace('note("two")', 'exec.run({ cmd = "touch FILES/at-two; test -e FILES/fixed || sleep 100" })')
    write(home, text)
    words = [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "--limit", "web1"]
    environment = {**os.environ, "HOME": str(home.path), "PYTHONPATH": str(ROOT)}
    environment.pop("SLOTH_INVENTORY", None)
    with subprocess.Popen(words, cwd=home.path, env=environment, start_new_session=True) as running:
        until = time.monotonic() + 60
        while not (home.files / "at-two").exists():
            assert time.monotonic() < until
            time.sleep(0.1)
        time.sleep(2.5)  # the progress is recorded every second
        running.send_signal(signal.SIGKILL)
    assert log(home) == ["once-web1", "one-web1"]
    (home.files / "fixed").touch()
    home("run", "-f", "site.sloth", "--limit", "web1", "--resume", "--lock-wait", "60")
    assert log(home) == ["restart-web1", "three-web1"]
    assert home.json("state", "list", "handler", "--agent", "web1") == []


def test_an_interrupted_host_has_not_come_to_its_end(home: Home) -> None:
    write(home, 'task({ name = "a", run = function() file.copy({ content = "x", dest = "FILES/a" }) end })\n'
                'task({ name = "b", run = function() exec.run({ cmd = "touch FILES/at-b; test -e FILES/fixed ||'
                ' sleep 100" }) end })')  # fmt: skip
    words = [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "--forks", "1"]
    environment = {**os.environ, "HOME": str(home.path), "PYTHONPATH": str(ROOT)}
    environment.pop("SLOTH_INVENTORY", None)
    with subprocess.Popen(words, cwd=home.path, env=environment, start_new_session=True) as running:
        until = time.monotonic() + 60
        while not (home.files / "at-b").exists():
            assert time.monotonic() < until
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    (home.files / "fixed").touch()
    shown = home("run", "-f", "site.sloth", "--resume")
    assert "2 hosts of 2 left" in shown, "one was interrupted, the other had not begun"
    assert "exec.run" in shown


# ansible 5073, 6781, 82267: even with max_fail_percentage 100 a rolling update ends when a whole batch has failed.
def test_a_batch_that_has_failed_as_a_whole_is_within_its_budget(home: Home) -> None:
    write(home, 'task({ name = "t", serial = 1, max_fail = "100%", run = function()\n'
                'exec.run({ cmd = "echo t-" .. "ran" .. " >> FILES/log; false" }) end })')  # fmt: skip
    home("run", "-f", "site.sloth", status=1)
    assert log(home) == ["t-ran", "t-ran"]
    write(home, 'task({ name = "t", serial = 1, max_fail = 0, run = function()\n'
                'exec.run({ cmd = "echo t-" .. "ran" .. " >> FILES/log; false" }) end })')  # fmt: skip
    home("run", "-f", "site.sloth", status=1)
    assert log(home) == ["t-ran"]
