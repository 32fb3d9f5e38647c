"""Changes that must be confirmed, on this machine: what is refused, what is taken back, what is said before."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sloth.engine.events import Log
from sloth.engine.options import Options
from sloth.engine.validate import validate
from sloth.inventory import Inventory
from sloth.playbook import Site
from tests.support.running import finished_hosts, results, run_local

HANDLER = 'handler({ name = "h", run = function() %s end })\n'


def problems(tmp_path: Path, text: str) -> list[str]:
    site = tmp_path / "site.sloth"
    site.write_text(text)
    return [f"{problem.where}: {problem.message}" for problem in validate(Site.read(str(site)), Inventory.local(), {})]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("confirm = 0", "confirm must be a number of seconds from 5 to 3600"),
        ('confirm = "30"', "confirm must be a number of seconds from 5 to 3600"),
        ("confirm = true", "confirm must be a number of seconds from 5 to 3600"),
        ("confirm_check = function() end", "confirm_check needs confirm = SECONDS"),
        ("confirm = 30, confirm_check = true", "confirm_check must be a function"),
        ("confrim = 30", "task has no option 'confrim'"),
    ],
)
def test_wrong_options(tmp_path: Path, options: str, message: str) -> None:
    text = f'task({{ name = "t", {options}, run = function() end }})'
    assert [message in problem and ":1: " in problem for problem in problems(tmp_path, text)] == [True]


def test_an_action_in_such_a_task_is_found_before_a_run(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        HANDLER % 'systemd.reload("ssh")'
        + 'task({ name = "t", confirm = 30, notify = "h", run = function()\n'
        + 'exec.run({ cmd = "sshd -t", read_only = true })\n sleep(0)\n exec.run("apply") end })',
    )
    assert len(found) == 1
    assert ":5: exec.run: a task with `confirm` must not do what cannot be taken back" in found[0]


def site(home: Path, body: str, handler: str = 'exec.run("echo ran >> ~/log")', options: str = "") -> str:
    return (
        HANDLER % handler
        + f'task({{ name = "t", confirm = 20, notify = "h", {options} run = function() {body} end }})'.replace(
            "~", str(home)
        )
    ).replace("~", str(home))


async def test_a_check_that_fails_takes_all_back(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old\n")
    (tmp_path / "old").chmod(0o640)
    (tmp_path / "kept").write_text("kept\n")
    body = """
        file.copy({ content = "new\\n", dest = "~/old", mode = "0600" })
        file.lineinfile({ path = "~/kept", line = "more" })
        file.directory("~/made")
        file.copy({ content = "x", dest = "~/made/x" })
        file.link({ src = "old", path = "~/link" })
        file.absent("~/kept")"""
    for options in (
        'confirm_check = function() return false, "no page" end,',
        "confirm_check = function() fail('no page') end,",
    ):
        events = await run_local(site(tmp_path, body, options=options), tmp_path)
        ended = finished_hosts(events)["local"]
        assert "was not confirmed, and its changes were taken back: confirm_check failed" in str(ended.error)
        assert "no page" in str(ended.error)
        assert (tmp_path / "old").read_text() == "old\n"
        assert (tmp_path / "old").stat().st_mode & 0o777 == 0o640  # without its mode or owner a daemon may not read it
        assert (tmp_path / "kept").read_text() == "kept\n"
        assert not (tmp_path / "made").exists()
        assert not (tmp_path / "link").is_symlink()
        assert (tmp_path / "log").read_text() == "ran\nran\n"  # after the changes, and after they were taken back
        (tmp_path / "log").unlink()
        assert not (tmp_path / ".sloth-runner/confirm/pending.json").exists()
        assert not [event for event in events if isinstance(event, Log)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('file.absent("~/full")', "could not be taken back: what is in the directory is not kept"),
        ('pcall(exec.run, "touch ~/x")', "none"),
        (
            'file.copy({ content = "a", dest = "~/a" }); exec.run({ cmd = "touch ~/x", creates = "~/x" })',
            "cannot be taken back",
        ),
    ],
)
async def test_what_cannot_be_taken_back_is_not_done(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    events = await run_local(site(tmp_path, body), tmp_path)
    errors = [result.error for result in results(events) if result.error]
    assert any(message in error for error in errors) or message == "none", errors
    assert (tmp_path / "full/file").exists()
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ('state.set("a", 1)', "shared values are not known to the host"),
        ('exec.run("echo " .. secret("word"))', "has a secret in it, which the host must not keep"),
        ('file.nothing("x")', "there is no file.nothing"),
    ],
)
async def test_a_handler_that_cannot_be_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: str, message: str
) -> None:
    (tmp_path / ".sloth-runner").mkdir(mode=0o700)
    monkeypatch.setenv("SLOTH_SECRET_WORD", "hush-hush")
    events = await run_local(site(tmp_path, 'file.copy({ content = "x", dest = "~/x" })', handler), tmp_path)
    assert message in str(finished_hosts(events)["local"].error)
    assert not (tmp_path / "x").exists()


async def test_a_check_and_a_converged_run_need_no_confirmation(tmp_path: Path) -> None:
    text = site(
        tmp_path, 'file.copy({ content = "x", dest = "~/x" })', options="confirm_check = function() fail() end,"
    )
    events = await run_local(text, tmp_path, Options(check=True))
    assert finished_hosts(events)["local"].status == "changed"
    (tmp_path / "x").write_text("x")
    events = await run_local(text, tmp_path)
    assert finished_hosts(events)["local"].status == "unchanged"
    assert not (tmp_path / ".sloth-runner/confirm").exists()  # no watchdog was started


async def test_a_confirmed_change_is_an_ordinary_one(tmp_path: Path) -> None:
    checked = "confirm_check = function() assert(exec.run({ cmd = 'cat ~/x', read_only = true }).stdout == 'x') end,"
    text = site(tmp_path, 'file.copy({ content = "x", dest = "~/x" })', options=checked.replace("~", str(tmp_path)))
    text += f'task({{ name = "u", run = function() exec.run("touch {tmp_path}/u") end }})'
    events = await run_local(text, tmp_path)
    assert finished_hosts(events)["local"].status == "changed", finished_hosts(events)["local"].error
    assert (tmp_path / "log").read_text() == "ran\n"  # once: not again at the end of the run
    assert (tmp_path / "u").exists()
    end = time.monotonic() + 30
    while (tmp_path / ".sloth-runner/confirm/pending.json").exists():
        assert time.monotonic() < end
