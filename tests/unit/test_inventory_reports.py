"""What public reports about inventories of Ansible, pyinfra and Salt found, on ours; values are ansible-core 2.19's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sloth.errors import UsageError
from sloth.inventory import ConnectionType, HostKeyPolicy, Inventory
from sloth.inventory.templated import written
from sloth.playbook.template import evaluate

Files = dict[str, str]


def read(tmp_path: Path, files: Files, *sources: str) -> Inventory:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Inventory.read(*(tmp_path / source for source in sources or ("hosts",)), evaluate=evaluate)


@pytest.mark.parametrize(
    ("report", "files", "expected"),
    [
        (
            "ansible#81293: a file of the parent group wins over variables of the child in the inventory",
            {
                "hosts": "---\nall: {children: {a: {children: {b: {hosts: {h: }, vars: {v: true}}}}}}\n",
                "group_vars/a": "v: false\n",
            },
            {"v": False},
        ),
        (
            "ansible#80825, #17361, #24824: group_vars/all wins over [web:vars]",
            {"hosts": "[web]\nh\n[web:vars]\nv=inline\n", "group_vars/all.yml": "v: file\n"},
            {"v": "file"},
        ),
        (
            "ansible#6489: the file of the child group wins over that of its parent",
            {
                "hosts": "[dev]\nh\n[proxy:children]\ndev\n",
                "group_vars/proxy": "v: '{{ base }}/x'\n",
                "group_vars/dev": "v: own\n",
            },
            {"v": "own"},
        ),
        (
            "ansible#32196, #34409: [x:vars] before [x:children] and [x]",
            {"hosts": "[s:children]\nt\n[t:vars]\nv=1\n[t:children]\nd\n[d]\nh\n"},
            {"v": 1},
        ),
        (
            "ansible#2564: [x:children] before [x]",
            {"hosts": "[s]\nx\n[c:children]\ns\n[c]\nh\n[all:vars]\nv=seen\n"},
            {"v": "seen"},
        ),
        (
            "ansible#86229, #36544, #4268: values of [g:vars] have types, too",
            {"hosts": "[g]\nh\n[g:vars]\na=False\nb=FALSE\nc={'k': 1}\n"},
            {"a": False, "b": "FALSE", "c": {"k": 1}},
        ),
        (
            "ansible#77617, #73306, #44237, #25778: numbers lose zeros, other texts do not",
            {"hosts": "h zero=000000 time=05.30 rack=56L yes=yes mac=00:11 ver='\"1.10\"'\n"},
            {"zero": 0, "time": 5.3, "rack": "56L", "yes": "yes", "mac": "00:11", "ver": "1.10"},
        ),
        (
            "ansible#31689: files of a directory in the order of their names",
            {"hosts": "h\n", "group_vars/all/02_vars": "v: '02'\n", "group_vars/all/00_vars": "v: '00'\n"},
            {"v": "02"},
        ),
        (
            "ansible#6538: of groups of the same depth the last name wins",
            {"hosts": "[c]\nh\n[a]\nh\n[b]\nh\n[a:vars]\nv=1\n[b:vars]\nv=2\n[c:vars]\nv=3\n"},
            {"v": 3},
        ),
        (
            "pyinfra#407: group variables of a YAML inventory, defaults and overrides",
            {"hosts": "all: {vars: {n: default, m: 1}}\nprod: {hosts: {h: }, vars: {n: custom, d: {x: {y: 1}}}}\n"},
            {"n": "custom", "m": 1, "d": {"x": {"y": 1}}},
        ),
        (
            "pyinfra#808: files of variables for one host",
            {"hosts": "h\n", "host_vars/h.yml": "v: host\n", "group_vars/all.yml": "v: all\n"},
            {"v": "host"},
        ),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_variables(tmp_path: Path, report: str, files: Files, expected: dict[str, object]) -> None:
    host = read(tmp_path, files).hosts["h"]
    assert {name: written(value) for name, value in host.vars.items()} == expected, report


def test_salt_49665_and_59293_groups_are_no_hosts_and_ranges_have_ends(tmp_path: Path) -> None:
    inventory = read(tmp_path, {"roster": "[cluster]\nrm\nsalt-[01:30]\n"}, "roster")
    assert len(inventory.hosts) == 31
    assert inventory.groups["cluster"].hosts[-1] == "salt-30"
    assert [host.name for host in inventory.select("@cluster,!salt*")] == ["rm"]


def test_ansible_19704_host_vars_are_beside_the_directory_that_is_the_inventory(tmp_path: Path) -> None:
    files = {"inv/hosts": "h\n", "host_vars/h": "v: outside\n", "inv/host_vars/h": "v: inside\n"}
    assert read(tmp_path, files, "inv").hosts["h"].vars["v"] == "inside"


def test_ansible_70698_and_salt_14622_a_listing_that_was_saved(tmp_path: Path) -> None:
    listing = '{"_meta": {"hostvars": {}}, "fw": {"hosts": ["fw01", "fw02"], "vars": {"deploy": "5"}}}'
    inventory = read(tmp_path, {"listing.json": listing}, "listing.json")
    assert inventory.groups["fw"].hosts == ("fw01", "fw02")
    assert inventory.hosts["fw02"].vars["deploy"] == "5"


@pytest.mark.parametrize(
    ("args", "jump"),
    [
        (
            "-o ProxyCommand='ssh -o StrictHostKeyChecking=no -W %h:%p -q user@10.0.0.1'",
            "user@10.0.0.1",
        ),
        ('-o ProxyCommand="ssh -W %h:%p -p 2222 -l me bastion"', "me@bastion:2222"),
        ("-J a@b,c:22 -o ControlPersist=60s", "a@b,c:22"),
        ("-o ProxyJump=b -q -C", "b"),
        ("-o ProxyCommand='nc -x proxy:1080 %h %p'", None),
        ("-o ProxyCommand='ssh -i key -W %h:%p b'", None),
    ],
)
def test_ansible_78549_and_56210_jump_hosts(tmp_path: Path, args: str, jump: str | None) -> None:
    text = json.dumps({"all": {"hosts": {"h": {"ansible_ssh_common_args": args}}}})
    inventory = read(tmp_path, {"hosts.yml": text}, "hosts.yml")
    assert inventory.hosts["h"].proxy_jump == jump
    assert bool(inventory.warnings) == (jump is None)


def test_ansible_74121_connection_variables_are_templates_over_those_of_all_hosts(tmp_path: Path) -> None:
    text = """\
[all:vars]
domain=example.org
ansible_host={{ inventory_hostname_short }}.{{ domain }}
ansible_ssh_common_args=-o ProxyJump={{ ansible_user }}@{{ hostvars['bastion'].public }}
ansible_user=me
[bastions]
bastion public="{{ ip }}" ip=192.0.2.1
[web]
w1 ansible_user=other ansible_port="{{ 2200 + 22 }}"
"""
    host = read(tmp_path, {"hosts": text}).hosts["w1"]
    assert (host.address, host.proxy_jump, host.port) == ("w1.example.org", "other@192.0.2.1", 2222)


def test_connection_variables_and_what_wins_over_them(tmp_path: Path) -> None:
    text = """\
[web]
w ansible_connection=local ansible_become=yes ansible_become_user=app ansible_become_method=su
x ansible_become_user=app ansible_host_key_checking=False ansible_python_interpreter=/usr/bin/env_python
y ansible_ssh_private_key_file=/keys/y ansible_python_interpreter=auto_silent ansible_timeout=30
[web:vars]
ansible_user=deploy
ansible_ssh_port="2222"
"""
    more = '[hosts.y]\nuser = "toml"\ntags = ["edge"]\n[groups.web]\nport = 1\n'
    hosts = read(tmp_path, {"hosts": text, "more.toml": more}, "hosts", "more.toml").hosts
    w, x, y = (hosts[name] for name in "wxy")
    assert (w.connection, w.become, w.become_method) == (ConnectionType.LOCAL, "app", "su")
    assert (x.become, x.host_keys, x.python) == (None, HostKeyPolicy.ACCEPT_NEW, "/usr/bin/env_python")
    assert (y.identity_files, y.python, y.connect_timeout) == (("/keys/y",), None, 30.0)
    assert (y.user, y.port, y.tags, x.user) == ("toml", 1, ("edge",), "deploy")


def test_tags_add_up_and_select(tmp_path: Path) -> None:
    text = """\
[defaults]
tags = ["all"]
[hosts.a]
tags = ["edge"]
[hosts.b]
[groups.g]
hosts = ["b"]
tags = ["edge-2", "all"]
"""
    inventory = read(tmp_path, {"i.toml": text, "ini": "[g]\nc sloth_tags=edge,x\n"}, "i.toml", "ini")
    assert [host.name for host in inventory.select("tag:edge")] == ["a", "c"]
    assert [host.name for host in inventory.select("tag:edge*,!a")] == ["b", "c"]
    assert [host.name for host in inventory.select("!tag:edge-2")] == ["a"]
    assert inventory.hosts["b"].tags == ("all", "edge-2")
    with pytest.raises(Exception, match='did you mean "edge'):
        inventory.select("tag:egde")


def test_files_of_variables_beside_our_own_inventory(tmp_path: Path) -> None:
    files = {
        "inventory.toml": "[hosts.h]\nvars = { a = 1 }\n[groups.g]\nhosts = ['h']\nvars = { b = 1, c = '{{ a }}' }\n",
        "group_vars/g.toml": "b = 2\nd = '{{ text }}'\n",
        "group_vars/all.json": '{"e": 1,\n\t"a": 0}',
        "host_vars/h.yml": "a: 2\nf: '{{ a }}'\nansible_user: u\n",
    }
    inventory = read(tmp_path, files, "inventory.toml")
    host = inventory.hosts["h"]
    assert {name: written(value) for name, value in host.vars.items() if name != "ansible_user"} == {
        "a": 2, "b": 2, "c": "{{ a }}", "d": "{{ text }}", "e": 1, "f": "{{ a }}",
    }  # fmt: skip
    assert isinstance(host.vars["c"], str)
    assert host.user == "u"
    found = inventory.explain("h", "a", "a")
    assert [value for value, _ in found] == [2, 1, 0]
    assert found[0][1] == f"{tmp_path}/host_vars/h.yml:1 (host)"
    assert found[2][1].endswith("all.json:2 (group all)") or "all.json" in found[2][1]


def test_connection_variables_of_the_command_line_win_for_every_host(tmp_path: Path) -> None:
    """How people reach a machine for the first time: -e ansible_user=root."""
    path = tmp_path / "inventory.toml"
    path.write_text(
        '[defaults]\nuser = "deploy"\n[hosts.a]\nport = 2222\nbecome = true\n[hosts.b]\naddress = "10.0.0.2"\n'
        '[hosts.b.vars]\nansible_user = "b"\n'
    )
    inventory = Inventory.read(path)
    given = {"ansible_user": "root", "ansible_port": 22, "ansible_become": "no", "port": 8080, "ansible_password": "x"}
    (warning,) = inventory.override(given)
    assert warning.startswith("-e ansible_password is not used")
    a, b = inventory.select("all")
    assert [(one.user, one.port, one.become) for one in (a, b)] == [("root", 22, None)] * 2
    assert (a.address, b.address) == ("a", "10.0.0.2")
    assert a.origins["user"] == "-e (command line)"
    with pytest.raises(UsageError, match="-e ansible_port must be a port number, not 'ssh'"):
        Inventory.read(path).override({"ansible_port": "ssh"})
