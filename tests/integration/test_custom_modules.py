"""Modules of a site's own: names, verbs for built-in namespaces, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sloth.engine import custom
from sloth.engine.modules import find_call, module_names
from sloth.errors import SiteError, UsageError
from tests.support.command import sloth

SOURCE = '''"""{namespace}.{verb}: returns a word."""

from sloth.payload.kernel.resource import Field, Query


class Word(Query):
    """Return a word."""

    name = "{namespace}.{verb}"
    fields = (Field("word", "str", "none", help="the word"),)

    def look(self):
        return {{"said": "{namespace}.{verb} says " + self.args.word}}
'''


def write(directory: Path, path: str, name: str = "") -> None:
    """Write a module that declares one call, NAMESPACE.VERB."""
    namespace, _, verb = (name or path.removesuffix(".py").replace("/", ".")).partition(".")
    file = directory / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SOURCE.format(namespace=namespace, verb=verb or "say"))


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    return tmp_path / "modules"


@pytest.fixture(autouse=True)
def _forget() -> object:
    yield
    custom.load()


NAMES = ["network", "release", "accounts", "homes", "command", "text", "backend", "utils", "kernel", "payload", "sloth"]


def test_any_name_that_is_no_namespace_and_new_verbs_of_built_in_ones(tmp_path: Path, modules: Path) -> None:
    for name in NAMES:
        write(modules, f"{name}.py")
    verbs = ["file/shout.py", "git/shout.py", "systemd/shout.py", "own/shout.py", "facts2/shout.py"]
    for path in verbs:
        write(modules, path)
    calls = [f"{name}.say" for name in NAMES] + [path.removesuffix(".py").replace("/", ".") for path in verbs]
    prints = "\n".join(f'print({call}({{word = "hello"}}).said)' for call in calls)
    (tmp_path / "site.sloth").write_text(
        f'task({{name = "t", run = function()\n{prints}\nfile.copy({{dest = "{tmp_path}/f", content = "x"}})\n'
        f'print(pcall(function() git.clone({{repo = "{tmp_path}/none", dest = "{tmp_path}/d"}}) end))\nend}})'
    )
    done = sloth(tmp_path, "run", "-f", "site.sloth", "-o", "json", "-vv")
    for call in calls:
        assert f"{call} says hello" in done.stderr, done.stderr + done.stdout
    assert (tmp_path / "f").read_text() == "x", "the built-in verbs stay"
    assert "git.clone" in done.stdout
    (task,) = json.loads(done.stdout)["hosts"]["local"]["tasks"]
    assert [result["module"] for result in task["results"]] == [*calls, "file.copy", "git.clone"]
    assert "git.shout" in sloth(tmp_path, "doc", "git").stdout


def test_what_was_loaded_is_forgotten(modules: Path) -> None:
    built_in = find_call("git.clone"), find_call("file.copy")
    for path in ("git/shout.py", "file/shout.py", "own.py"):
        write(modules, path)
    custom.load(modules)
    assert {"shout"} <= set(module_names()["git"]) & set(module_names()["file"])
    assert find_call("git.shout").name == "git.shout"
    custom.load()
    assert "own" not in module_names()
    for name in ("git.shout", "file.shout", "own.say"):
        with pytest.raises(UsageError):
            find_call(name)
    assert (find_call("git.clone"), find_call("file.copy")) == built_in
    assert not [name for name in sys.modules if "shout" in name]
    assert not hasattr(sys.modules["sloth.payload.modules.git"], "__path__")


@pytest.mark.parametrize(
    ("path", "name", "said"),
    [
        ("file.py", "file.shout", "the name file is taken; hint: to add a verb"),
        ("git.py", "git.shout", "the name git is taken; hint: to add a verb"),
        ("state.py", "state.shout", "the name state is taken"),
        ("facts/more.py", "", "the name facts is taken"),
        ("__init__.py", "file.shout", "the name __init__ is taken"),
        ("file/copy.py", "", "the name file/copy.py is taken"),
        ("pkg/backend.py", "", "the name pkg/backend.py is taken"),
        ("file/__init__.py", "file.shout", "the name file/__init__.py is taken"),
        (
            "file/shout.py",
            "file.copy",
            "class Word is named 'file.copy', not file.shout; hint: put it into file/copy.py",
        ),
        ("git/shout.py", "git.clone", "class Word is named 'git.clone', not git.shout"),
        ("git/clone.py", "", "there is another call git.clone"),
        ("end.py", "", "end is a keyword of Lua"),
        ("own/until.py", "", "until is a keyword of Lua"),
        ("two words.py", "own.say", "must be a Python identifier"),
    ],
)
def test_what_is_refused(modules: Path, path: str, name: str, said: str) -> None:
    write(modules, path, name)
    with pytest.raises(SiteError) as caught:
        custom.load(modules)
    assert said in str(caught.value)
    assert str(modules / path) in str(caught.value)
