"""validate: it refuses no site that runs, and finds what can be known without a host."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sloth.engine import custom
from sloth.engine.options import Options
from sloth.engine.validate import validate
from sloth.inventory import Inventory
from sloth.playbook import Site
from tests.support.home import Home, QuickHome
from tests.support.paths import ROOT
from tests.support.running import run_whole

EXAMPLES = sorted((ROOT / "examples").rglob("*.sloth"))
HOSTS = """\
[hosts.web1]
connection = "local"
vars = { only_web = "web", mode = "0640", list = ["a", "b"] }
[hosts.db1]
connection = "local"
vars = { mode = "0600" }
[groups.web]
hosts = ["web1"]
[groups.db]
hosts = ["db1"]
"""
# Each of these is right; what it depends on is known only on a host, or only where it runs.
RIGHT = (
    'file.copy({content = "x", dest = facts.home and "DIR/a"})',
    'file.copy({content = "x", dest = ({debian = "DIR/b"})[facts.os_family] or "DIR/b2"})',
    'local name = exec.run({cmd = "echo five", read_only = true}).stdout:match("%a+") '
    'file.copy({content = name, dest = "DIR/" .. name, mode = name == "five" and "0600" or nil})',
    'local text = template("t.j2") file.copy({content = text, dest = "DIR/t" .. #text, mode = text:match("06%d%d")})',
    'local mode = template("t.j2"):match("0%d+") file.copy({content = "x", dest = "DIR/m", mode = mode})',
    'file.copy({content = "x", dest = "DIR/s", mode = secret("mode")})',
    'if file.stat("/").exists then file.directory({path = "DIR/d"}) else error("no root") end',
    'local user = {name = "x"} print(user.name, vars.nothing)',
    'for _, file in ipairs({"DIR/l1", "DIR/l2"}) do exec.run({cmd = "touch " .. file, creates = file}) end',
    'assert(pcall(file.copy, {bogus = true}) == false)',
    'pcall(function() file.copy({src = "no such file", dest = "DIR/x"}) end)',
    'shared = exec.run({cmd = "echo 0644", read_only = true}).stdout:match("%d+")',
    'if shared then file.copy({content = "", dest = "DIR/shared", mode = shared}) end',
    'state.set("k", {mode = "0640"}) file.copy({content = "", dest = "DIR/k", mode = state.get("k").mode})',
    'local data = {file = "DIR/f", group = "x", user = 1} file.copy({content = data.group, dest = data.file})',
    'file.template({src = "t.j2", dest = "DIR/tpl"})',
    'file.copy({src = "files/real", dest = "DIR/real"})',
    "return true",
)  # fmt: skip
ONLY_WEB = 'file.copy({content = vars.only_web, dest = "DIR/" .. vars.only_web .. vars.list[1], mode = vars.mode})'
OPTIONS = ("", "run_once = true,", 'tags = "x",', 'notify = "h",', "retries = 1,", "timeout = 60,")
pieces = st.tuples(st.sampled_from(RIGHT), st.sampled_from(OPTIONS))


def site_of(parts: list[tuple[str, str]], directory: Path) -> Site:
    """Write a site of these bodies, each a task, and more tasks that do not run everywhere."""
    lines = [
        f'task({{name = "t{at}", {options} run = function() {body} end}})' for at, (body, options) in enumerate(parts)
    ]
    lines += [
        f'task({{name = "web", hosts = "@web", run = function() {ONLY_WEB} end}})',
        f'task({{name = "when", when = vars.only_web ~= nil, run = function() {ONLY_WEB} end}})',
        'task({name = "fun", when = function() return host.name == "none" end, run = function() error("never") end})',
        'task({name = "ignored", ignore_errors = true, run = function() error("it may") end})',
        'task({name = "not now", tags = "never", run = function() error("not asked for") end})',
        'if host.name == "web1" then task({name = "own", run = function() print(vars.list[2]:upper()) end}) end',
        'handler({name = "h", run = function() print("h") end})',
    ]
    (directory / "site.sloth").write_text("\n".join(lines).replace("DIR", str(directory / "out")))
    (directory / "t.j2").write_text("0600 {{ facts.hostname }}")
    for name in ("out", "files"):
        (directory / name).mkdir()
    (directory / "files" / "real").write_text("real")
    (directory / "inventory.toml").write_text(HOSTS)
    return Site.read(str(directory / "site.sloth"))


@pytest.mark.timeout(300)  # every example has hosts that get the payload for the first time
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pieces, min_size=1, max_size=5))
def test_a_site_that_runs_is_not_refused(parts: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        home = Path(name)
        patch.setenv("HOME", name)
        patch.setenv("SLOTH_SECRET_MODE", "0600")
        site = site_of(parts, home)
        inventory = Inventory.read(home / "inventory.toml")
        assert validate(site, inventory, {}, sources=True) == []
        events, status = asyncio.run(run_whole(home / "site.sloth", inventory, home / "controller", Options(forks=1)))
        assert status == 0, [str(e) for e in events if "failed" in str(e)]


def test_each_right_body_is_accepted_alone(tmp_path: Path) -> None:
    site_of([], tmp_path)
    inventory = Inventory.read(tmp_path / "inventory.toml")
    for body in RIGHT:
        (tmp_path / "site.sloth").write_text(
            f'task({{name = "t", run = function() {body} end}})'.replace("DIR", "/srv")
        )
        assert validate(Site.read(str(tmp_path / "site.sloth")), inventory, {}, sources=True) == [], body


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_example_is_refused(path: Path) -> None:
    inventory = path.parent / "inventory.toml"
    try:
        custom.load(path.parent / "modules")
        everything = Inventory.read(inventory) if inventory.exists() else Inventory.local()
        assert validate(Site.read(str(path)), everything, {}, sources=True) == []
    finally:
        custom.load()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('file.copy({src = "nope.conf", dest = "/x"})', "file.copy: there is no file nope.conf on the controller"),
        ('if facts.os_family == "x" then file.copy({src = "nope", dest = "/x"}) end', "there is no file nope"),
        ('file.template({src = "nope.j2", dest = "/x"})', "file.template: template nope.j2 not found"),
        ('systemd.unit({name = "a.service", src = "nope.service"})', "systemd.unit: there is no file nope.service"),
        ('print(template("nope.j2"))', "template nope.j2 not found"),
        ('file.copy({content = "x", dest = "/x", mode = 0644})', 'write mode = "0644", in quotes'),
        ('local m = "u+q" file.copy({content = "x", dest = "/x", mode = m})', "mode"),
        ("local x = nil print(x.y)", "attempt to index a nil value"),
        ('error("no")', "no"),
        ('return false, "never right"', "never right"),
        ("file.cpoy({})", 'did you mean "copy"'),
        ("print(facts.os_familiy)", 'did you mean "os_family"'),
    ],
)
def test_mistakes_that_need_no_host_are_found(home: Home, body: str, message: str) -> None:
    home.site(body)
    shown = home("validate", "-f", "site.sloth", status=2)
    assert shown.startswith("site.sloth:"), shown
    assert message in shown


def test_what_hosts_might_answer_proves_no_mistake_and_lists_say_what_is_wrong(quick_home: QuickHome) -> None:
    quick_home.site(
        """
        file.copy({content = "x", dest = "/x", notify = "h" .. tostring(facts.hostname),
            delegate_to = facts.hostname})
        """,
        before='task({name = "s", run = function()'
        ' if not re.search("b", ("a"):rep(100000) .. "b") then error("never on a host") end end})\n'
        'local color = prompt("color", {choices = {"red", "green"}, default = "red"})',
    )
    assert "no mistakes" in quick_home("validate", "-f", "site.sloth")
    wrong = quick_home("validate", "-f", "site.sloth", "-e", "color=gren", status=2)
    assert "-e color: gren is not one of the choices of " in wrong
    assert 'did you mean "green"' in wrong
    first = 'task({name = "u", depends_on = "v", run = function() end})\n'
    (quick_home.path / "site.sloth").write_text(first)
    listed = quick_home("run", "-f", "site.sloth", "--list-tasks", status=2)
    assert "site.sloth:1: task u: depends_on names the task v, which is not declared" in listed
    (quick_home.path / "site.sloth").write_text(first + 'task({name = "v", depends_on = "u", run = function() end})\n')
    for command in (("validate",), ("run", "--check")):
        assert "depends_on has a cycle: u -> v -> u" in quick_home(*command, "-f", "site.sloth", status=2)
