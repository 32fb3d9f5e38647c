"""Inventories of Ansible on the command line: variables that are evaluated when they are used, and `inventory`."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.command import sloth
from tests.support.home import Home

HOSTS = """\
all:
  vars: {base: 8079}
  hosts:
    here:
      ansible_connection: local
      title: "{{ inventory_hostname }}.x"
      port: "{{ base + 1 }}"
      nested: {url: "http://{{ title }}:{{ port }}/", list: [1, "{{ port }}"]}
      family: "{{ facts.os_family }}"
      hidden: !vault |
        $ANSIBLE_VAULT;1.1;AES256
        6162
      one: "{{ two }}"
      two: "{{ one }}"
      typo: "{{ bsae }}"
      braces: !unsafe "{{ braces }}"
    other: {title: "{{ inventory_hostname }}", ansible_connection: local}
  children:
    web: {hosts: {here: }, vars: {base: 8079}}
"""


@pytest.fixture
def ansible(home: Home) -> Home:
    (home.path / "hosts.yml").write_text(HOSTS)
    return home


def run(home: Home, body: str, *options: str) -> subprocess.CompletedProcess[str]:
    (home.path / "site.sloth").write_text(body)
    return sloth(home.path, "run", "-i", "hosts.yml", "-f", "site.sloth", "-l", "here", *options)


def test_a_site_sees_values(ansible: Home) -> None:
    (ansible.path / "t.j2").write_text(
        "{{ title }} {{ vars.port }} {{ nested.url }} {{ family | lower | length > 2 }}\n"
    )
    body = """\
print(vars.title, vars.port + 1, vars.nested.list[2], vars.braces, vars.missing, math.type(vars.port))
task({name = "t", run = function()
  file.template({src = "t.j2", dest = "OUT"})
  print(hostvars.other.title, hostvars.here.title)
end})
"""
    done = run(ansible, body.replace("OUT", str(ansible.path / "out")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "here: here.x	8081	8080	{{ braces }}	nil	integer" in done.stdout
    assert "here: other	here.x" in done.stdout
    assert (ansible.path / "out").read_text() == "here.x 8080 http://here.x:8080/ True\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hidden", "hosts.yml:10: hidden is encrypted with ansible-vault"),
        ("one", "variables refer to one another in a circle: one -> two -> one"),
        ("typo", "hosts.yml:15: the variable typo: 'bsae' is undefined; hint: did you mean \"base\"?"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error_when_it_is_used(ansible: Home, name: str, message: str) -> None:
    assert run(ansible, "print(vars.title)").returncode == 0
    done = run(ansible, f"task({{name = 't', run = function() print(vars.{name}) end}})")
    assert done.returncode == 1
    assert message in done.stdout + done.stderr


def test_a_run_names_its_inventory(ansible: Home) -> None:
    assert json.loads(run(ansible, "", "--output", "json").stdout)["inventory"] == ["hosts.yml"]
    assert "inventory: hosts.yml" in run(ansible, "", "-v").stdout


def test_explain_graph_and_list(ansible: Home) -> None:
    (ansible.path / "group_vars").mkdir()
    (ansible.path / "group_vars" / "all.yml").write_text("---\nbase: 9\n")
    explained = sloth(ansible.path, "inventory", "explain", "here", "base", "-i", "hosts.yml").stdout.splitlines()
    assert [line.split() for line in explained] == [
        ["used", "9", "group_vars/all.yml:2", "(group", "all)"],
        ["overridden", "8079", "hosts.yml:19", "(group", "web)"],
        ["overridden", "8079", "hosts.yml:2", "(group", "all)"],
    ]
    assert "evaluated   10" in sloth(ansible.path, "inventory", "explain", "here", "port", "-i", "hosts.yml").stdout
    assert (
        "hosts.yml:5 (host)"
        in sloth(ansible.path, "inventory", "explain", "here", "connection", "-i", "hosts.yml").stdout
    )
    wrong = sloth(ansible.path, "inventory", "explain", "here", "tilte", "-i", "hosts.yml")
    assert (wrong.returncode, 'did you mean "title"?' in wrong.stderr) == (2, True)
    document = json.loads(
        sloth(ansible.path, "inventory", "explain", "here", "base", "-i", "hosts.yml", "-o", "json").stdout
    )
    assert (document["value"], len(document["values"])) == (9, 3)
    graph = sloth(ansible.path, "inventory", "graph", "-i", "hosts.yml").stdout
    assert graph == "@all\n├── @web\n│   └── here\n└── @ungrouped\n    └── other\n"
    listed = sloth(ansible.path, "inventory", "list", "--vars", "-i", "hosts.yml").stdout
    assert "{{ base + 1 }}" in listed
    assert "(encrypted with ansible-vault)" in listed


def test_import_writes_what_runs(ansible: Home) -> None:
    done = sloth(ansible.path, "inventory", "import", "-i", "hosts.yml", "-o", "imported.toml")
    assert done.returncode == 0
    assert done.stdout == "wrote 2 hosts to imported.toml; 5 comments on what is not carried over\n"
    data = tomllib.loads((ansible.path / "imported.toml").read_text())
    assert data["hosts"]["here"]["vars"]["nested"] == {"url": "http://here.x:8080/", "list": [1, 8080]}
    assert sloth(ansible.path, "inventory", "import", "-i", "hosts.yml", "-o", "imported.toml").returncode == 2
    (ansible.path / "site.sloth").write_text("print(vars.port)")
    assert "here: 8080" in sloth(ansible.path, "run", "-i", "imported.toml", "-f", "site.sloth", "-l", "here").stdout


def test_stdin_and_host_lists(ansible: Home) -> None:
    command = [sys.executable, "-m", "sloth", "inventory", "list", "-o", "json", "-i", "-", "-i", "x1,x2:2222,"]
    done = subprocess.run(command, input="[web]\nw1 a=1\n", capture_output=True, text=True, cwd=ansible.path)
    hosts = json.loads(done.stdout)["hosts"]
    assert list(hosts) == ["w1", "x1", "x2"]
    assert hosts["x2"]["settings"]["port"] == 2222
    twice = sloth(ansible.path, "inventory", "list", "-i", "-", "-i", "-")
    assert (twice.returncode, "can be read once" in twice.stderr) == (2, True)
    (ansible.path / "hosts.ini").write_text("[web]\nw1\n")
    missing = sloth(ansible.path, "inventory", "list", "-i", "hosst.ini")
    assert (missing.returncode, 'did you mean "hosts.ini"?' in missing.stderr) == (2, True)


def test_warnings_appear_once_and_with_their_line(ansible: Home) -> None:
    text = "w1 ansible_password=x ansible_connection=local\nw2 ansible_password=y ansible_connection=winrm\n"
    (ansible.path / "hosts.ini").write_text(text)
    done = sloth(ansible.path, "inventory", "list", "-i", "hosts.ini")
    assert done.stderr.splitlines() == [
        "hosts.ini:1: ansible_password is not used: use password_env, or -k",
        "hosts.ini:2: ansible_connection winrm is not supported: ssh is used",
    ]
    (ansible.path / "group_vars").mkdir()
    (ansible.path / "group_vars" / "all").write_text("ansible_become_flags: -H\nx: 1\nx: 2\n")
    (ansible.path / "hosts.ini").write_text("w1 ansible_connection=local\nw2 ansible_connection=local\n")
    done = sloth(ansible.path, "facts", "hostname", "-i", "hosts.ini")
    assert done.stderr.splitlines() == [
        "group_vars/all:3: the key x is defined twice; the last one is used",
        "group_vars/all:1: ansible_become_flags is not supported, and has no effect",
    ]


def test_values_with_jinja_are_evaluated_too(ansible: Home) -> None:
    (ansible.path / "more.yml").write_text("late: '{{ title }}!'\n")
    assert "here: here.x!" in run(ansible, "print(vars.late)", "--values", "more.yml").stdout


def test_the_reference_is_shown(home: Home) -> None:
    assert "proxy_jump" in sloth(home.path, "doc", "inventory").stdout
    sections = json.loads(sloth(home.path, "doc", "inventory", "-o", "json").stdout)
    assert [section["title"] for section in sections] == [
        "Settings", "Keys of a group", "Keys of the backend", "Keys of the engine", "Variables of Ansible",
    ]  # fmt: skip
    assert Path(home.path).is_dir()


CONNECTIONS = """\
all:
  vars: {domain: prod, deployer: x}
  children:
    bastion: {hosts: {jump: {ansible_host: "9.9.9.9", ansible_connection: local}}}
    web:
      hosts:
        here: {ansible_connection: local}
      vars:
        ansible_host: "{{ inventory_hostname }}.{{ domain }}"
        ansible_user: "{{ deployer }}"
        ansible_ssh_private_key_file: "{{ inventory_dir }}/id"
        ansible_ssh_common_args: "-J {{ hostvars[groups['bastion'][0]].ansible_host }}"
        files: "{{ inventory_file }} {{ inventory_dir }}"
"""


def test_connections_are_made_of_what_ansible_makes_them_of(home: Home) -> None:
    (home.path / "inv").mkdir()
    (home.path / "inv" / "hosts.yml").write_text(CONNECTIONS)
    listed = json.loads(home("inventory", "list", "here", "-i", "inv/hosts.yml", "-o", "json"))
    settings = listed["hosts"]["here"]["settings"]
    assert settings["identity_files"] == [str(home.path / "inv" / "id")]
    assert settings["proxy_jump"] == "9.9.9.9"
    assert (settings["address"], settings["user"]) == ("here.prod", "x")

    (home.path / "site.sloth").write_text("print(host.address, host.user, vars.ansible_host, vars.files)")
    done = sloth(
        home.path, "run", "-i", "inv", "-f", "site.sloth", "-l", "here", "-e", "domain=test", "-e", "deployer=y"
    )
    folder = home.path / "inv"
    assert f"here.test\ty\there.test\t{folder}/hosts.yml {folder}" in done.stdout, done.stdout + done.stderr


def test_connection_variables_among_values_may_be_templates(home: Home) -> None:
    home.site("print(host.address, host.port)")
    (home.path / "v.yml").write_text('ansible_host: "{{ name }}.x"\nname: n\nansible_port: "{{ p }}"\np: 2200\n')
    assert "n.x\t2200" in home("run", "-f", "site.sloth", "-l", "web1", "--values", "v.yml")
    (home.path / "v.yml").write_text('ansible_port: "{{ q }}"\n')
    shown = home("run", "-f", "site.sloth", "-l", "web1", "--values", "v.yml", status=2)
    assert "ansible_port of web1: 'q' is undefined" in shown
    shown = home("run", "-f", "site.sloth", "-l", "web1", "-e", "sloth_tags=a!b", status=2)
    assert "error: -e sloth_tags must be a list of words" in shown
