"""Saved plans: made by a check, shown, and applied without the site; refused where the host has changed since."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from sloth.engine.plans.file import read_plan
from sloth.errors import StateError
from sloth.state.keys import Keys
from tests.support.home import Home
from tests.support.terminal import Terminal

pytestmark = pytest.mark.timeout(180)

SECRET = "hunter2-hunter2"
BODY = """
    file.directory({path = "FILES/etc", mode = "0750"})
    file.copy({content = "port = 80\\n", dest = "FILES/etc/app.conf", mode = "0640"})
    file.copy({src = "motd", dest = "FILES/etc/motd"})
    file.lineinfile({path = "FILES/etc/hosts", line = "debug = no", create = true})
    file.lineinfile({path = "FILES/etc/hosts", line = "trace = no"})
"""
HANDLER = 'handler({name = "restart", run = function() exec.run({cmd = "echo restarted >> FILES/log"}) end})'


@pytest.fixture
def planned(home: Home) -> Home:
    """A site with a plan of it for web1, `deploy.plan`."""
    (home.path / "motd").write_text("hello\n")
    home.site(BODY)
    home.run("-o", "deploy.plan", verb="plan")
    return home


def without_site(home: Home) -> None:
    """Remove all that an apply must not need."""
    for name in ("site.sloth", "motd", "secrets.vault"):
        (home.path / name).unlink(missing_ok=True)
    shutil.rmtree(home.path / "modules", ignore_errors=True)


def test_a_plan_is_applied_without_its_site_and_leaves_what_a_run_leaves(planned: Home) -> None:
    home = planned
    assert home.text("etc/motd") is None, "a plan changes nothing"
    without_site(home)
    assert "5 changed, 0 unchanged" in home("apply", "deploy.plan")
    assert home.text("etc/app.conf") == "port = 80\n"
    assert home.text("etc/motd") == "hello\n"
    assert stat.S_IMODE((home.files / "etc/app.conf").stat().st_mode) == 0o640
    assert len(home.recorded()) == 5
    (run,) = home.json("runs", "list")
    assert (run["site"], run["changed"], run["status"]) == ("site.sloth", 5, 0)
    history = home.json("state", "history", "--agent", "web1")
    assert {row["reason"] for row in history} == {"new"}
    assert {row["run"] for row in history} == {run["run"]}
    home("drift", "--limit", "web1", "--exit-code")
    # The site itself finds all of it as it should be, and owns it.
    (home.path / "motd").write_text("hello\n")
    home.site(BODY)
    assert "0 changed, 5 unchanged" in home.run()
    assert "orphaned" not in home.run(verb="plan")
    home("rollback", run["run"], "--yes", "--limit", "web1")
    assert home.text("etc/motd") is None


# hashicorp/terraform 30438, 32629: "Saved plan is stale".
def test_a_plan_is_applied_once(planned: Home) -> None:
    planned("apply", "deploy.plan")
    shown = planned("apply", "deploy.plan", status=3)
    assert "the plan was applied before, in run 20" in shown
    assert "make a new plan" in shown
    assert planned.json("apply", "deploy.plan", "--check", status=3)["hosts"]["web1"]["status"] == "failed"


@pytest.mark.parametrize("change", ["mode", "removed"])
def test_what_has_changed_on_the_host_since_is_refused_before_anything_is_touched(home: Home, change: str) -> None:
    (home.path / "motd").write_text("hello\n")
    (home.files / "etc").mkdir(mode=0o750)
    (home.files / "etc/motd").write_text("former\n")
    home.site(BODY.replace('dest = "FILES/etc/motd"', 'dest = "FILES/etc/motd", mode = "0600"'))
    home.run("-o", "deploy.plan", verb="plan")
    motd = home.files / "etc/motd"
    if change == "mode":
        motd.chmod(0o444)
    else:
        motd.unlink()
    for words in (["--check"], []):
        shown = home("apply", "deploy.plan", *words, status=3)
        assert "the host has changed since the plan: " in shown
        assert f"file:copy:{motd}" in shown
        assert "app.conf" not in shown.split("has changed since the plan")[1]
        assert ("mode differs" if change == "mode" else "it does not exist any more") in shown
    assert not (home.files / "etc/app.conf").exists(), "nothing was touched"
    assert home.recorded() == []


def test_what_the_plan_is_not_about_may_change(planned: Home) -> None:
    (planned.files / "other").write_text("x")
    planned("apply", "deploy.plan", "--check")
    assert planned.text("etc/motd") is None
    planned("apply", "deploy.plan")


def test_one_host_that_has_changed_does_not_keep_the_others(home: Home) -> None:
    (home.path / "site.sloth").write_text(
        f'task({{name = "t", run = function() file.copy({{content = "x", dest = "{home.files}/" .. host.name}}) end}})'
    )
    home("plan", "-f", "site.sloth", "-o", "./deploy.plan")
    (home.files / "web1").write_text("edited")
    done = home.json("apply", "deploy.plan", status=3)
    assert {name: host["status"] for name, host in done["hosts"].items()} == {"web1": "failed", "web2": "changed"}
    assert (home.text("web1"), home.text("web2")) == ("edited", "x")
    (home.files / "web1").unlink()
    assert "applied before" in home("apply", "deploy.plan", status=3), "web2 has had it"
    assert home.text("web1") == "x", "web1 has not, and is as it was planned"


# hashicorp/terraform 19932, 30603: sensitive values in plan files.
def test_secrets_are_in_a_plan_as_references(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOTH_SECRET_DB_PASSWORD", SECRET)
    (home.path / "t.j2").write_text("{{ secret('db/password') | b64encode }}\nplain\n")
    home.site(
        """
        file.copy({content = "password = " .. secret("db/password") .. "\\n", dest = "FILES/conf", mode = "0600"})
        file.template({src = "t.j2", dest = "FILES/encoded"})
        file.lineinfile({path = "FILES/line", line = "x" .. secret("db/password"), create = true})
        exec.run({cmd = "printf %s '" .. secret("db/password") .. "' > FILES/out", creates = "FILES/out"})
        """
    )
    home.run("-o", "deploy.plan", verb="plan")
    import base64

    encoded = base64.b64encode(SECRET.encode()).decode()
    for text in (
        (home.path / "deploy.plan").read_text(),
        home("plan", "show", "deploy.plan", "--diff"),
        home("plan", "show", "deploy.plan", "-o", "json"),
        home("plan", "show", "deploy.plan", "-o", "markdown"),
    ):
        assert SECRET not in text
        assert encoded not in text
    assert "secret(db/password)" in home("plan", "show", "deploy.plan", "-o", "json")
    without_site(home)
    monkeypatch.delenv("SLOTH_SECRET_DB_PASSWORD")
    assert "there is no secret db/password" in home("apply", "deploy.plan", "--allow-unknown", status=1)
    assert home.text("conf") is None
    monkeypatch.setenv("SLOTH_SECRET_DB_PASSWORD", SECRET)
    shown = home("apply", "deploy.plan", "--allow-unknown", "-v")
    assert SECRET not in shown
    assert (home.text("conf"), home.text("out")) == (f"password = {SECRET}\n", SECRET)
    assert home.text("encoded") == f"{encoded}\nplain\n"
    assert home.text("line") == f"x{SECRET}\n"


def test_a_plan_is_encrypted_if_asked(planned: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home = planned
    monkeypatch.setenv("SLOTH_PASSPHRASE", "a long passphrase")
    home.run("-o", "secret.plan", "--encrypt", verb="plan")
    assert "app.conf" not in (home.path / "secret.plan").read_text()
    assert "app.conf" in home("plan", "show", "secret.plan")
    monkeypatch.setenv("SLOTH_PASSPHRASE", "another")
    assert "wrong passphrase for secret.plan" in home("plan", "show", "secret.plan", status=1)
    monkeypatch.setenv("SLOTH_PASSPHRASE", "a long passphrase")
    home("apply", "secret.plan")
    assert home.text("etc/motd") == "hello\n"
    assert "--encrypt needs -o FILE" in home.run("--encrypt", verb="plan", status=2)


def test_a_plan_that_is_damaged_altered_or_of_the_future_is_refused(planned: Home) -> None:
    home, path = planned, planned.path / "deploy.plan"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for data, message in (
        (b"", "is not a saved plan"),
        (b"port = 80\n", "is not a saved plan"),
        (whole.replace(b"SLOTH-PLAN 1", b"SLOTH-PLAN 2", 1), "has format 2, but this sloth-runner supports formats up"),
        (whole[:-20], "is cut off in line"),
        (b"".join(lines[:-1]), "is cut off after line"),
        (b"".join([*lines[:4], *lines[5:]]), "does not belong there"),
        (whole.replace(b"0640", b"0644", 1), "is damaged"),
        (whole.replace(b'"web1"', b'"web2"', 1), "the header (line 2) was altered"),
    ):
        assert data != whole
        path.write_bytes(data)
        with pytest.raises(StateError, match=re.escape(message)):
            read_plan(path, Keys())
    assert "is not a saved plan" not in home("apply", "deploy.plan", status=1), "the last one: its header was altered"
    assert home.text("etc/motd") is None
    state = home.path / "states"
    home("state", "export", "--agent", "web1", "-o", str(state))
    assert "states is not a saved plan" in home("plan", "show", "states", status=1)
    path.write_bytes(whole)
    assert "deploy.plan is not an export of a state" in home("state", "verify", "deploy.plan", status=1)


def test_what_is_not_known_needs_allow_unknown(home: Home) -> None:
    home.site(
        """
        file.copy({content = "x", dest = "FILES/one"})
        local r = exec.run({cmd = "echo two"})
        file.copy({content = r.stdout, dest = "FILES/" .. r.stdout:gsub("%s", "")})
        """,
        before=HANDLER.replace("FILES", str(home.files)),
        options='notify = "restart",',
    )
    home.run("-o", "deploy.plan", verb="plan")
    document = home.json("plan", "show", "deploy.plan")
    what = [unknown["what"] for unknown in document["hosts"]["web1"]["unknown"]]
    assert any("exec.run echo two" in text for text in what)
    assert any("a check does not run this, so its stdout is not known" in text for text in what)
    assert any("restarted" in text for text in what)
    shown = home("apply", "deploy.plan", status=2)
    assert "then use --allow-unknown" in shown
    assert home.text("one") is None
    shown = home("apply", "deploy.plan", "--allow-unknown")
    assert "unknown    task t" in shown
    assert "the rest is not in the plan" in shown
    assert (home.text("one"), home.text("two"), home.text("log")) == ("x", None, "restarted\n")
    assert "two" in home.run(), "the site does the rest"


# hashicorp/terraform 15160, ansible 30793: what a check read decided what it did.
def test_a_branch_that_depended_on_the_host_is_part_of_the_plan(home: Home) -> None:
    home.site(
        """
        local found = exec.run({cmd = "cat FILES/version", read_only = true})
        if found.stdout == "1" then file.copy({content = "for one", dest = "FILES/result"}) end
        """
    )
    (home.files / "version").write_text("1")
    home.run("-o", "deploy.plan", verb="plan")
    (home.files / "version").write_text("2")
    assert "stdout differs" in home("apply", "deploy.plan", status=3)
    assert home.text("result") is None
    (home.files / "version").write_text("1")
    home("apply", "deploy.plan")
    assert home.text("result") == "for one"


def test_tasks_keep_their_options_in_a_plan(home: Home) -> None:
    (home.path / "site.sloth").write_text(
        """
        task({name = "skipped", when = false, run = function() file.copy({content = "x", dest = "F/skipped"}) end})
        task({name = "never", tags = "never", run = function() file.copy({content = "x", dest = "F/never"}) end})
        task({name = "once", run_once = true, run = function()
            file.copy({content = host.name, dest = "F/once"})
        end})
        task({name = "after", depends_on = "once", serial = 1, hosts = "web2", run = function()
            file.copy({content = "x", dest = "F/after"})
        end, always = function() file.copy({content = "x", dest = "F/always"}) end})
        """.replace("F/", f"{home.files}/")
    )
    home("plan", "-f", "site.sloth", "-o", "./deploy.plan")
    document = home.json("apply", "deploy.plan")
    tasks = {name: {task["name"]: task["status"] for task in host["tasks"]} for name, host in document["hosts"].items()}
    assert tasks == {
        "web1": {"skipped": "skipped", "once": "changed"},
        "web2": {"skipped": "skipped", "once": "skipped", "after": "changed"},
    }
    assert sorted(os.listdir(home.files)) == ["after", "always", "once"]
    home("plan", "-f", "site.sloth", "-o", "./tagged.plan", "--tags", "never", "--limit", "web1")
    home("apply", "tagged.plan")
    assert home.text("never") == "x"


def test_a_failed_call_ends_the_host_as_in_a_run(home: Home) -> None:
    home.site(
        """
        local ok = pcall(function() file.copy({content = "x", dest = "FILES/none/x"}) end)
        file.copy({content = "x", dest = "FILES/one"})
        exec.run({cmd = "exit 3"})
        file.copy({content = "x", dest = "FILES/two"})
        """,
        options='on_failure = "rollback",',
    )
    home.run("-o", "deploy.plan", verb="plan")
    shown = home("apply", "deploy.plan", "--allow-unknown", status=1)
    assert "exit code 3" in shown
    assert "site.sloth:" in shown
    assert (home.text("one"), home.text("two")) == (None, None), "the task was taken back"
    home.site('file.copy({content = "x", dest = "FILES/one"})\nerror("no")')
    shown = home.run("-o", "failed.plan", verb="plan", status=1)
    assert "failed.plan was not written" in shown
    assert not (home.path / "failed.plan").exists()


def test_shared_values_are_not_in_a_plan_and_it_says_so(home: Home) -> None:
    home.site('state.set("release", "2")\nfile.copy({content = "x", dest = "FILES/one"})')
    home.run("-o", "deploy.plan", verb="plan")
    assert "a plan has no shared values" in home("plan", "show", "deploy.plan")
    home("apply", "deploy.plan", status=2)


def test_modules_of_the_site_travel_with_its_plan(home: Home) -> None:
    (home.path / "modules").mkdir()
    (home.path / "modules/note.py").write_text(
        """
from sloth.payload.kernel.resource import REQUIRED, Field, Resource
class Note(Resource):
    \"\"\"Keep a note.\"\"\"
    name = "note.keep"
    fields = (Field("path", "path", REQUIRED, help="Where."),)
    example = 'note.keep({path = "/tmp/x"})'
    def identity(self):
        return self.args.path
    def observe(self):
        try:
            with open(self.args.path) as file:
                return {"text": file.read()}
        except OSError:
            return None
    def desired(self, now):
        return {"text": "noted"}
    def apply(self, change):
        with open(self.args.path, "w") as file:
            file.write("noted")
"""
    )
    home.site('note.keep({path = "FILES/note"})')
    home.run("-o", "deploy.plan", verb="plan")
    without_site(home)
    home("apply", "deploy.plan")
    assert home.text("note") == "noted"


def test_a_plan_is_for_a_place(planned: Home) -> None:
    text = (planned.path / "inventory.toml").read_text()
    (planned.path / "inventory.toml").write_text(text.replace("[hosts.web1]\n", '[hosts.web1]\nuser = "other"\n'))
    assert "the plan was made for web1, and the inventory now says other@web1" in planned(
        "apply", "deploy.plan", status=3
    )
    (planned.path / "inventory.toml").write_text(text.replace("web1", "web9"))
    assert "the plan is for web1, which the inventory does not have" in planned("apply", "deploy.plan", status=2)
    (planned.path / "inventory.toml").write_text(text)
    assert "the plan has nothing for these hosts" in planned("apply", "deploy.plan", "--limit", "web2", status=2)


def test_where_output_goes(home: Home) -> None:
    home.site('file.copy({content = "x", dest = "FILES/one"})')
    assert json.loads(home.run("-o", "json", verb="plan").split("using the")[0])["check"] is True
    shown = home.run("-o", "jsn", verb="plan", status=2)
    assert "'jsn' is neither a format" in shown
    assert 'did you mean "json"' in shown
    shown = home.run("-o", "json", "--out", "deploy", verb="plan")
    assert "wrote deploy;" in shown
    assert "### Plan of `site.sloth`" in home("plan", "show", "deploy", "-o", "markdown")
    assert "is not a directory" in home.run("-o", "none/deploy.plan", verb="plan", status=2)


def test_confirm_shows_asks_and_runs(home: Home) -> None:
    home.site('file.copy({content = "x", dest = "FILES/one"})')
    assert "no terminal to ask" in home.run("--confirm", status=2)
    words = ("-m", "sloth", "run", "-f", "site.sloth", "--limit", "web1", "--confirm")
    with Terminal(words, home.path) as terminal:
        terminal.wait_for(r"would change .*one(.|\n)*Do this\? \[y/N\]")
        terminal.press("n\n")
        assert terminal.end() == 130
    assert home.text("one") is None
    with Terminal(words, home.path) as terminal:
        terminal.wait_for(r"Do this\? \[y/N\]")
        terminal.press("y\n")
        assert terminal.end() == 0
    assert home.text("one") == "x"
    with Terminal(words, home.path) as terminal:
        terminal.wait_for("nothing would change")
        assert terminal.end() == 0


def test_a_plan_of_a_large_file_is_whole(home: Home, tmp_path: Path) -> None:
    data = os.urandom(3 * 1024 * 1024 + 17)
    (home.path / "big").write_bytes(data)
    (home.path / "empty").write_bytes(b"")
    home.site('file.copy({src = "big", dest = "FILES/big"})\nfile.copy({src = "empty", dest = "FILES/empty"})')
    home.run("-o", "deploy.plan", verb="plan")
    without_site(home)
    (home.path / "big").unlink()
    home("apply", "deploy.plan")
    assert (home.files / "big").read_bytes() == data
    assert (home.files / "empty").read_bytes() == b""


# hashicorp/terraform 23345, 24078, 27721: a plan that was made without any state is applied again and again.
def test_commands_of_a_plan_for_a_fresh_host_run_once(home: Home) -> None:
    home.site('exec.run({cmd = "echo ran >> FILES/log"})')
    home.run("-o", "deploy.plan", verb="plan")
    home("apply", "deploy.plan", "--allow-unknown")
    assert "applied before" in home("apply", "deploy.plan", "--allow-unknown", status=3)
    assert home.text("log") == "ran\n"
    # hashicorp/terraform 28136, 30269: what is stale can be shown all the same.
    assert "echo ran" in home("plan", "show", "deploy.plan")


def test_delegated_calls_options_of_calls_and_flushed_handlers_are_in_a_plan(home: Home) -> None:
    (home.path / "site.sloth").write_text(
        """
        handler({name = "note", listen = "changed", run = function() exec.run("echo handler >> F/log") end})
        task({name = "a", hosts = "web1", run = function()
            file.copy({content = "x", dest = "F/balancer", delegate_to = "web2", notify = "changed"})
            exec.run({cmd = "echo $WORD > F/word", environment = {WORD = "yes"}, retries = 1})
        end})
        flush_handlers()
        task({name = "b", hosts = "web1", delegate_to = "web2", run = function()
            exec.run("echo b >> F/log")
            file.copy({content = host.name, dest = "F/own", delegate_to = host.name})
        end})
        """.replace("F/", f"{home.files}/")
    )
    home("plan", "-f", "site.sloth", "-o", "./deploy.plan")
    without_site(home)
    document = home.json("apply", "deploy.plan", "--allow-unknown")
    assert document["hosts"]["web1"]["status"] == "changed"
    assert (home.text("word"), home.text("log"), home.text("own")) == ("yes\n", "handler\nb\n", "web1")
    assert home.recorded() == [f"file:copy:{home.files}/own"]
    rows = home.json("state", "list", "--agent", "web2")
    assert [row["key"] for row in rows] == [f"file:copy:{home.files}/balancer"]


CONFIRMED = """
handler({ name = "reload", run = function() exec.run({ cmd = "echo COMMAND >> FILES/log" }) end })
task({ name = "t", confirm = 60, notify = "reload", run = function()
    file.copy({ content = "x", dest = "FILES/x", mode = "0600" })
end })
"""


def test_a_confirmed_task_is_applied_and_a_secret_of_its_handler_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host keeps what the handler does, to do it again by itself: a plan may not send a secret there."""
    monkeypatch.setenv("SLOTH_SECRET_TOKEN", SECRET)
    source = CONFIRMED.replace("FILES", str(home.files))
    (home.path / "site.sloth").write_text(source.replace("COMMAND", '" .. secret("token") .. "'))
    shown = home.run("-o", "deploy.plan", verb="plan", status=1)
    assert "exec.run in the handler reload of a task with `confirm` has a secret in it" in shown
    assert SECRET not in shown
    assert not (home.path / "deploy.plan").exists()
    (home.path / "site.sloth").write_text(source.replace("COMMAND", "reloaded"))
    home.run("-o", "deploy.plan", verb="plan")
    without_site(home)
    home("apply", "deploy.plan", "--allow-unknown")
    assert (home.text("x"), home.text("log")) == ("x", "reloaded\n")


def test_roles_and_variables_of_hosts_are_in_a_plan(home: Home) -> None:
    """The files of a role come from its directory, and its templates have each host's variables."""
    for name, text in {
        "inventory.yml": "all: {vars: {ansible_connection: local}, hosts: {web1: , web2: }}\n",
        "group_vars/all.yml": "port: 80\n",
        "host_vars/web2.yml": "port: 81\n",
        "roles/app/files/motd": "hello\n",
        "roles/app/templates/app.j2": "{{ port }} {{ extra }}\n",
        "roles/app/init.lua": """
            local args = ...
            task({ name = "configure", run = function()
                local dest = args.dest .. "/"
                file.template({ src = "app.j2", dest = dest .. "app-" .. host.name, vars = { extra = args.extra } })
                file.copy({ src = "motd", dest = dest .. "motd-" .. host.name })
            end })""",
        "site.sloth": f'role("app", {{ dest = "{home.files}", extra = "e" }})\n',
    }.items():
        path = home.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    home("plan", "-f", "site.sloth", "-i", "inventory.yml", "-o", "./deploy.plan")
    without_site(home)
    for name in ("roles", "group_vars", "host_vars"):
        shutil.rmtree(home.path / name)
    assert "4 changed" in home("apply", "deploy.plan", "-i", "inventory.yml")
    assert (home.text("app-web1"), home.text("app-web2")) == ("80 e\n", "81 e\n")
    assert (home.text("motd-web1"), home.text("motd-web2")) == ("hello\n", "hello\n")
