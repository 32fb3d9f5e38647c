"""The inventory: how a file is resolved, and the errors of a wrong one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.errors import InventoryError, UsageError
from sloth.inventory import ConnectionType, HostKeyPolicy, Inventory, expand, extra_vars
from sloth.report.text import fold_names

TEXT = """\
[defaults]
user = "deploy"
[defaults.vars]
ntp = "pool"
[hosts."web[01:03]"]
address = "{name}.example.org"
[hosts]
db1 = "10.0.0.9"
[groups.web]
hosts = ["web*"]
user = "www"
[groups.web.vars]
ntp = "near"
[groups.all-of-them]
groups = ["web"]
hosts = ["db1"]
vars = { depth = 1 }
"""


def read(tmp_path: Path, text: str) -> Inventory:
    path = tmp_path / "inventory.toml"
    path.write_text(text)
    return Inventory.read(path)


def test_settings_vars_and_origins(tmp_path: Path) -> None:
    inventory = read(tmp_path, TEXT)
    web = inventory.hosts["web02"]
    assert (web.address, web.user, web.groups) == ("web02.example.org", "www", ("all-of-them", "web"))
    assert web.vars == {"ntp": "near", "depth": 1}
    assert web.origins["vars.ntp"] == f"{tmp_path}/inventory.toml:13 (group web)"
    assert inventory.hosts["db1"].user == "deploy"
    assert inventory.groups["all-of-them"].hosts == ("web01", "web02", "web03", "db1")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("all", ["web01", "web02", "web03", "db1"]),
        ("web*,!web02", ["web01", "web03"]),
        ("@web", ["web01", "web02", "web03"]),
        ("!@web", ["db1"]),
        ("web[01:02],db1", ["web01", "web02", "db1"]),
        ("db1,web01", ["web01", "db1"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, names: list[str]) -> None:
    assert [host.name for host in read(tmp_path, TEXT).select(pattern)] == names


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('[hosts.a]\nadress = "x"', 2, 'did you mean "address"?'),
        ('[hosts.a]\nport = "x"', 2, "port must be a port number"),
        ("[hosts.a]\nbecome_method = 'pbrun'", 2, 'must be "sudo", "su" or "doas"'),
        ("[hosts\n", 1, "Expected"),
        ("[hosts.a]\nbecome = 'yes'", 2, "become must be true, false, or an account's name, not 'yes'"),
        ('[groups.x]\nhosts = ["nope"]\n[hosts]\nnope1 = "h"', 2, 'did you mean "nope1"?'),
        ('[groups.x]\ngroups = ["y"]\n[groups.y]\ngroups = ["x"]', 2, "x -> y -> x"),
        ("[host.a]", 1, 'did you mean "hosts"?'),
        ('[hosts]\na = { adres = "x" }', 2, "unknown key 'adres'"),
        ("[hosts.-x]", 1, "not a valid host name"),
        ("[hosts.a]\n[groups.a]", 2, "host and of a group"),
        ('[hosts."a[3:1]"]', 1, "is empty"),
        ("[hosts.a]\n[hosts.'a[1:1]']\n[hosts.a1]", 3, "defined twice"),
    ],
)
def test_errors_name_the_line_and_the_nearest_key(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(InventoryError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/inventory.toml:{line}: ")
    assert message in str(caught.value)


def test_unknown_patterns_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match='did you mean "web0'):
        read(tmp_path, TEXT).select("wbe01")
    with pytest.raises(InventoryError, match='did you mean "@web"'):
        read(tmp_path, TEXT).select("web")


@given(st.sets(st.builds("{}{}".format, st.sampled_from(("web", "db-", "x")), st.integers(0, 300)), min_size=1))
def test_folded_names_expand_to_the_same(names: set[str]) -> None:
    folded = fold_names(names)
    assert {name for part in folded.split(", ") for name in expand(part)} == names


def test_extra_variables(tmp_path: Path) -> None:
    (tmp_path / "v.toml").write_text('a = 1\nb = "file"\n')
    values = extra_vars(["b=text with blanks", "c.d=true", 'e=["x"]'], [tmp_path / "v.toml"])
    assert values == {"a": 1, "b": "text with blanks", "c": {"d": True}, "e": ["x"]}
    for text in ("2024-01-01T07:32:00Z", "2024-01-01", "07:32:00"):
        assert extra_vars([f"when={text}"], []) == {"when": text}
    with pytest.raises(UsageError):
        extra_vars(["nothing"], [])


def test_choices_are_enumerations_and_false_overrides(tmp_path: Path) -> None:
    text = """\
[defaults]
become_user = "app"
ssh_config = "config"
host_keys = "accept-new"
[hosts.a]
[hosts.b]
become = false
ssh_config = false
connection = "local"
"""
    inventory = read(tmp_path, text)
    a, b = inventory.hosts["a"], inventory.hosts["b"]
    assert (a.become, a.ssh_config, a.connection) == ("app", f"{tmp_path}/config", ConnectionType.SSH)
    assert (b.become, b.ssh_config, b.connection) == (None, False, ConnectionType.LOCAL)
    assert a.host_keys is HostKeyPolicy.ACCEPT_NEW
    assert a.origins["become"] == f"{tmp_path}/inventory.toml:2 (defaults)"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ca=ca.pem", "ca={base}/ca.pem"),
        ("ca=../a%20b/ca.pem&cert=/etc/me.pem", "ca={base}/../a%20b/ca.pem&cert=/etc/me.pem"),
        ("cert=~/me.pem&key=%7E/me.key", "cert=~/me.pem&key=%7E/me.key"),
        ("region=eu&ca=x", "region=eu&ca={base}/x"),
        ("ca=", "ca="),
        ("wrong", "wrong"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("table", ["backend", "engine"])
def test_files_in_urls_begin_at_the_inventorys_directory(tmp_path: Path, table: str, given: str, meant: str) -> None:
    below = tmp_path / "a b"
    below.mkdir()
    found = read(below, f'[{table}]\nurl = "etcds://h/team?{given}"\n[hosts]\nweb = "10.0.0.1"\n')
    setting = found.backend if table == "backend" else found.engine
    assert setting is not None
    assert setting.url == f"etcds://h/team?{meant.format(base=quote(str(below)))}"
