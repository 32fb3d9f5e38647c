"""What is managed is a thing on the host: pairs of sites on a real host, over all modules.

After `run v2 --prune` a check of v2 finds nothing to do, nothing has drifted, and the other site still has its own.
"""

# ruff: noqa: E501  calls and keys read better on one line
from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sloth.engine.events import Event
from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.payload.kernel.registry import registry
from sloth.payload.kernel.resource import Resource
from tests.support.fleet_host import Machine
from tests.support.machines import Fleet
from tests.support.packages import deb
from tests.support.running import finished_hosts, results, run_site

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(1200)]

HOST = "host5"
KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr alice@example",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEy8Bl4Ns5Jm3oVOEHs3hCLGkCGTvnR5NzZl6Vq2qL9u bob@example",
)
UNIT = "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n"


@dataclass(frozen=True)
class Thing:
    """Something on the host, the ways in which a site may ask for it, and the things that must be asked for before."""

    ways: tuple[str, ...]
    needs: tuple[str, ...] = ()


THINGS = {
    "directory": Thing(('file.directory({path = "/srv/own"})', 'file.directory({path = "/srv/own", mode = "0755"})')),
    "file": Thing(
        (
            'file.copy({content = "x\\n", dest = "/srv/own/f"})',
            'file.template({src = "t.j2", dest = "/srv/own/f"})',
            'file.lineinfile({path = "/srv/own/f", line = "x", create = true})',
            'file.blockinfile({path = "/srv/own/f", block = "x", create = true})',
            'file.link({src = "/etc/hostname", path = "/srv/own/f", force = true})',
            'file.copy({content = "y\\n", dest = "/srv/own/f", mode = "0600", owner = "deploy"})',
        ),
        ("directory",),
    ),
    "tree": Thing(
        ('file.copy({src = "tree", dest = "/srv/own/"})', 'file.directory({path = "/srv/own/tree"}) file.copy({content = "1", dest = "/srv/own/tree/one"})'),
        ("directory",),
    ),
    "archive": Thing(
        (
            'file.directory({path = "/srv/own/a"}) archive.unpack({src = "/srv/case.tar.gz", dest = "/srv/own/a", remote_src = true})',
            'file.directory({path = "/srv/own/a"}) file.copy({content = "a\\n", dest = "/srv/own/a/inside"})',
        ),
        ("directory",),
    ),
    "clone": Thing(
        (
            'git.clone({repo = "file:///srv/case.git", dest = "/srv/clone"})',
            'git.clone({repo = "/srv/case.git", dest = "/srv/clone", version = "main"})',
        )
    ),
    "packages": Thing(
        (
            'pkg.install("sloth-one")',
            'pkg.install({name = {"sloth-one", "sloth-two"}})',
            'pkg.install("sloth-needs-two")',
            'pkg.install({name = {"sloth-two", "sloth-needs-two"}, state = "latest"})',
            'pkg.remove("sloth-one")',
            'pkg.install("sloth-two") pkg.remove({name = "sloth-needs-two", autoremove = true})',
        )
    ),
    "group": Thing(('group.create("crew")', 'group.create({name = "crew", gid = 7801})')),
    "user": Thing(
        (
            'user.create("carol")',
            'user.create({name = "carol", groups = {"crew"}, comment = "Carol"})',
            'user.create("carol") user.modify({name = "carol", shell = "/bin/sh"})',
        ),
        ("group",),
    ),
    "key": Thing(
        (
            f'ssh.authorized_key({{user = "carol", key = "{KEYS[0]}"}})',
            f'ssh.authorized_key({{user = "carol", key = {{"{KEYS[1]}", "{KEYS[0]}"}}}})',
            f'ssh.authorized_key({{user = "carol", key = "{KEYS[1]}", exclusive = true}})',
            'file.directory({path = "/home/carol/.ssh", owner = "carol", mode = "0700"}) '
            f'file.copy({{content = "{KEYS[0]}\\n", dest = "/home/carol/.ssh/authorized_keys", owner = "carol", mode = "0600"}})',
        ),
        ("group", "user"),
    ),
    "client": Thing(
        (
            'ssh.config({user = "carol", host = "production", options = {Port = 22}})',
            'ssh.config({user = "carol", host = "production", options = {Port = 22, User = "x"}})',
            'ssh.known_hosts({name = "production", user = "carol", key = "' + KEYS[0] + '"})',
        ),
        ("group", "user"),
    ),
    "unit": Thing(
        (
            f'systemd.unit({{name = "own", content = "{UNIT}"}})',
            f'file.copy({{content = "{UNIT}", dest = "/etc/systemd/system/own.service"}}) systemd.daemon_reload()',
            f'systemd.unit({{name = "own", content = "{UNIT}"}}) systemd.service({{name = "own", enabled = true, state = "started"}})',
            f'systemd.unit({{name = "own.service", content = "{UNIT}"}}) systemd.enable("own") systemd.start("own")',
            f'systemd.unit({{name = "own", content = "{UNIT}"}}) systemd.enable({{name = "own", now = true}})',
        )
    ),
    "job": Thing(
        (
            'cron.job({name = "nightly", minute = 17, job = "/bin/true", user = "deploy"})',
            'cron.job({name = "nightly", special_time = "daily", job = "/bin/true", user = "deploy"})',
            'cron.job({name = "nightly", minute = 17, job = "/bin/true", user = "deploy", cron_file = "own"})',
            'file.copy({content = "17 * * * * deploy /bin/true\\n", dest = "/etc/cron.d/own"})',
        )
    ),
    "setting": Thing(
        (
            'sysctl.set({name = "kernel.panic", value = 10, sysctl_set = false})',
            'sysctl.set({name = "kernel.panic", value = 20, sysctl_set = false})',
            'file.copy({content = "kernel.panic=10\\n", dest = "/etc/sysctl.d/99-sloth.conf"})',
        )
    ),
    "edited": Thing(
        (
            'file.absent("/srv/own/g")',
            'file.copy({content = "b\\n", dest = "/srv/own/g"}) file.replace({path = "/srv/own/g", regexp = "a", replace = "b"})',
        ),
        ("directory",),
    ),
    "stopped": Thing(
        (
            f'systemd.unit({{name = "idle", content = "{UNIT}"}}) systemd.disable("idle") systemd.stop("idle")',
            f'systemd.unit({{name = "idle", content = "{UNIT}"}}) systemd.service({{name = "idle", enabled = true, state = "stopped"}})',
        )
    ),
    "masked": Thing(('systemd.mask("ghost.service")', 'systemd.unmask("ghost.service")')),
    "no group": Thing(('group.delete("nocrew")', 'group.create("nocrew")')),
    "no user": Thing(('user.delete("noone")', 'user.create("noone")')),
    "name": Thing(('hostname.set("host5")', 'hostname.set({name = "host5"})')),
    "mount": Thing(
        (
            'mount.present({path = "/mnt/own", src = "tmpfs", fstype = "tmpfs", opts = "size=64k"})',
            'mount.present({path = "/mnt/own/", src = "tmpfs", fstype = "tmpfs", opts = "size=128k", state = "mounted"})',
            'mount.present({path = "/mnt/own", src = "tmpfs", fstype = "tmpfs", state = "configured"})',
            'mount.absent("/mnt/own")',
        )
    ),
    "download": Thing(
        (
            'http.download({url = "http://127.0.0.1:8138/hostname", dest = "/srv/own/got"})',
            'file.copy({content = "host5\\n", dest = "/srv/own/got"})',
        ),
        ("directory",),
    ),
    "zone": Thing(('timezone.set("Europe/Berlin")', 'timezone.set("Etc/UTC")')),
}  # fmt: skip
CLEAN = """umount -q /mnt/own; sed -i '/mnt.own/d' /etc/fstab; rm -rf /srv/own /srv/clone /mnt/own /etc/cron.d/own
systemctl disable -q --now own 2>/dev/null; rm -f /etc/systemd/system/own.service /etc/sysctl.d/99-sloth.conf
systemctl daemon-reload; crontab -r -u deploy 2>/dev/null; userdel -rf carol 2>/dev/null; groupdel crew 2>/dev/null
systemctl disable -q --now idle 2>/dev/null; rm -f /etc/systemd/system/idle.service; systemctl -q unmask ghost 2>/dev/null
userdel -rf noone 2>/dev/null; groupdel nocrew 2>/dev/null; systemctl daemon-reload
dpkg --purge sloth-one sloth-needs-two sloth-two >/dev/null 2>&1; true"""
NAMES = list(THINGS)
Pick = dict[str, int]


def picks(most: int) -> st.SearchStrategy[Pick]:
    """Return a strategy of things, each with the number of a way to ask for it."""
    return st.dictionaries(st.sampled_from(NAMES), st.integers(0, 5), max_size=most)


def calls(pick: Pick) -> str:
    """Return the calls of a site that asks for these things, each after what it needs."""
    wanted = {need for name in pick for need in THINGS[name].needs} | set(pick)
    lines = []
    for name in sorted(wanted, key=NAMES.index):
        ways = THINGS[name].ways
        lines.append(ways[pick.get(name, 0) % len(ways)])
    return "\n".join(lines)


class Sites:
    """The sites of one host, and what their runs must leave."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        (machine.directory / "t.j2").write_text("x\n")
        (machine.directory / "tree").mkdir(exist_ok=True)
        for name in ("one", "two"):
            (machine.directory / "tree" / name).write_text("1")

    def start_anew(self) -> None:
        """Forget everything, and remove what earlier sites have left."""
        self.machine.state("clear", write=True)
        self.machine.shell(CLEAN)

    def run(self, name: str, pick: Pick, check: bool = False, prune: bool = False) -> list[Event]:
        path = self.machine.directory / f"{name}.sloth"
        path.write_text(f"task({{name = 't', run = function()\n{calls(pick)}\nend}})\n")
        events = asyncio.run(
            run_site(path, self.machine.inventory, self.machine.controller, Options(check=check, prune=prune), HOST)
        )
        for event in finished_hosts(events).values():
            assert event.status in ("changed", "unchanged", "skipped"), (event.error, path.read_text())
        return events

    def pending(self, name: str, pick: Pick) -> list[tuple[str, object]]:
        """Return what a check of the site would change."""
        checked = results(self.run(name, pick, check=True))
        # An action is performed in every run.
        return [
            (one.key, one.diff) for one in checked if one.status not in ("unchanged", "skipped") and one.reason != "run"
        ]


@pytest.fixture(scope="module")
def sites(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Sites:
    root = fleet.roots[HOST]
    place = root / "srv/repository"
    place.mkdir(exist_ok=True)
    for name in ("sloth-one", "sloth-two", "sloth-three"):
        deb.build(place, name, "1.0")
    deb.build(place, "sloth-needs-two", "1.0", Depends="sloth-two")
    deb.index(place)
    (root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/repository ./\n")
    subprocess.run(["chroot", str(root), "apt-get", "update", "-qq"], check=True)
    directory = tmp_path_factory.mktemp("ownership")
    made = Machine(fleet, directory, HOST)
    made.inventory = Inventory.read(directory / "inventory.toml")
    fleet.shell(
        HOST,
        "git init -q -b main /srv/case.git; cd /srv/case.git; git config user.email a@b; git config user.name n;"
        " git commit -q --allow-empty -m one; mkdir -p /tmp/w; echo a > /tmp/w/inside;"
        " tar -C /tmp/w -czf /srv/case.tar.gz inside;"
        " systemd-run --unit=ownd python3 -m http.server --directory /etc --bind 127.0.0.1 8138; sleep 1",
    )  # fmt: skip
    return Sites(made)


EMPTY: Pick = {}


def settle(sites: Sites, name: str, pick: Pick) -> None:
    """Run a site with --prune, and expect of it what holds always."""
    sites.run(name, pick, prune=True)
    assert sites.pending(name, pick) == [], "after a run with --prune, a check finds nothing to do"
    assert [(row["key"], row["status"]) for row in sites.machine.drifted()] == [], "nobody has changed anything by hand"


def test_every_resource_is_among_the_things() -> None:
    text = " ".join(way for thing in THINGS.values() for way in thing.ways)
    # What file.fetch makes is on the controller.
    names = {cls.name for cls in registry() if issubclass(cls, Resource)} - {"file.fetch"}
    assert {name for name in names if f"{name}(" not in text} == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_thing_may_be_asked_for_in_any_other_way(sites: Sites, name: str) -> None:
    """Each way after each other one, and none after each, of one thing: nothing of it goes while it is asked for."""
    sites.start_anew()
    ways = len(THINGS[name].ways)
    for way in tour(ways):
        settle(sites, "site", {name: way})
    for way in range(ways):
        settle(sites, "site", EMPTY)
        settle(sites, "site", {name: way})
    settle(sites, "site", EMPTY)


def tour(ways: int) -> list[int]:
    """Return numbers below `ways` in which each comes once directly after each other one."""
    left = {way: [other for other in range(ways) if other != way] for way in range(ways)}
    stack, path = [0], []
    while stack:  # Hierholzer's algorithm
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            path.append(stack.pop())
    return path


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(picks(6), picks(6), picks(4))
def test_whatever_two_sites_become(sites: Sites, first: Pick, second: Pick, other: Pick) -> None:
    sites.start_anew()
    # What both sites ask for, they ask for in the same way: else each would change what the other one has.
    other = {name: first.get(name, second.get(name, way)) for name, way in other.items()}
    second = {name: other.get(name, way) for name, way in second.items()}
    for pick in (first, second):
        for name in {need for one in pick for need in THINGS[one].needs} & set(other):
            pick.setdefault(name, other[name])
    for pick in (first, second):
        for name in {need for one in other for need in THINGS[one].needs} & set(pick):
            other.setdefault(name, pick[name])
    sites.run("other", other)
    settle(sites, "site", first)
    settle(sites, "site", second)
    if all(first.get(name, way) == way and second.get(name, way) == way for name, way in other.items()):
        assert sites.pending("other", other) == [], "a site has pruned what the other one claims"
