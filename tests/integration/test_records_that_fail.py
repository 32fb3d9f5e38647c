"""What the controller cannot record, and what hosts cannot answer: it is said once, and the work goes on."""

from __future__ import annotations

import sqlite3

import pytest

from tests.support.edited_host import edited_hosts
from tests.support.home import QuickHome

pytestmark = pytest.mark.timeout(120)


def forbid(home: QuickHome, table: str) -> None:
    """Let the controller's memory refuse what is added to a table."""
    with sqlite3.connect(home.path / ".sloth-runner" / "controller.db") as database:
        database.execute(f"CREATE TRIGGER no BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no more'); END")
    database.close()


def test_a_check_goes_on_where_it_cannot_be_recorded_and_a_run_does_not_begin(quick_home: QuickHome) -> None:
    quick_home.site('file.copy({content = "x", dest = "FILES/x"})')
    quick_home.run()
    forbid(quick_home, "runs")
    (quick_home.files / "x").unlink()
    said = quick_home.run("--check")
    assert said.count("the controller cannot record this check: ") == 1
    assert "1 would change" in said
    assert "no more" in quick_home.run(status=1)
    assert quick_home.text("x") is None
    said = quick_home("drift")
    assert said.count("the controller cannot record this look for drift: ") == 1
    assert f"file:copy:{quick_home.files}/x" in said


def test_a_resumed_run_says_which_options_are_not_what_they_were(quick_home: QuickHome) -> None:
    other = 'task({name = "c", tags = "c", run = function() end})'
    quick_home.site('exec.run("test -e FILES/ok")', before=other, options='tags = {"a", "b"},')
    quick_home.run("--tags", "a", status=1)
    (quick_home.files / "ok").touch()
    said = quick_home("run", "-f", "site.sloth", "--resume", "--tags", "b", "--skip-tags", "c")
    assert "--tags is not what it was: it decides about the tasks that are left" in said
    assert "--skip-tags is not what it was" in said


def test_a_host_whose_facts_fail_is_an_error_of_its_own(quick_home: QuickHome) -> None:
    broken = {"status": "failed", "error": "no /proc", "hint": "mount it"}
    edited_hosts(quick_home.path, web1=[({"t": "reply"}, {"set": broken})], web2=[])
    said = quick_home("facts", "-i", "edited.toml", "hostname", status=1)
    assert "no /proc" in said
    assert "web2" in said


def test_a_state_file_that_was_damaged_is_set_aside_and_said(quick_home: QuickHome) -> None:
    quick_home.site('file.copy({content = "x", dest = "FILES/x"})')
    quick_home.run()
    (state,) = (quick_home.path / ".sloth-runner" / "state").glob("*.db")
    for path in state.parent.glob("web1.db-*"):
        path.unlink()
    state.write_bytes(b"this is no database" * 1000)
    said = quick_home("state", "vacuum", "--agent", "web1")
    assert "web1: the state file was damaged; it is kept as " in said


def test_python_that_is_there_is_found_without_one(quick_home: QuickHome) -> None:
    said = quick_home("bootstrap", "all")
    assert said.count("python3") >= 2
    assert "web1" in said


def test_a_constant_judgement_is_in_a_plan_and_a_flat_file_is_fetched_from_a_delegate(quick_home: QuickHome) -> None:
    (quick_home.path / "inventory.toml").write_text('[hosts.web1]\nconnection = "local"\n')
    quick_home.site(
        """
        exec.run({cmd = "echo x > FILES/made", changed_when = false})
        file.fetch({src = "FILES/made", dest = "got/", flat = true, delegate_to = "local"})
        """
    )
    (quick_home.files / "made").write_text("old")
    quick_home.run("-o", "deploy.plan", verb="plan")
    said = quick_home("apply", "deploy.plan", "--allow-unknown")
    assert "exec.run" not in said, "it counts as no change"
    assert (quick_home.path / "got" / "made").read_text() == "x\n"


def test_what_cannot_be_taken_back_keeps_its_handler(quick_home: QuickHome) -> None:
    quick_home.site(
        """
        file.copy({content = "x", dest = "FILES/full/x"})
        file.absent("FILES/tree")
        fail("on purpose")
        """,
        before='handler({name = "h", run = function() exec.run("echo h >> FILES/log") end})\n',
        options='on_failure = "rollback", notify = "h",',
    )
    for name in ("full", "tree"):
        (quick_home.files / name).mkdir()
        (quick_home.files / name / "inside").write_text(name)
    said = quick_home.run(status=1)
    assert "on purpose" in said
    assert quick_home.text("full/x") is None
    assert quick_home.text("log") == "h\n", "something stays changed, and the handler is for that"
