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


HEAD = "from sloth.payload.kernel.resource import Field, Query\n\n\nclass Word(Query):\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (HEAD + '    name = "own." + "say"\n', 'own.py: the name of Word must stand plainly in it: name = "own.say"'),
        (HEAD + '    name = "own.say"\n    fields = ("word",)\n', "the fields of own.say must be Fields, not 'word'"),
        (
            HEAD + '    name = "own.say"\n    fields = (Field("word", "text"),)\n',
            "field word of own.say has the unknown type 'text'",
        ),
        ("import json\n\njson.loads('{')\n", "own.py:3: JSONDecodeError: "),
        ("x = 1\nreturn x\n", "own.py: SyntaxError: 'return' outside function"),
        ("import yaml\n", "own.py:1: a module may import the standard library and sloth.payload only, not yaml"),
        ("if x := 1:\n    pass\n", "own.py:1: "),
    ],
)
def test_a_module_that_cannot_work_is_refused_with_its_place(modules: Path, source: str, said: str) -> None:
    modules.mkdir()
    (modules / "own.py").write_text(source)
    with pytest.raises(SiteError) as caught:
        custom.load(modules)
    assert said in str(caught.value)
    custom.load()
    assert "own" not in module_names()


def test_what_is_no_module_is_left_out_and_the_sources_can_be_written_elsewhere(modules: Path, tmp_path: Path) -> None:
    """As for a worker, which gets them and has no site."""
    write(modules, "own/shout.py")
    for path in ("own/deep/whisper.py", ".hidden.py", "__pycache__/old.py"):
        write(modules, path, "own.whisper")
    packed = custom.load(modules)
    inside = "sloth/payload/modules/own/"
    assert sorted(packed) == [inside + "__init__.py", inside + "shout.py"]
    (tmp_path / "there").mkdir()
    there = custom.unpack(packed, tmp_path / "there")
    assert [path.name for path in sorted(there.rglob("*.py"))] == ["shout.py"]
    assert custom.load(there) == packed
    for path in ("sloth/payload/modules/../../../evil.py", "sloth/cli/evil.py", "sloth/payload/modules/a/b/c.py"):
        with pytest.raises(SiteError, match="is not the path of a module"):
            custom.unpack({path: b""}, there)


def test_two_directories_may_not_have_different_modules_of_one_name(modules: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(modules, "own/shout.py")
    write(other, "own/shout.py")
    with pytest.raises(SiteError, match=r"there is another call own\.shout"):
        custom.load(modules, other)
    for directory in (modules, other):
        (directory / "own" / "shout.py").unlink()
        (directory / "own" / "words.py").write_text("WORD = 1\n")
    custom.load(modules, other)
    (other / "own" / "words.py").write_text("WORD = 2\n")
    with pytest.raises(SiteError, match=rf"{other}: another directory has a module words\.py"):
        custom.load(modules, other)
