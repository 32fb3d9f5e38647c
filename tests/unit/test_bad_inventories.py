"""Inventories that are wrong: each has an error with its file, line and a way out, before any host is touched."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sloth.errors import InventoryError
from sloth.inventory import Inventory, extra_vars
from sloth.inventory.templated import Encrypted, Templated
from sloth.playbook.filters import FILTERS
from sloth.playbook.template import evaluate

BOMB = "a: &a [" + "x," * 9 + "x]\n" + "".join(
    f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefghi", "bcdefghij", strict=True)
)  # fmt: skip
MERGES = "a: &a {k: v}\n" + "".join(
    f"{c}: &{c} {{<<: [{', '.join([f'*{p}'] * 9)}], {c}: 1}}\n" for p, c in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text", "line", "message"),
    [
        ("hosts", '[web]\nweb1\n[hosts.web2]\naddress = "x"\n', ":2", "line 3 is TOML of ours"),
        ("a.toml", "[web:vars]\na=1\n", ":1", "Ansible's INI"),
        ("a.toml", '[hosts.a]\nansible_host = "10.0.0.1"\n', ":2", "here it is called address"),
        ("a.toml", "web:\n  hosts:\n", ":1", "looks like YAML"),
        ("a.toml", "[web]\n", ":1", "a group is [groups.web]"),
        ("a.yml", "hosts:\n  web1:\n    address: 10.0.0.1\n", ":1", "neither an inventory of ours nor one of Ansible"),
        ("a.yml", "web:\n  hosts:\n\tw1:\n", ":3", "a tab cannot indent YAML"),
        ("a.yml", "web:\n  hosts:\n    - w1\n", ":2", "without '- '"),
        ("a.yml", "web: {hosts: {w: {ansible_port: x}}}\n", ":1", "ansible_port must be a port number, not 'x'"),
        ("a.yml", "a: {children: {b: {children: {a: }}}}\n", ":1", "cycle: a -> b -> a"),
        (
            "a.yml",
            "web: {hosts: {w: }, children: {all: }}\n",
            ":1",
            "all, which has every host, cannot be a child of web",
        ),
        ("a.ini", "[web:children]\nall\n", ":2", "cannot be a child of web"),
        ("a.yml", "- x\n", "", "an inventory is a table of groups"),
        ("a.yml", "web: !thing {}\n", ":1", "thing"),
        ("a.yml", BOMB, ":7", "aliases expand to more than"),
        ("a.yml", MERGES, ":7", "aliases expand to more than"),
        ("a.yml", "a: &a [*a]\n", ":1", "an alias contains itself"),
        ("a.yml", "a: " + "[" * 100_000, "", "nested more than 100 levels"),
        ("a.yml", "\n".join(" " * n + "a:" for n in range(3000)), ":", "nest"),
        ("a.yml", "$ANSIBLE_VAULT;1.1;AES256\n6162\n", ":1", "encrypted with ansible-vault"),
        ("a.ini", "[web:var]\na=1\n", ":1", 'did you mean "vars"?'),
        ("a.ini", "[web:children]\ndbb\n[db]\nx\n", ":2", 'did you mean "db"?'),
        ("a.ini", "[webb:vars]\na=1\n[web]\nx\n", ":1", 'did you mean "web"?'),
        ("a.ini", "[a:children]\nb\n[b:children]\na\n", ":2", "cycle: a -> b -> a"),
        ("a.ini", "[a:children]\na\n", ":2", "a child of itself"),
        ("a.ini", "[web server]\nx\n", ":1", "without blanks"),
        ("a.ini", "x y\n", ":1", "expected name=value after the host"),
        ("a.ini", 'x a="b\n', ":1", "No closing quotation"),
        ("a.ini", "[g:vars]\nnothing\n[g]\n", ":2", "expected name=value"),
        ("a.ini", "w[1:999999999]\n", ":1", "more than 100000 names"),
        ("a.ini", "w[1:1000][1:1000]\n", ":1", "more than 100000 names"),
        ("a.ini", "w[5:1]\n", ":1", "is empty"),
        ("a.ini", "w[01:5]\n", ":1", "same number of digits"),
        ("a.ini", "w[1:2\n", ":1", "bracket"),
        ("a.ini", "w:99999\n", ":1", "not a port number"),
        ("a.ini", "w sloth_tags='[a]'\n", ":1", "sloth_tags must be"),
        ("a.ini", "../x\n", ":1", "not a valid host name"),
        ("a.ini", "w ansible_become=maybe\n", ":1", "must be true or false"),
    ],
)
def test_errors_name_file_line_and_a_way_out(tmp_path: Path, name: str, text: str, line: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    begun = time.monotonic()
    with pytest.raises(InventoryError) as caught:
        list(Inventory.read(path).hosts.values())
    assert str(caught.value).startswith(f"{path}{line}")
    assert message in str(caught.value)
    assert time.monotonic() - begun < 60


def test_what_is_not_utf_8_and_what_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"web1\ncaf\xe9 x=1\n")
    with pytest.raises(InventoryError, match=r"hosts:2: the inventory is not UTF-8 .*iconv"):
        Inventory.read(path)
    for name in ("empty", "empty.ini", "empty.yml", "empty.toml"):
        (tmp_path / name).write_text("")
        inventory = Inventory.read(tmp_path / name)
        assert len(inventory.hosts) == 0
        assert any("no hosts" in warning for warning in inventory.warnings)


def test_a_directory_with_a_readme_and_other_papers(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[web]\nw1\n")
    for name in ("README", "README.md", "LICENSE", "notes.txt", "ansible.cfg", "hosts.bak", ".hidden", "hosts~"):
        (tmp_path / name).write_text("these are words [ = and more\n")
    assert list(Inventory.read(tmp_path).hosts) == ["w1"]
    (tmp_path / "notes").write_text("these are words\n")
    with pytest.raises(InventoryError, match=r"notes:1: .*every file of the directory"):
        Inventory.read(tmp_path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (":", "printed nothing"),
        ("echo 'Warning: old'; echo '{}'", "the output begins with 'Warning: old'; hint: it must print JSON alone"),
        ("echo 'no credentials' >&2; exit 3", "failed with status 3: no credentials"),
        ("echo waiting >&2; sleep 60", "did not end within 0.5 seconds: waiting"),
        ("while :; do echo xxxxxxxxxxxxxxxx; done", "did not end within 0.5 seconds"),
        ("echo '[1]'", "must print a JSON object"),
        ("printf '\\351'", "not UTF-8"),
        ("""echo '{"w": {"hosts": {"a": 1}}}'""", "hosts of the group w must be a list"),
        ("""echo '{"w": {"hosts": ["a b"]}}'""", "'a b' is not a valid host name"),
        ("""echo '{"_meta": 1}'""", "_meta must be a table"),
    ],
)
def test_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str) -> None:
    monkeypatch.setenv("SLOTH_INVENTORY_TIMEOUT", "0.5" if "0.5" in message else "60")
    path = tmp_path / "inventory"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    with pytest.raises(InventoryError) as caught:
        Inventory.read(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_background_process_of_a_program_holds_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "inventory"
    path.write_text("""#!/bin/sh\nsleep 300 &\necho '{"w": ["h1"]}'\n""")
    path.chmod(0o755)
    begun = time.monotonic()
    assert list(Inventory.read(path).hosts) == ["h1"]
    assert time.monotonic() - begun < 60


def test_a_file_that_is_only_executable_is_read(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("[web]\nw1\n")
    path.chmod(0o755)
    assert list(Inventory.read(path).hosts) == ["w1"]


def test_plugins_need_ansible_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "aws_ec2.yml"
    path.write_text("plugin: amazon.aws.aws_ec2\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InventoryError, match=r"amazon\.aws\.aws_ec2 needs ansible-inventory, which is not installed"):
        Inventory.read(path)
    program = tmp_path / "ansible-inventory"
    program.write_text("""#!/bin/sh\necho '{"all": {"children": ["w"]}, "w": {"hosts": ["e1"], "vars": {"x": 1}}, \
"_meta": {"hostvars": {"e1": {"ansible_host": "10.0.0.1", "s": {"__ansible_vault": "y"}}}}}'\n""")
    program.chmod(0o755)
    host = Inventory.read(path).hosts["e1"]
    assert (host.address, host.vars["x"]) == ("10.0.0.1", 1)
    assert isinstance(host.vars["s"], Encrypted)


def test_encrypted_values_are_errors_when_they_are_used(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "web.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    path = tmp_path / "hosts.yml"
    path.write_text("web:\n  hosts:\n    w:\n      a: !vault |\n        $ANSIBLE_VAULT;1.1;AES256\n      b: 1\n")
    host = Inventory.read(path).hosts["w"]
    assert host.vars["b"] == 1
    assert isinstance(host.vars["a"], Encrypted)
    assert "secret set" in str(host.vars["a"].error("a"))
    assert host.sealed == (str(tmp_path / "group_vars" / "web.yml"),)
    path.write_text("web: {hosts: {w: {ansible_user: !vault x}}}\n")
    with pytest.raises(InventoryError, match=r"hosts\.yml:1: ansible_user of w: .*encrypted with ansible-vault"):
        list(Inventory.read(path, evaluate=evaluate).hosts.values())


def test_values_are_read_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "values"
    for text in ('{"a": {"b": 1}}', "[a]\nb = 1\n", "a:\n  b: 1\n", "---\na: {b: 1}\n", "{a: {b: 1}}\n"):
        path.write_text(text)
        assert extra_vars([], [path]) == {"a": {"b": 1}}


def test_texts_of_json_values_may_be_templates_as_those_of_yaml(tmp_path: Path) -> None:
    path = tmp_path / "values"
    path.write_text('{"a": "{{ b }}", "b": "x", "c": {"__ansible_unsafe": "{{ b }}"}}')
    found = extra_vars([], [path])
    assert isinstance(found["a"], Templated)
    assert (found["b"], found["c"]) == ("x", "{{ b }}")


def test_the_filter_from_yaml_refuses_bombs() -> None:
    assert FILTERS["from_yaml"]("a: &x [1]\nb: *x\n") == {"a": [1], "b": [1]}
    for bomb in (BOMB, MERGES):
        with pytest.raises(ValueError, match="aliases expand"):
            FILTERS["from_yaml"](bomb)
