"""What every module declares: by registry, so that a new one is held to it the day it is written."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.validate import validate
from sloth.inventory import Inventory, reference
from sloth.inventory.connection import NAMES
from sloth.inventory.settings import HOST_SETTINGS, Settings
from sloth.payload.kernel.converge import execute
from sloth.payload.kernel.registry import call_names, find, registry
from sloth.payload.kernel.resource import Action, Args, ArgumentError, Call, Field, Resource
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Store
from sloth.playbook import Site, check_syntax
from sloth.playbook.lua_types import lua_types
from sloth.playbook.site import lua_source
from sloth.report import documentation
from tests.contract.cases import CASES
from tests.support.command import sloth
from tests.support.paths import PYTHONS, ROOT

CLASSES = registry()
# What file.fetch changes is on the controller: tests/integration has it.
RESOURCES = [cls.name for cls in CLASSES if issubclass(cls, Resource) and cls.name != "file.fetch"]
NO_CASE = """{name} has no contract case, so nothing holds it to what a resource promises. Add one to CASES in
tests/contract/cases.py: "{name}": Case({{its arguments}}, "a shell script that spoils what the call has done").
CONTRIBUTING.md, "Add a module", step 3, describes it; nox -s fleet -- tests/contract -k {name} runs it."""


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_a_module_is_declared_and_documented(cls: type[Call]) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", cls.name)
    assert documentation.summary(cls).endswith("."), "the docstring begins with a sentence"
    fields: Any = (*cls.fields, *cls.returns)
    for field in fields:
        assert isinstance(field, Field)
        assert field.type in Field.TYPES
        assert field.help, f"{field.name} has no help"
    names = [name for field in list(cls.fields) for name in (field.name, *field.aliases)]
    assert len(names) == len(set(names))
    for field in list(cls.fields):
        if not field.required and field.default is not None:
            assert field.coerce(field.default) == field.default
    if cls.alone:
        assert cls.alone in names


@pytest.mark.parametrize("name", RESOURCES)
def test_every_resource_has_a_contract_case(name: str) -> None:
    assert name in CASES, NO_CASE.format(name=name)


def test_every_contract_case_is_of_a_resource() -> None:
    assert sorted(set(CASES) - set(RESOURCES)) == [], "remove these cases, or rename them as the modules were"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_its_example_is_right(cls: type[Call], tmp_path: Path) -> None:
    for name in ("app-1.2.tar.gz", "app.conf.j2"):  # what the examples ship
        (tmp_path / name).touch()
    site = Site("example.sloth", lua_source(cls.example.encode(), "example.sloth"), tmp_path)
    check_syntax(site)
    assert validate(site, Inventory.local(), {}) == []
    assert cls.name + "(" in cls.example or cls.name == "facts.gather"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_wrong_arguments_are_refused_before_anything_is_touched(cls: type[Call]) -> None:
    with pytest.raises(ArgumentError, match="has no argument"):
        cls.check({"no_such_argument": 1})
    for field in list(cls.fields):
        if field.type != "any":
            with pytest.raises(ArgumentError, match=field.name):
                cls.check({field.name: {"a": {"b": 1}} if field.type != "dict" else "text"})


def test_the_reference_is_current() -> None:
    told = documentation.markdown(CLASSES)
    assert (ROOT / "docs/modules.md").read_text() == told, "run: sloth-runner doc --markdown > docs/modules.md"


def test_the_lua_definitions_are_lua(tmp_path: Path) -> None:
    text = documentation.lua_types(CLASSES, lua_types())
    check_syntax(Site("sloth.lua", text.encode(), tmp_path))
    for cls in CLASSES:
        if cls.name != "facts.gather":
            assert f"function {cls.name}(args) end" in text
    server = shutil.which("lua-language-server")
    if server:
        (tmp_path / "sloth.lua").write_text(text)
        done = subprocess.run([server, "--check", str(tmp_path)], capture_output=True, text=True)
        assert "no problems found" in done.stdout.lower()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "file.copy"),
        (["ssh"], "ssh.authorized_key"),
        (["file.copy"], "Arguments"),
        (["--lua-types"], "---@meta"),
        (["file.copy", "-o", "json"], '"positional": "dest"'),
    ],
)
def test_doc_tells(tmp_path: Path, words: list[str], said: str) -> None:
    done = sloth(tmp_path, "doc", *words)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_doc_knows_the_nearest_word(tmp_path: Path) -> None:
    done = sloth(tmp_path, "doc", "file.cpoy")
    assert done.returncode == 2
    assert 'did you mean "file.copy"?' in done.stderr


def test_names_are_found_without_importing() -> None:
    assert call_names() == [cls.name for cls in CLASSES]


def test_what_is_given_alone_has_a_name_or_is_refused() -> None:
    known = {cls.name: cls for cls in CLASSES}
    assert known["exec.run"].check({"": ["a", "b"]})["cmd"] == ["a", "b"]
    assert known["pkg.install"].check({"": "nginx"})["name"] == ["nginx"]
    with pytest.raises(ArgumentError, match="takes a table with names"):
        known["ssh.authorized_key"].check({"": "x"})


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if issubclass(cls, Action)], ids=lambda cls: cls.name)
def test_a_check_does_no_action(cls: type[Action], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cls, "run", lambda self: pytest.fail("it was done"))
    declared: Any = cls.fields
    more = {"http.request": {"url": "http://127.0.0.1/", "method": "POST"}, "host.wait_for": {"path": "/x"}}
    args = cls.check({**{field.name: "x" for field in declared if field.required}, **more.get(cls.name, {})})
    outcome = execute(cls(Args(args), Host(None)), Store(None), check=True)
    assert (outcome.status, outcome.reason) == (("unknown", "") if cls.only_waits else ("changed", "run"))


@pytest.mark.parametrize("python", PYTHONS, ids=str)
def test_every_module_can_be_loaded_by_every_python(python: Path) -> None:
    program = "from sloth.payload.kernel.registry import registry; print(len(registry()))"
    done = subprocess.run([python, "-B", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == str(len(CLASSES)), done.stderr


def test_the_reference_of_inventories_is_current() -> None:
    text = (ROOT / "docs/inventory.md").read_text()
    told = text.partition("<!-- sloth-runner doc inventory --markdown -->\n")[2]
    assert told == reference.markdown(), "run: sloth-runner doc inventory --markdown, and put it at the end of the page"
    attributes = {setting.attribute for setting in HOST_SETTINGS.values()}
    assert attributes <= {field.name for field in dataclasses.fields(Settings)}
    assert set(NAMES.values()) <= set(HOST_SETTINGS)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("cron.job", {"name": "x", "job": "true", "minute": "5\n"}),
        ("user.create", {"name": "ann\n"}),
        ("user.create", {"name": "ann", "umask": "022\n"}),
        ("group.create", {"name": "staff\n"}),
        ("sysctl.set", {"name": "vm.swappiness\n", "value": "5"}),
        ("hostname.set", {"name": "web\n"}),
    ],
)
def test_a_newline_at_the_end_is_no_part_of_a_name_or_a_time(name: str, given: dict[str, object]) -> None:
    """As the output of a command has one: cron refuses all of a file with such a line."""
    with pytest.raises(ArgumentError):
        find(name).check(given)
