"""What a saved plan keeps of a site, what it cannot keep, and what is refused when it is applied later."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.assets import of_bytes
from sloth.engine.plans.compare import difference
from sloth.engine.plans.file import FORMAT, read_plan, write_plan
from sloth.engine.plans.values import HostPlan, Plan, PlannedCall
from sloth.errors import StateError
from sloth.payload.kernel.redact import MASK
from sloth.payload.kernel.status import Status
from sloth.state.export import writing
from sloth.state.keys import Keys, generate
from sloth.transport import Asset
from tests.support.home import Home

pytestmark = pytest.mark.timeout(180)


def plan(home: Home, text: str, *words: str, status: int = 0) -> str:
    """Make deploy.plan of a site for web1; FILES in it stands for the directory `files`."""
    (home.path / "site.sloth").write_text(text.replace("FILES", str(home.files)))
    return home.run("-o", "deploy.plan", *words, verb="plan", status=status)


def test_pauses_trees_retries_and_what_is_done_outside_of_tasks_are_in_a_plan(quick_home: Home) -> None:
    (quick_home.path / "tree" / "sub").mkdir(parents=True)
    (quick_home.path / "tree" / "sub" / "leaf").write_text("leaf\n")
    (quick_home.path / "t.j2").write_text("{{ word }} {{ more }}\n")
    plan(
        quick_home,
        """
        file.copy({content = "top", dest = "FILES/top"})
        sleep(0.001)
        task({name = "t", max_fail = "50%", when = function() return file.stat({path = "FILES"}).exists end,
            run = function()
                file.copy({src = "tree", dest = "FILES/"})
                sleep(0.002)
                exec.run({cmd = "echo x >> FILES/tries; test $(wc -l < FILES/tries) = 3", retries = 5, delay = 0})
                file.template({src = "t.j2", dest = "FILES/t",
                    vars = {["$secret"] = "plain", ["$dict"] = {"x"}, word = "word", more = "more"}})
            end})
        """,
    )
    shown = quick_home.json("plan", "show", "deploy.plan")
    (template,) = [call for call in calls(shown) if call["module"] == "file.template"]
    assert template["args"]["vars"] == {"$secret": "plain", "$dict": ["x"], "word": "word", "more": "more"}
    quick_home("apply", "deploy.plan", "--allow-unknown")
    assert (quick_home.text("top"), quick_home.text("tree/sub/leaf"), quick_home.text("t")) == (
        "top",
        "leaf\n",
        "word more\n",
    )
    assert quick_home.text("tries") == "x\n" * 3


def calls(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the calls in the document of a plan."""
    return [call for host in shown["hosts"].values() for task in host["tasks"] for call in task["calls"]]


def test_functions_of_results_are_not_in_a_plan_and_it_says_so(quick_home: Home) -> None:
    plan(
        quick_home,
        """
        task({name = "call", run = function()
            exec.run({cmd = "true", retries = 1, ["until"] = function(r) return r.exit_code == 0 end})
        end})
        task({name = "task", failed_when = function() return false end, run = function()
            file.copy({content = "x", dest = "FILES/x"})
        end})
        """,
    )
    shown = quick_home("plan", "show", "deploy.plan")
    assert "site.sloth:3: a plan cannot evaluate `until` of exec.run" in shown
    assert "a plan cannot evaluate `failed_when`" in shown
    assert "the plan has parts that are not known before they are done" in quick_home("apply", "deploy.plan", status=2)


def test_a_plan_says_what_the_site_no_longer_names(quick_home: Home) -> None:
    copy = 'file.copy({content = "x", dest = "FILES/%s"})'
    quick_home.site(copy % "one" + "\n" + copy % "two")
    quick_home.run()
    quick_home.site(copy % "one")
    quick_home.run("-o", "deploy.plan", verb="plan")
    assert quick_home.json("plan", "show", "deploy.plan")["hosts"]["web1"]["orphans"] == [
        f"file:copy:{quick_home.files}/two"
    ]


# Secrets


def test_secrets_that_are_short_whole_or_beside_names_that_plans_use_are_references(
    quick_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOTH_SECRET_PIN", "q7")
    monkeypatch.setenv("SLOTH_SECRET_KEY", "first line of a key\nsecond line of a key")
    plan(
        quick_home,
        """
        task({name = "t", run = function()
            local key = secret("key")
            exec.run({cmd = "printf '%s %s' \\"$PIN\\" \\"$LINE\\" > FILES/out",
                env = {PIN = secret("pin"), LINE = key:match("[^\\n]+"), ["$dict"] = "x"}})
        end})
        """,
    )
    text = (quick_home.path / "deploy.plan").read_text()
    assert "q7" not in text.replace(str(quick_home.path), "")
    assert "first line" not in text
    (call,) = calls(quick_home.json("plan", "show", "deploy.plan"))
    assert call["args"]["env"] == {"PIN": "secret(pin)", "LINE": "secret(key)", "$dict": "x"}
    monkeypatch.setenv("SLOTH_SECRET_KEY", "one line")
    changed = quick_home("apply", "deploy.plan", "--allow-unknown", status=1)
    assert "the secret key has changed since the plan was made; hint: make a new plan" in changed
    assert quick_home.text("out") is None
    monkeypatch.setenv("SLOTH_SECRET_KEY", "first line of a new key\nsecond line of a key")
    quick_home("apply", "deploy.plan", "--allow-unknown")
    assert quick_home.text("out") == "q7 first line of a new key"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            'file.template({src = "t.j2", dest = "FILES/t", vars = {[secret("token")] = 1}})',
            "a plan cannot hold a table with a secret among its names",
        ),
        (
            'exec.run({cmd = "echo " .. state.get("shared")})',
            "site.sloth:1: exec.run echo ******** has a secret in it that a plan cannot refer to; hint: read it with "
            "secret() in the site; one that comes from a shared value has no name",
        ),
        (
            'file.copy({content = state.get("shared"), dest = "FILES/t"})',
            "has a secret in it that a plan cannot refer to",
        ),
    ],
)
def test_a_secret_without_a_name_is_refused(
    quick_home: Home, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    monkeypatch.setenv("SLOTH_SECRET_TOKEN", "hunter2-hunter2")
    monkeypatch.setenv("SLOTH_SECRET_OTHER", "another secret")
    monkeypatch.setenv("SLOTH_KEY", generate())
    (quick_home.path / "t.j2").write_text("t\n")
    quick_home.site('state.set("shared", secret("token"))')
    quick_home.run()
    said_now = plan(
        quick_home,
        f'secret("other") task({{name = "t", run = function() {body} end}})',
        status=1,
    )
    assert said in said_now
    assert "hunter2" not in said_now
    assert not (quick_home.path / "deploy.plan").exists()


def test_a_secret_anywhere_in_a_handler_that_the_host_must_keep_is_refused(
    quick_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOTH_SECRET_TOKEN", "hunter2-hunter2")
    said = plan(
        quick_home,
        """
        handler({name = "reload", run = function()
            exec.run({cmd = "true", env = {["$secret"] = "x", TOKEN = secret("token")}})
        end})
        task({name = "t", confirm = 60, notify = "reload", run = function()
            file.copy({content = "x", dest = "FILES/x"})
        end})
        """,
        status=1,
    )
    assert "exec.run in the handler reload of a task with `confirm` has a secret in it" in said


# Apply


def test_what_was_not_reached_and_what_a_call_has_read_are_differences(quick_home: Home) -> None:
    (quick_home.files / "directory").mkdir()
    (quick_home.files / "directory" / "a").write_text("a")
    plan(
        quick_home,
        """
        task({name = "t", run = function()
            log.info(exec.run({cmd = "ls FILES/directory", read_only = true}).stdout)
            file.copy({content = "x", dest = "FILES/directory/x"})
            file.copy({content = "y", dest = "FILES/y"})
        end})
        """,
    )
    (quick_home.files / "directory" / "b").write_text("b")
    shown = quick_home("apply", "deploy.plan", status=3)
    assert "the host has changed since the plan: " in shown
    assert f"exec:run:ls {quick_home.files}/directory: stdout differs" in shown
    for name in ("a", "b"):
        (quick_home.files / "directory" / name).unlink()
    (quick_home.files / "directory").rmdir()
    shown = quick_home("apply", "deploy.plan", status=3)
    assert f"file:copy:{quick_home.files}/y: it was not reached" in shown
    assert quick_home.text("y") is None


def test_a_handler_that_another_run_has_notified_since_is_not_invented(quick_home: Home) -> None:
    site = """
        handler({name = "h", run = function() exec.run("test -e FILES/ok && echo h >> FILES/log") end})
        task({name = "a", run = function() file.copy({content = "x", dest = "FILES/x"}) end})
        task({name = "b", when = vars.more ~= nil, notify = "h", run = function()
            file.copy({content = tostring(vars.more), dest = "FILES/more"})
        end})
        """
    plan(quick_home, site)
    quick_home.run("-e", "more=1", status=1)
    assert quick_home.text("log") is None
    (quick_home.files / "x").unlink()
    shown = quick_home("apply", "deploy.plan", status=1)
    assert (
        "the handler h was notified, and the plan does not have its calls; hint: it stays pending: run the site"
        in shown
    )
    (quick_home.files / "ok").touch()
    quick_home.run()
    assert quick_home.text("log") == "h\n"


def looked(**found: Any) -> PlannedCall:
    """Return a call that a look has found so."""
    return PlannedCall("user.create", {}, "s:1", "/", status=Status.CHANGED, **found)


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ({"groups": ["a", "b"]}, {"groups": ["a", "b"]}, ""),
        ({"groups": ["a", "b"]}, {"groups": ["a", "c"]}, "groups differs"),
        ({"groups": ["a"], "shell": "/x"}, {"groups": ["a", "b"], "shell": "/y"}, "groups, shell differ"),
        ({"of": {"a": [1]}}, {"of": {"a": [2]}}, "of differs"),
        ({"password": {"secret": "one"}}, {"password": {"secret": "two"}}, ""),
        ({"password": {"secret": "one"}}, {"password": "plain"}, "password differs"),
        ({"text": f"a {MASK}"}, {"text": "a secret"}, ""),
        ({"atime": 1}, {"atime": 2}, ""),
        (None, {"groups": []}, "it exists now"),
        ({"groups": []}, None, "it does not exist any more"),
    ],
)
def test_what_differs_is_named_unless_nobody_can_tell(was: Any, now: Any, said: str) -> None:
    assert difference(looked(before=was), looked(before=now)) == said


def test_what_had_not_been_reached_need_not_be() -> None:
    assert difference(looked(), None) == "it was not reached"
    failed = replace(looked(), status=Status.FAILED)
    assert difference(failed, None) == ""
    assert difference(looked(), replace(failed, error="no")) == "planned as changed, and now failed (no)"


# Files


def an_empty_plan(**hosts: HostPlan) -> Plan:
    return Plan("id", 1.0, "me", "here", "1", "site.sloth", "site.sloth", False, (), {}, hosts)


def test_a_content_that_changes_while_a_plan_is_made_is_an_error(tmp_path: Path) -> None:
    asset = of_bytes("motd", b"after")
    before = Asset("motd", hashlib.sha256(b"before").hexdigest(), 5, open=asset.open)
    with pytest.raises(StateError, match="motd has changed while the plan was made; hint: make the plan again"):
        write_plan(tmp_path / "the.plan", an_empty_plan(), {before.sha256: before}, None)
    assert not (tmp_path / "the.plan").exists()


HOST = {"name": "web1", "address": "web1", "is_partial": False, "orphans": []}
TASK = {
    "task": {"name": "t", "where": "s:1", "index": 1}, "is_skipped": False, "is_planned": True, "unknown": "",
    "status": "changed",
}  # fmt: skip
CALL = {
    "name": "file.copy", "args": {}, "where": "s:1", "directory": "/", "status": "changed",
    "assets": [{"name": "motd", "sha256": "0" * 64, "size": 3}],
}  # fmt: skip
HEAD = {
    "id": "i", "created": 1, "who": "me", "origin": "here", "version": "1", "site": "s", "identity": "s",
    "adhoc": False, "directories": [], "unreachable": [], "custom": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([], "'id'"),
        ([{"plan": HEAD}, {"host": HOST}, {"task": TASK}, {"step": CALL}], f"the content {'0' * 64} is missing"),
        ([{"plan": HEAD}, {"host": HOST}, {"task": {**TASK, "status": "fine"}}], "'fine' is not a valid Status"),
        ([{"plan": HEAD}, {"host": HOST}, {"task": {**TASK, "task": {**TASK["task"], "colour": 1}}}], "colour"),
        ([{"plan": {**HEAD, "custom": {"x.py": "%"}}}], "base64"),
        ([{"plan": HEAD}, {"step": CALL}], ""),
    ],
)
def test_a_plan_whose_parts_do_not_fit_is_damaged(tmp_path: Path, frames: list[dict[str, Any]], why: str) -> None:
    """Its checksums are right: another version has written it, or somebody has."""
    path = tmp_path / "the.plan"
    with writing(path, ["web1"], None, {}, 1, FORMAT) as file:
        for frame in frames:
            file.frame(frame)
    with pytest.raises(StateError) as raised:
        read_plan(path, Keys())
    assert raised.value.message.startswith(f"{path} is not a plan that this sloth-runner can read: ")
    assert why in raised.value.message
    assert raised.value.hint == "make it again"
