"""Handlers and calls of tasks with `confirm`: what the host must be able to do again by itself, and as whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from sloth.engine import custom
from sloth.engine.events import TaskFinished
from sloth.engine.options import Options
from tests.support.running import finished_hosts, printed, run_local

SITE = """
handler({ name = "other", run = function() print("other") end })
handler({ name = "h", HANDLER run = function() BODY end })
task({ name = "t", confirm = 20, notify = "h", run = function() file.copy({ content = "x", dest = "~/x" }) MORE end })
"""


def site(body: str, handler: str = "", more: str = "") -> str:
    return SITE.replace("BODY", body).replace("HANDLER", handler).replace("MORE", more)


async def test_a_handler_may_look_wait_and_write_beside_its_action(tmp_path: Path) -> None:
    body = """
        print("checking")
        sleep(0.001)
        local r = exec.run({ cmd = "echo yes", read_only = true })
        file.copy({ content = "h", dest = "~/h", notify = "other" })
        if r.exit_code == 0 then exec.run("echo ran >> ~/log") end
    """
    events = await run_local(site(body), tmp_path)
    assert finished_hosts(events)["local"].error is None
    assert (tmp_path / "log").read_text() == "ran\n"
    assert (tmp_path / "h").read_text() == "h"
    assert printed(events) == ["checking", "other"]


@pytest.mark.parametrize(
    ("body", "handler", "said"),
    [
        ('exec.run({ cmd = "true", retries = 1 })', "", "with `confirm` cannot use the option retries"),
        ('state.set("a", 1) exec.run("true")', "", "shared values are not known to the host"),
        ('exec.run("true")', 'become = "nosuch",', "and its handler h runs as another account"),
        ('error("no idea")', "", "what the handler h does must be known before `confirm`: "),
    ],
)
async def test_what_the_host_could_not_do_again_is_refused_before_anything_is_changed(
    tmp_path: Path, body: str, handler: str, said: str
) -> None:
    events = await run_local(site(body, handler), tmp_path)
    assert said in (finished_hosts(events)["local"].error or "")
    assert not (tmp_path / "x").exists()


async def test_a_handler_that_fails_is_no_confirmation(tmp_path: Path) -> None:
    events = await run_local(site('exec.run("echo tried >> ~/log; test ! -e ~/x")'), tmp_path)
    (ended,) = (event for event in events if isinstance(event, TaskFinished) and event.task == "t")
    assert (ended.error or "").endswith("site.sloth:4: its handler h has failed")
    assert not (tmp_path / "x").exists()
    assert (tmp_path / "log").read_text() == "tried\n" * 2, "the host does it again, after it has taken the change back"


async def test_all_calls_are_made_as_the_account_that_takes_them_back(tmp_path: Path) -> None:
    for option in ('become = "nosuch"', 'delegate_to = "other"'):
        more = f'file.copy({{ content = "y", dest = "~/y", {option} }})'
        events = await run_local(site('exec.run("true")', more=more), tmp_path)
        error = finished_hosts(events)["local"].error or ""
        assert error.endswith("site.sloth:4: in a task with `confirm` all calls are made as its own account")
        assert not (tmp_path / "x").exists()


PUSH = '''"""own.push: an action that gets a file."""

from sloth.payload.kernel.resource import REQUIRED, Action, Field


class Push(Action):
    """Push a file somewhere."""

    name = "own.push"
    ships = "file"
    fields = (Field("src", "str", REQUIRED, help="the file"),)

    def run(self):
        return {}
'''


async def test_a_handler_cannot_need_a_file_of_the_controller(tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "own.py").write_text(PUSH)
    try:
        options = Options(custom=custom.load(tmp_path / "modules"))
        events = await run_local(site('own.push("file")'), tmp_path, options)
    finally:
        custom.load()
    assert "own.push needs the controller" in (finished_hosts(events)["local"].error or "")
    assert not (tmp_path / "x").exists()
