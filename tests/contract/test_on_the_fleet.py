"""What every resource promises, seen on a real host, by registry: a module without a case fails here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.events import Event
from sloth.payload.kernel.registry import registry
from sloth.payload.kernel.resource import Resource
from tests.contract.cases import CASES, Case
from tests.support.fleet_host import Machine
from tests.support.machines import Fleet
from tests.support.packages import deb
from tests.support.paths import ROOT
from tests.support.running import results

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

# What file.fetch changes is on the controller: tests/integration has it.
RESOURCES = [cls for cls in registry() if issubclass(cls, Resource) and cls.name != "file.fetch"]
HOST = "host1"
SCRIPT = ROOT / "tests" / "support" / "on_host.py"


@pytest.fixture(scope="module")
def package_repository(fleet: Fleet) -> None:
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
def machine(fleet: Fleet, package_repository: None, tmp_path: Path) -> Machine:
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

    machine.state("clear", write=True)
    tree = machine.tree()
    predicted = call(check=True)
    planned = machine.call(cls.name, case.args, True)[0].diff
    assert machine.tree() == tree, "a check altered the host"
    assert predicted[0] == "changed"
    assert call() == predicted
    assert machine.drifted() == []
    _rollback(machine, cls, planned)
    call()
    assert call() == ("unchanged", "")

    machine.shell(case.spoil)
    tree = machine.tree()
    assert [row["status"] for row in machine.drifted()] == ["drift"]
    assert machine.tree() == tree, "a survey altered the host"
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


def _rollback(machine: Machine, cls: type[Resource], planned: Any) -> None:
    """Undo the last run: the host is as it was, or it is refused with the reason, and nothing is touched."""
    case = CASES[cls.name]
    run = machine.state("runs", limit=1)[0]["run"]
    tree = machine.tree()
    ahead = machine.state("rollback", run=run, check=True)
    assert machine.tree() == tree, "a plan altered the host"
    done = machine.state("rollback", write=True, run=run)
    if cls.name in REFUSED:
        assert [(row["status"], REFUSED[cls.name] in row["msg"]) for row in done] == [("refused", True)], done
        assert machine.tree() == tree
        return
    count = len(ahead)  # one for each thing that the call describes
    assert count
    assert [row["status"] for row in (*ahead, *done)] == ["planned"] * count + ["done"] * count, (ahead, done)
    again = machine.call(cls.name, case.args, True)[0].diff or {}
    if cls.partial:  # where there was no file, an empty one may remain
        assert again["content"]["unified"] == planned["content"]["unified"]
    else:
        assert again == planned
    assert machine.drifted() == [], "what was rolled back counts as drift"


# What cannot be taken back, and a word of why.
REFUSED = {
    "archive.unpack": "not kept",
    "file.absent": "not kept",
    "git.clone": "work in it",
    "mount.absent": "mounted by hand",
    "user.delete": "not brought back",
    "user.modify": "its former password is a secret",
}
# What a site made and can remove when it no longer names it; the other ones are left, with the reason.
PRUNED = {
    "cron.job", "file.blockinfile", "file.copy", "file.directory", "file.link", "file.template", "group.create",
    "http.download", "mount.present", "pkg.install", "ssh.authorized_key", "ssh.config", "ssh.known_hosts",
    "sysctl.set", "systemd.unit", "user.create",
}  # fmt: skip


@pytest.mark.parametrize("cls", RESOURCES, ids=lambda cls: cls.name)
def test_what_a_site_no_longer_names_is_removed_or_left_with_the_reason(machine: Machine, cls: type[Resource]) -> None:
    case = CASES[cls.name]
    machine.state("clear", write=True)
    machine.shell(case.spoil)
    machine.nothing()  # this site owns nothing here
    if cls.name in PRUNED:
        # What the first test made was there before this one: take it away, so that the site makes it.
        machine.call(cls.name, case.args)
        for row in machine.state("list"):
            machine.shell(UNMADE[cls.name])
            machine.state("delete", write=True, key=row["key"])
    first, _ = machine.call(cls.name, case.args)
    made = first.status == "changed"
    pruned = results(machine.nothing())
    if cls.name not in PRUNED:
        assert [(one.status, bool(one.msg)) for one in pruned] in ([], [("skipped", True)]), pruned
        return
    assert made, "the case was not unmade"
    assert pruned
    assert {(one.status, one.reason) for one in pruned} == {("changed", "pruned")}, pruned
    assert machine.state("list") == []
    after, _ = machine.call(cls.name, case.args, check=True)
    assert (after.status, after.reason) == (first.status, first.reason)


UNMADE = {
    "cron.job": "crontab -r -u deploy",
    "file.blockinfile": "rm /etc/block.conf",
    "file.copy": "rm /etc/copy.conf",
    "file.directory": "rmdir /srv/dir/sub",
    "file.link": "rm /srv/link",
    "file.template": "rm /etc/template.conf",
    "group.create": "groupdel contract",
    "http.download": "rm /srv/downloaded",
    "mount.present": "umount /mnt/case; sed -i '/mnt.case/d' /etc/fstab",
    "pkg.install": "dpkg --purge sloth-one sloth-two",
    "ssh.authorized_key": "sed -i /contract/d ~deploy/.ssh/authorized_keys",
    "ssh.config": "rm ~deploy/.ssh/config",
    "ssh.known_hosts": "rm /etc/ssh/ssh_known_hosts",
    "sysctl.set": "rm /etc/sysctl.d/99-sloth.conf",
    "systemd.unit": "rm /etc/systemd/system/case4.service; systemctl daemon-reload",
    "user.create": "userdel -r case1",
}


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
