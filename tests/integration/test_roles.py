"""Roles: where they are found, what their names and files mean, their arguments, and teams that share them by pip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import sloth
from tests.support.home import Home
from tests.support.paths import ROOT

ENTRY = """
local args = ...
task({ name = "configure", notify = "reload", run = function()
    file.copy({ src = "motd", dest = "OUT/" .. args.name .. ".motd" })
    file.template({ src = "conf.j2", dest = "OUT/" .. args.name .. ".conf", vars = { port = args.port } })
end })
task({ name = "check", depends_on = "configure", run = function() print("checked " .. args.name) end })
handler({ name = "reload", run = function() print("reloaded " .. args.name) end })
return args.port + 1
"""
DECLARED = """
description = "A server."
[arguments]
name = { required = true, help = "what it is called" }
port = { type = "int", default = 80, help = "where it listens" }
kind = { choices = ["small", "large"], default = "small", aliases = ["size"] }
"""


def make_role(directory: Path, out: Path, entry: str = ENTRY, declared: str = DECLARED) -> Path:
    for name in ("files", "templates"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "init.lua").write_text(entry.replace("OUT", str(out)))
    if declared:
        (directory / "role.toml").write_text(declared)
    (directory / "files" / "motd").write_text("of the role\n")
    (directory / "templates" / "conf.j2").write_text("{{ port }}\n")
    return directory


def write(home: Home, text: str, name: str = "site.sloth") -> None:
    (home.path / name).write_text(text)


def test_a_role_is_used_with_its_arguments_files_and_names(home: Home) -> None:
    make_role(home.path / "roles" / "web", home.files)
    write(home, """
        local port = role("web", { name = "one" })
        role("web", { name = "two", port = "8080" }, { as = "second" })
        task({ name = "after", depends_on = { "web: check", "second: check" }, run = function()
            print("port " .. port)
        end })
    """)  # fmt: skip
    shown = home.run()
    assert [line for line in shown.splitlines() if line.startswith("web1: ")] == [
        "web1: checked one", "web1: checked two", "web1: port 81", "web1: reloaded one", "web1: reloaded two",
    ]  # fmt: skip
    assert (home.text("one.motd"), home.text("one.conf"), home.text("two.conf")) == ("of the role\n", "80\n", "8080\n")
    assert "4 unchanged" in home.run()
    tasks = home.json("run", "-f", "site.sloth", "--list-tasks", "--limit", "web1")
    assert [task["name"] for task in tasks] == [
        "web: configure", "web: check", "second: configure", "second: check", "after",
    ]  # fmt: skip


def test_what_is_beside_the_file_that_names_it_comes_first_then_the_role_then_the_site(home: Home) -> None:
    role = make_role(home.path / "roles" / "web", home.files, 'include("more/tasks.lua", "x", { y = 1 })', "")
    (role / "more").mkdir()
    body = " ".join(
        f'file.copy({{ src = "{name}", dest = "{home.files}/{name}" }})' for name in ("a", "b", "c", "motd")
    )
    (role / "more" / "tasks.lua").write_text(
        f"local x, rest = ...\ntask({{ name = x .. rest.y, run = function() {body} end }})"
    )
    for directory, names in ((role / "more", "a"), (role, "ab"), (home.path, "abc")):
        for name in names:
            (directory / name).write_text(f"{directory.name}\n")
    write(home, 'role("web")')
    home.run()
    assert [home.text(name) for name in ("a", "b", "c", "motd")] == [
        "more\n", "web\n", f"{home.path.name}\n", "of the role\n",
    ]  # fmt: skip
    assert "web: x1" in home("run", "-f", "site.sloth", "--list-tasks")


def test_the_names_of_a_role_come_before_those_of_who_uses_it(home: Home) -> None:
    inner = """
        task({ name = "own", depends_on = { "outer", "site" }, notify = "changed", run = function()
            file.copy({ content = "x\\n", dest = "OUT/x" })
        end })
        handler({ name = "changed", run = function() print("inner") end })
    """
    outer = """
        role("inner")
        task({ name = "outer", run = function() end })
        handler({ name = "changed", run = function() print("outer") end })
    """
    make_role(home.path / "roles" / "inner", home.files, inner, "")
    make_role(home.path / "roles" / "outer", home.files, outer, "")
    write(home, """
        task({ name = "site", run = function() end })
        role("outer")
        handler({ name = "changed", run = function() print("site") end })
    """)  # fmt: skip
    assert "web1: inner" in home.run().splitlines()
    names = [task["name"] for task in home.json("run", "-f", "site.sloth", "--list-tasks")]
    assert names == ["site", "outer: outer", "outer: inner: own"]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ('role("wbe")', 'site.sloth:1: there is no role wbe; hint: did you mean "web"?'),
        ('role("web", { nmae = "x" })', "role web has no argument 'nmae'; hint: did you mean \"name\"?"),
        ('role("web")', "site.sloth:1: role web needs name; hint: what it is called"),
        ('role("web", { name = "x", port = "y" })', "role web: port must be a whole number, not the string 'y'"),
        ('role("web", { name = "x", kind = "tiny" })', "role web: kind must be one of small, large, not 'tiny'"),
        ('role("web", { name = "x", kind = "small", size = "large" })', "was given kind twice"),
        ('role("web", "x")', "role web takes a table with names"),
        ('role("web", { "x" })', "role web takes a table with names"),
        ('role("web", { name = "x" }, { ass = "y" })', 'the options of role are { as = "another name" }'),
        ('role({ name = "x" })', 'role takes a name, such as role("nginx", { port = 80 })'),
        ('role("../web", { name = "x" })', "'../web' is not the name of a role"),
        ('role("empty")', "roles/empty is no role: it has no init.lua"),
        ('role("web", { name = "a" }) role("web", { name = "b" })', "task web: configure is declared twice"),
        ('role("loop")', "roles/loop/init.lua includes itself"),
        ('role("typo")', "arguments.port has the unknown type 'integer'; hint: did you mean"),
        ('role("key")', "has the unknown key 'argument'; hint: did you mean \"arguments\"?"),
        ('role("toml")', "role.toml cannot be read: "),
        ('role("default")', "the default of arguments.port: port must be a whole number"),
    ],
)
def test_mistakes_are_found_before_a_host_is_touched(home: Home, use: str, message: str) -> None:
    roles = home.path / "roles"
    make_role(roles / "web", home.files)
    (roles / "empty").mkdir()
    make_role(roles / "loop", home.files, 'role("loop")', "")
    make_role(roles / "typo", home.files, declared='[arguments]\nport = { type = "integer" }\n')
    make_role(roles / "key", home.files, declared="[argument]\n")
    make_role(roles / "toml", home.files, declared="arguments =\n")
    make_role(roles / "default", home.files, declared='[arguments]\nport = { type = "int", default = "x" }\n')
    write(home, use)
    for command in ("validate", "run"):
        shown = home(command, "-f", "site.sloth", status=2)
        assert message in shown
        assert "Traceback" not in shown
    assert "no run is recorded" in home("runs", "list")


def test_roles_are_found_on_the_path_after_those_beside_the_site(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, port in (("roles", 1), ("first", 2), ("second", 3)):
        make_role(home.path / place / f"r{port}", home.files, f'print("r{port}")', "")
        make_role(home.path / place / "same", home.files, f'print("same from {place}")', "")
    write(home, 'role("r1") role("r2") role("r3") role("same")')
    monkeypatch.setenv("SLOTH_ROLES_PATH", str(home.path / "second"))
    shown = home.run("--roles-path", "first")
    for line in ("web1: r1", "web1: r2", "web1: r3", "web1: same from roles"):
        assert line in shown.splitlines()
    monkeypatch.delenv("SLOTH_ROLES_PATH")
    assert "there is no role r2" in home("validate", "-f", "site.sloth", status=2)
    monkeypatch.setenv("SLOTH_ROLES_PATH", str(home.path / "second"))
    listed = home("doc", "role", "--roles-path", "first")
    assert [line.split()[0] for line in listed.splitlines() if line] == ["r1", "r2", "r3", "same"]
    make_role(home.path / "roles" / "web", home.files)
    shown = home("doc", "role", "web")
    assert "A server." in shown
    assert "port   int  where it listens [80]" in shown
    assert 'kind   str   ("small", "large"); alias: size ["small"]' in shown


MODULE = '''
"""Greetings."""

from sloth.payload.kernel.resource import Action, Field


class Say(Action):
    """Say something."""

    name = "greeting.say"
    fields = (Field("text", help="what to say"),)
    returns = (Field("said", help="what was said"),)
    example = 'greeting.say({ text = "hello" })'

    def identity(self):
        return self.args.text

    def run(self):
        return {"said": self.args.text}
'''


def git(directory: Path, *words: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *words], cwd=directory, check=True, capture_output=True)


def test_a_role_in_its_own_repository_is_installed_by_pip_and_used_by_two_sites(home: Home, tmp_path: Path) -> None:
    repository = tmp_path / "acme-web"
    role = make_role(repository / "acme_web", home.files, ENTRY + "\n", DECLARED)
    (role / "modules").mkdir()
    (role / "modules" / "greeting.py").write_text(MODULE)
    (role / "tests").mkdir()
    (role / "tests" / "site.sloth").write_text('role("acme", { name = "tested" })')
    text = (
        (role / "init.lua").read_text().replace('print("checked " .. args.name)', "greeting.say({ text = args.name })")
    )
    (role / "init.lua").write_text(text)
    (repository / "pyproject.toml").write_text("""
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "acme-web"
        version = "1.2.0"
        [project.entry-points."sloth_runner.roles"]
        acme = "acme_web"
        [tool.setuptools]
        packages = ["acme_web"]
        [tool.setuptools.package-data]
        acme_web = ["**/*"]
    """.replace("\n        ", "\n"))  # fmt: skip
    git(repository, "init", "-q")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "1.2.0")
    git(repository, "tag", "v1.2.0")
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--target", str(installed), f"git+file://{repository}@v1.2.0"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    path = f"{installed}{os.pathsep}{ROOT}"
    for number in (1, 2):
        write(home, f'role("acme", {{ name = "site{number}", port = {number} }})', f"site{number}.sloth")
        done = sloth(home.path, "run", "-f", f"site{number}.sloth", "--limit", "web1", extra={"PYTHONPATH": path})
        assert done.returncode == 0, done.stdout + done.stderr
        assert (home.text(f"site{number}.motd"), home.text(f"site{number}.conf")) == ("of the role\n", f"{number}\n")
        assert "greeting.say" in done.stdout
    tests = installed / "acme_web" / "tests" / "site.sloth"
    done = sloth(home.path, "validate", "-f", str(tests), extra={"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    shown = sloth(home.path, "doc", "role", "acme", extra={"PYTHONPATH": path}).stdout
    assert str(installed / "acme_web") in shown
