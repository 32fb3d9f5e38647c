"""Several inventories are merged, and several sites are one: options that may be given more than once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.errors import InventoryError
from sloth.inventory import Inventory
from tests.support.command import sloth
from tests.support.home import Home

FIRST = """\
[defaults.vars]
ntp = "first"
[hosts]
web1 = { connection = "local" }
web2 = { connection = "local", user = "joe" }
[groups.web]
hosts = ["web*"]
priority = 3
vars = { port = 80, x = 1 }
"""
SECOND = """\
[defaults.vars]
ntp = "second"
[hosts.web2]
user = "ann"
vars = { own = 2 }
[hosts.db1]
connection = "local"
[groups.web]
hosts = ["db1"]
vars = { port = 8080 }
[groups.every]
groups = ["web"]
"""


def merged(tmp_path: Path, *texts: str) -> Inventory:
    paths = [tmp_path / f"{number}.toml" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return Inventory.read(*paths)


# Inventories


def test_the_last_inventory_wins_for_each_key(tmp_path: Path) -> None:
    inventory = merged(tmp_path, FIRST, SECOND)
    assert list(inventory.hosts) == ["web1", "web2", "db1"]
    web2 = inventory.hosts["web2"]
    assert web2.user == "ann"
    assert web2.vars == {"ntp": "second", "port": 8080, "x": 1, "own": 2}
    assert web2.origins["name"] == f"{tmp_path}/0.toml:5, {tmp_path}/1.toml:3"
    assert web2.origins["user"] == f"{tmp_path}/1.toml:4 (host)"
    assert web2.origins["connection"] == f"{tmp_path}/0.toml:5 (host)"
    assert web2.origins["vars.port"] == f"{tmp_path}/1.toml:10 (group web)"
    assert inventory.groups["web"].hosts == ("web1", "web2", "db1"), "members add up"
    assert inventory.groups["every"].hosts == ("web1", "web2", "db1")
    assert inventory.groups["web"].origins["name"] == f"{tmp_path}/0.toml:6, {tmp_path}/1.toml:8"
    other = merged(tmp_path, SECOND, FIRST).hosts["web2"]
    assert (other.user, other.vars["ntp"], other.vars["port"]) == ("joe", "first", 80)


def test_an_account_of_a_later_inventory_replaces_become_user(tmp_path: Path) -> None:
    first = '[hosts.a]\nbecome_user = "app"\n'
    assert merged(tmp_path, first, '[hosts.a]\nbecome = "deploy"').hosts["a"].become == "deploy"
    assert merged(tmp_path, first, "[hosts.a]\nbecome = false").hosts["a"].become is None
    assert merged(tmp_path, first, "[hosts.a]\nbecome = true").hosts["a"].become == "app"


def test_files_of_an_inventory_are_named_beside_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "i.toml").write_text(f'[hosts.{name}]\nidentity_file = "key"\n')
    hosts = Inventory.read(tmp_path / "one" / "i.toml", tmp_path / "two" / "i.toml").hosts
    assert [host.identity_files for host in hosts.values()] == [(f"{tmp_path}/one/key",), (f"{tmp_path}/two/key",)]


@pytest.mark.parametrize(
    ("second", "line", "message"),
    [
        ("[hosts.web]", 1, "host and of a group"),
        ('[groups.z]\ngroups = ["wbe"]', 2, 'did you mean "web"'),
        ('[groups.web]\nhosts = ["db9"]', 2, "no host matches db9"),
        ("[hots.a]", 1, 'did you mean "hosts"'),
    ],
)
def test_errors_name_the_file_that_is_wrong(tmp_path: Path, second: str, line: int, message: str) -> None:
    text = second if message != "host and of a group" else "[groups.web1]"
    with pytest.raises(InventoryError, match=message) as caught:
        merged(tmp_path, FIRST, text)
    assert str(caught.value).startswith(f"{tmp_path}/1.toml:{line}: ")


values = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3)


@given(st.lists(st.dictionaries(st.sampled_from(("h1", "h2", "h3")), values, max_size=3), min_size=1, max_size=4))
def test_merging_is_a_fold_over_the_files(
    tmp_path_factory: pytest.TempPathFactory, files: list[dict[str, dict[str, int]]]
) -> None:
    texts = [
        "".join(
            f"[hosts.{host}]\n[hosts.{host}.vars]\n" + "".join(f"{name} = {value}\n" for name, value in vars.items())
            for host, vars in file.items()
        )
        for file in files
    ]
    inventory = merged(tmp_path_factory.mktemp("merged"), *texts)
    expected: dict[str, dict[str, int]] = {}
    for file in files:
        for host, vars in file.items():
            expected.setdefault(host, {}).update(vars)
    assert {name: host.vars for name, host in inventory.hosts.items()} == expected


@pytest.mark.parametrize(
    "words",
    [
        ("run", "-f", "site.sloth", "--output", "json"),
        ("plan", "-f", "site.sloth", "--output", "json"),
        ("validate", "-f", "site.sloth"),
        ("call", "db1", "file.stat", "/"),
        ("exec", "db1", "true"),
        ("facts", "hostname", "--limit", "db1"),
        ("drift", "--limit", "db1"),
        ("state", "list", "--agent", "db1"),
        ("state", "adopt", "file.directory", "/", "--agent", "db1"),
        ("runs", "list", "--agent", "db1"),
        ("inventory", "list", "db1"),
        ("rollback", "last", "--check", "--limit", "db1"),
    ],
)
def test_every_command_merges_inventories(home: Home, words: tuple[str, ...]) -> None:
    (home.path / "0.toml").write_text(FIRST)
    (home.path / "1.toml").write_text(SECOND)
    (home.path / "site.sloth").write_text('task({name = "t", hosts = "@every", run = function() file.stat("/") end})')
    if words[0] == "rollback":
        home("call", "db1", "file.copy", "content=x", f"dest={home.files}/x", "-i", "1.toml")
    done = sloth(home.path, *words, "-i", "0.toml", "-i", "1.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "using the inventory" not in done.stderr
    if "json" in words:
        assert list(json.loads(done.stdout)["hosts"]) == ["web1", "web2", "db1"]
    missing = sloth(home.path, *words, "-i", "0.toml", "-i", "nope.toml")
    assert missing.returncode == 2
    assert "inventory nope.toml not found" in missing.stderr


def test_inventory_list_names_the_file_of_each_value(home: Home) -> None:
    (home.path / "0.toml").write_text(FIRST)
    (home.path / "1.toml").write_text(SECOND)
    words = ("inventory", "list", "-i", "0.toml", "-i", "1.toml")
    table = home(*words).splitlines()
    assert [line.split()[-2:] for line in table if line.startswith("web2")] == [["0.toml:5,", "1.toml:3"]]
    assert [line.split()[-1] for line in table if line.startswith("@every")] == ["1.toml:11"]
    details = home(*words, "--vars").splitlines()
    assert "web2  @every @web  0.toml:5, 1.toml:3" in details
    assert any(line.split() == ["vars.ntp", "second", "1.toml:2", "(defaults)"] for line in details)
    document = home.json(*words)
    assert document["inventories"] == ["0.toml", "1.toml"]
    assert document["groups"]["web"]["origins"]["vars.port"] == "1.toml:10 (group web)"


def test_the_environment_may_name_several_inventories(home: Home) -> None:
    (home.path / "0.toml").write_text(FIRST)
    (home.path / "1.toml").write_text(SECOND)
    environment = {**os.environ, "HOME": str(home.path), "SLOTH_INVENTORY": "0.toml:1.toml"}
    done = subprocess.run(
        [sys.executable, "-m", "sloth", "inventory", "list", "-o", "json"],
        cwd=home.path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert list(json.loads(done.stdout)["hosts"]) == ["web1", "web2", "db1"]


# Sites


def two_sites(home: Home) -> tuple[str, ...]:
    """Write two sites in directories of their own, with files of the same names; return the options that name them."""
    for name in ("one", "two"):
        (home.path / name / "lib").mkdir(parents=True)
        (home.path / name / "f.txt").write_text(f"{name}\n")
        (home.path / name / "t.j2").write_text(name + " {{ host.name }}\n")
        (home.path / name / "lib" / "part.lua").write_text(
            f'return function() file.copy({{src = "f.txt", dest = "{home.files}/{name}-part"}}) end'
        )
        (home.path / name / "site.sloth").write_text(
            f"""
            local part = include("lib/part.lua")
            task({{name = "{name}", notify = "restart", run = function()
                file.copy({{src = "f.txt", dest = "{home.files}/{name}"}})
                file.template({{src = "t.j2", dest = "{home.files}/{name}-t"}})
                file.copy({{content = template("t.j2"), dest = "{home.files}/{name}-r"}})
                part()
            end}})
            """
        )
    with (home.path / "one" / "site.sloth").open("a") as file:
        file.write(
            f"""
            handler({{name = "restart", run = function()
                exec.run({{cmd = "echo restarted >> {home.files}/log"}})
            end}})
            """
        )
    return ("-f", "one/site.sloth", "-f", "two/site.sloth", "--limit", "web1")


def test_several_sites_are_one_evaluation(home: Home) -> None:
    options = two_sites(home)
    found = home.json("plan", *options)
    assert [task["name"] for task in found["hosts"]["web1"]["tasks"]][:2] == ["one", "two"]
    document = home.json("run", *options)
    assert document["site"] == "one/site.sloth, two/site.sloth"
    assert [task["name"] for task in document["hosts"]["web1"]["tasks"]] == ["one", "two", "restart"]
    assert home.text("log") == "restarted\n", "a handler runs once, at the end"
    for name in ("one", "two"):
        assert home.text(name) == home.text(f"{name}-part") == f"{name}\n"
        assert home.text(f"{name}-t") == home.text(f"{name}-r") == f"{name} web1\n"
    assert len(home.json("runs", "list")) == 1
    assert home.json("run", *options)["summary"]["changed"] == 0
    other_order = ("-f", "two/site.sloth", "-f", "one/site.sloth", "--limit", "web1")
    assert home.json("plan", *other_order)["hosts"]["web1"]["orphans"] == [], "the same site, in another order"


def test_what_one_of_several_sites_drops_is_pruned(home: Home) -> None:
    options = two_sites(home)
    home("run", *options)
    (home.path / "two" / "site.sloth").write_text('task({name = "two", notify = "restart", run = function() end})')
    home("run", *options, "--prune", "--yes")
    assert (home.text("one"), home.text("two"), home.text("two-part")) == ("one\n", None, None)
    (home.path / "one" / "site.sloth").write_text("")
    home("run", "-f", "one/site.sloth", "--limit", "web1", "--prune", "--yes")
    assert home.text("one") == "one\n", "a site of one file does not own what several have made"


def test_names_are_unique_over_all_sites(home: Home) -> None:
    (home.path / "a.sloth").write_text('task({name = "same", run = function() end})')
    (home.path / "b.sloth").write_text('\ntask({name = "same", run = function() end})')
    for verb in ("run", "plan"):
        shown = home(verb, "-f", "a.sloth", "-f", "b.sloth", status=2)
        assert "b.sloth:2: task same is declared twice (see a.sloth:1)" in shown
    assert "declared twice" in home("validate", "-f", "a.sloth", "-f", "b.sloth", status=2)
    assert "a.sloth was named twice" in home("run", "-f", "a.sloth", "-f", "./a.sloth", status=2)


def test_mistakes_name_the_site_they_are_in(home: Home) -> None:
    (home.path / "a.sloth").write_text('task({name = "a", run = function() end, depends_on = "b"})')
    (home.path / "b.sloth").write_text('task({name = "b", run = function() file.cpoy({}) end})')
    assert home("validate", "-f", "a.sloth", "-f", "b.sloth", status=2).startswith("b.sloth:1: there is no file.cpoy")
    (home.path / "b.sloth").write_text("\nthis is no Lua")
    assert "b.sloth:2: syntax error" in home("run", "-f", "a.sloth", "-f", "b.sloth", status=2)


def test_each_site_has_its_own_secrets(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from sloth.state.keys import generate

    monkeypatch.setenv("SLOTH_KEY", generate())
    for name in ("one", "two"):
        (home.path / name).mkdir()
        (home.path / "value").write_text(f"secret of {name}")
        home("secret", "set", "s", "-f", f"{name}/site.sloth", "--from-file", "value")
        (home.path / name / "site.sloth").write_text(
            f'task({{name = "{name}", run = function()'
            f' file.copy({{content = secret("s"), dest = "{home.files}/{name}"}}) end}})'
        )
    home("run", "-f", "one/site.sloth", "-f", "two/site.sloth", "--limit", "web1")
    assert (home.text("one"), home.text("two")) == ("secret of one", "secret of two")
