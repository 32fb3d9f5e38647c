"""What every resource promises, seen on a real host, by registry: a module without a case fails here."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.events import Event, Result
from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.payload.resource import Resource, registry
from sloth.playbook.adhoc import literal
from tests.contract.cases import CASES, Case
from tests.fleet.machines import Fleet
from tests.integration.running import run_site
from tests.integration.test_run import results
from tests.packages import deb

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

# What file.fetch changes is on the controller: tests/integration has it.
RESOURCES = [cls for cls in registry() if issubclass(cls, Resource) and cls.name != "file.fetch"]
HOST = "host1"
SCRIPT = Path(__file__).parent / "on_host.py"


class Machine:
    """One host of the fleet, its shell, and a run of one call on it."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        self.controller = directory / "controller"
        (directory / "inventory.toml").write_text(fleet.inventory(user="root", become="false"))
        (directory / "case.j2").write_text("{{ word }}\n")
        self.inventory = Inventory.read(directory / "inventory.toml")

    def shell(self, script: str, stdin: bytes = b"") -> str:
        argv = ["ssh", "-F", "none", "-i", str(self.fleet.key), "-o", f"UserKnownHostsFile={self.fleet.known_hosts}"]
        argv += ["-o", "BatchMode=yes", f"root@{self.fleet.addresses[HOST]}", script]
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=120)
        assert done.returncode == 0, f"{script}\n{done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()

    def call(self, name: str, args: dict[str, Any], check: bool = False) -> tuple[Result, list[Event]]:
        site = self.directory / "site.sloth"
        site.write_text(f"task({{ name = 'case', run = function() {name}({literal(args)}) end }})")
        events = asyncio.run(run_site(site, self.inventory, self.controller, Options(check=check), HOST))
        found = results(events)
        assert found, [str(event) for event in events]
        assert found[0].status != "failed", found[0].error + "\n" + found[0].detail
        return found[0], events

    def tree(self) -> Any:
        return self.fleet.tree(HOST)


@pytest.fixture(scope="module")
def repository(fleet: Fleet) -> None:
    """A small repository of packages on the host, its only one."""
    root = fleet.roots[HOST]
    place = root / "srv/repository"
    place.mkdir()
    for name in ("sloth-one", "sloth-two", "sloth-three"):
        deb.build(place, name, "1.0")
    deb.index(place)
    (root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/repository ./\n")
    subprocess.run(["chroot", str(root), "apt-get", "update", "-qq"], check=True)


@pytest.fixture
def machine(fleet: Fleet, repository: None, tmp_path: Path) -> Machine:
    return Machine(fleet, tmp_path)


@pytest.mark.parametrize("cls", RESOURCES, ids=lambda cls: cls.name)
def test_a_resource_keeps_its_promises(machine: Machine, cls: type[Resource]) -> None:
    assert cls.name in CASES, f"write a case for {cls.name} in tests/contract/cases.py"
    case = CASES[cls.name]
    if case.before:
        machine.shell(case.before)
    told: list[Event] = []

    def call(check: bool = False) -> tuple[str, str]:
        result, events = machine.call(cls.name, case.args, check)
        told.extend(events)
        return result.status, result.reason

    tree = machine.tree()
    predicted = call(check=True)
    assert machine.tree() == tree, "a check altered the host"
    assert predicted[0] == "changed"
    assert call() == predicted
    assert call() == ("unchanged", "")

    machine.shell(case.spoil)
    said = _on_host(machine, cls.name, case)
    assert said["pure"] == ""
    assert said["changed"], "spoiling it went unseen"
    assert said["left"] == []

    machine.shell(case.spoil)
    tree = machine.tree()
    assert call(check=True) == ("changed", "drift")
    assert machine.tree() == tree
    assert call() == ("changed", "drift")
    assert call() == ("unchanged", "")

    for value in case.secrets.values():
        assert value not in repr(told)
        assert value not in json.dumps(said["argv"])
        assert machine.shell(f"grep -rlF -- '{value}' /root/.sloth-runner || true") == ""
        assert not [
            path for path in machine.controller.rglob("*") if path.is_file() and value.encode() in path.read_bytes()
        ]


def test_every_secret_argument_has_a_case() -> None:
    for cls in RESOURCES:
        declared: Any = cls.fields
        secret = {field.name for field in declared if field.secret}
        assert secret <= set(CASES[cls.name].secrets), f"{cls.name}: no case gives {secret}"


def _on_host(machine: Machine, name: str, case: Case) -> Any:
    """The answers of on_host.py, which applies the call itself."""
    payload = machine.shell("ls -td /root/.sloth-runner/payload/*/ | head -1").strip()
    text = case.args.get("content", "hello\n")
    assets = [{"name": "", "mode": "0644", "dir": False, "sha256": "", "size": len(text), "text": text}]
    given = {key: value for key, value in case.args.items() if key not in ("content", "vars")}
    shipped = name in ("file.template", "file.copy", "systemd.unit")
    if shipped:
        given.setdefault("src", "shipped")
    machine.shell("cat > /root/on_host.py", SCRIPT.read_bytes())
    words = [payload, name, json.dumps(given), json.dumps(assets if shipped else [])]
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    return json.loads(machine.shell(f"cd / && python3 -B /root/on_host.py {quoted}"))
