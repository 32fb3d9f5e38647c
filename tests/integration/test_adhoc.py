"""call, exec, facts and a site's own modules, by the command line itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sloth.playbook.adhoc import literal
from tests.support.command import sloth

THREE = "".join(f'[hosts.{name}]\nconnection = "local"\n' for name in ("web1", "web2", "db1"))


@pytest.fixture
def three_hosts(tmp_path: Path) -> Path:
    (tmp_path / "inventory.toml").write_text(THREE)
    return tmp_path


def test_a_call_is_checked_made_and_remembered(three_hosts: Path) -> None:
    (three_hosts / "motd").write_text("welcome\n")
    words = ["call", "local", "file.lineinfile", f"path={three_hosts}/motd", "line=hi"]
    checked = sloth(three_hosts, *words, "--check", "--diff", "--exit-code")
    assert checked.returncode == 3, checked.stderr
    assert "+hi" in checked.stdout
    assert (three_hosts / "motd").read_text() == "welcome\n"
    done = sloth(three_hosts, *words)
    assert done.returncode == 0
    assert (three_hosts / "motd").read_text() == "welcome\nhi\n"
    assert "unchanged" in sloth(three_hosts, *words).stdout
    listed = json.loads(sloth(three_hosts, "state", "list", "--output", "json").stdout)
    assert [row["type"] for row in listed] == ["lineinfile"]


def test_a_word_alone_lists_and_tables(three_hosts: Path) -> None:
    done = sloth(three_hosts, "call", "local", "exec.run", '["sh", "-c", "echo $A > ~/made"]', 'env={"A": "b c"}')
    assert done.returncode == 0, done.stderr
    assert (three_hosts / "made").read_text() == "b c\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["local", "file.cpoy", "dest=/x"], 'did you mean "file.copy"?'),
        (["local", "file.copy", "dset=/x"], 'did you mean "dest"?'),
        (["local", "file.copy", "dest=/x"], "needs src or content"),
        (["nope", "file.absent", "/x"], "no host matches nope"),
        (["local", "file.absent", "relative"], "absolute path"),
        (["local", "exec.run", "x", "env={1"], "is not valid JSON"),
    ],
)
def test_mistakes_touch_nothing(three_hosts: Path, words: list[str], said: str) -> None:
    done = sloth(three_hosts, "call", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_hosts_that_answer_the_same_stand_together(three_hosts: Path) -> None:
    done = sloth(three_hosts, "exec", "web*", "--", "echo", "one two")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "── web1, web2\none two\n"
    script = 'test "$(cat ~/.sloth-runner/run.lock 2>/dev/null)" || true; echo out; echo err >&2; exit 3'
    failed = sloth(three_hosts, "exec", "web1", "--", script)
    assert failed.returncode == 1
    assert "exit code 3" in failed.stdout
    document = json.loads(sloth(three_hosts, "exec", "web1", "-o", "json", "--", "echo a; echo b >&2; exit 3").stdout)
    assert (document["web1"]["exit_code"], document["web1"]["stdout"], document["web1"]["stderr"]) == (3, "a\n", "b\n")


def test_facts(three_hosts: Path) -> None:
    told = json.loads(sloth(three_hosts, "facts", "-i", "inventory.toml", "--limit", "web1", "-o", "json").stdout)
    assert list(told) == ["web1"]
    assert {"os_family", "interfaces", "memory_mb", "users"} <= set(told["web1"])
    assert [one["name"] for one in told["web1"]["interfaces"] if "127.0.0.1/8" in one["addresses"]] == ["lo"]
    wrong = sloth(three_hosts, "facts", "distributoin", "--limit", "web1")
    assert wrong.returncode == 2
    assert 'did you mean "distribution"?' in wrong.stderr


@pytest.mark.parametrize("value", ["", 'a"b\\c\n\0', "caf\u00e9 \udcff", [1, "x", [True]], {"a b": {"c": 1.5}}, -3])
def test_what_goes_into_lua_comes_out_of_it(value: object) -> None:
    from lupa.lua54 import LuaRuntime

    runtime = LuaRuntime(encoding=None)
    text = literal(value).encode()

    def plain(thing: object) -> object:
        if isinstance(thing, bytes):
            return thing.decode("utf-8", "surrogateescape")
        if hasattr(thing, "items"):
            items = {plain(key): plain(item) for key, item in thing.items()}
            return list(items.values()) if set(items) == set(range(1, len(items) + 1)) else items
        return thing

    assert plain(runtime.execute(b"return " + text)) == value


OWN = '''"""Notes: one line in a file of its own."""

import os

from sloth.payload.kernel.resource import REQUIRED, Field, Resource


class Present(Resource):
    """Make sure that a note is there."""

    name = "note.present"
    fields = (Field("path", "path", REQUIRED, help="the file"), Field("text", "str", REQUIRED, help="what it says"))
    example = 'task({name = "n", run = function() note.present({path = "/tmp/n", text = "x"}) end})'

    def identity(self):
        return self.host.expand(self.args.path)

    def observe(self):
        try:
            with open(self.identity()) as file:
                return {"text": file.read()}
        except FileNotFoundError:
            return None

    def desired(self, now):
        return {"text": self.args.text}

    def apply(self, change):
        with open(self.identity(), "w") as file:
            file.write(self.args.text)
'''


def test_a_site_s_own_module_works_like_any_other(three_hosts: Path) -> None:
    (three_hosts / "modules").mkdir()
    (three_hosts / "modules/note.py").write_text(OWN)
    (three_hosts / "site.sloth").write_text(
        'task({ name = "t", run = function() print(note.present({ path = "~/n", text = "hi" }).reason) end })'
    )
    for reason in ("new", ""):
        done = sloth(three_hosts, "run", "-i", "inventory.toml", "-l", "web1", "-f", "site.sloth")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"web1: {reason}\n" in done.stdout
    assert (three_hosts / "n").read_text() == "hi"
    assert "note.present" in sloth(three_hosts, "doc", "note").stdout
    wrong = sloth(three_hosts, "call", "local", "note.present", "path=/x", "txet=1")
    assert 'did you mean "text"?' in wrong.stderr


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("note.py", "def (:", "modules/note.py:1"),
        ("note.py", "import os\nimport requests\n", "modules/note.py:2"),
        ("note.py", "x = f'{1=}'\n", "modules/note.py:1"),
        ("note.py", "\nraise KeyError('k')\n", "modules/note.py:2"),
        ("note.py", OWN.replace("note.present", "nota.present"), "not note.VERB"),
        ("note.py", OWN.replace('"path", "path"', '"path", "pth"'), "unknown type 'pth'"),
        ("file.py", OWN, "the name file is taken"),
        ("host.py", OWN, "the name host is taken"),
    ],
)
def test_a_mistake_in_a_module_is_found_with_its_place(three_hosts: Path, name: str, source: str, said: str) -> None:
    (three_hosts / "modules").mkdir()
    (three_hosts / "modules" / name).write_text(source)
    (three_hosts / "site.sloth").write_text('task({ name = "t", run = function() end })')
    done = sloth(three_hosts, "run", "-i", "inventory.toml", "-l", "web1", "-f", "site.sloth")
    assert done.returncode == 2
    assert said in done.stderr


def test_an_error_on_the_host_names_the_module_s_line(three_hosts: Path) -> None:
    (three_hosts / "modules").mkdir()
    (three_hosts / "modules/note.py").write_text(
        OWN.replace("        with open(self.identity(), ", "        {}['k']\n        with open(")
    )
    (three_hosts / "site.sloth").write_text(
        'task({ name = "t", run = function() note.present({ path = "~/n", text = "hi" }) end })'
    )
    done = sloth(three_hosts, "run", "-i", "inventory.toml", "-l", "web1", "-f", "site.sloth")
    assert done.returncode == 1
    assert "modules/note.py:29: KeyError: 'k'" in done.stdout
