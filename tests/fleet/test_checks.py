"""Checks on a real host: what a check predicts is what the run does, or it says that it cannot know."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sloth.engine.events import Event, RunStarted, TaskFinished
from sloth.engine.query import Agent, Query
from sloth.inventory import Inventory
from sloth.payload.kernel.registry import registry
from sloth.payload.kernel.resource import Resource
from sloth.state import queries
from tests.support.machines import Fleet
from tests.support.packages import deb
from tests.support.running import finished_hosts, results
from tests.support.sites import HOST, Runner, go

__all__ = ["go"]
pytestmark = [pytest.mark.fleet, pytest.mark.timeout(600)]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8Ht8Z3j6yDWPBHQtOp/R9rjWvfMYo3MSA/K6q8D86r"
# Calls that need what an earlier one makes.
NEIGHBOURS = {
    "cron of a user": """
        user.create({name = "cN"})
        cron.job({name = "job", user = "cN", job = "true", minute = "5"})
    """,
    "group of a user": """
        group.create({name = "gN"})
        user.create({name = "uN", groups = {"gN"}})
    """,
    "file of a user": """
        user.create({name = "fN"})
        file.copy({content = "x", dest = "/home/fN/x", owner = "fN", group = "fN"})
    """,
    "file in a directory": """
        file.directory({path = "/srv/dN/sub", mode = "0750"})
        file.copy({content = "x", dest = "/srv/dN/sub/x", mode = "0600"})
        file.lineinfile({path = "/srv/dN/sub/x", line = "y"})
    """,
    "link to a file": """
        file.copy({content = "x", dest = "/srv/target-N"})
        file.link({path = "/srv/link-N", src = "/srv/target-N"})
    """,
    "stat of a directory": """
        file.directory({path = "/srv/statN"})
        if not file.stat("/srv/statN").exists then file.copy({content = "wrong", dest = "/srv/wrong-N"}) end
        file.absent("/srv/statN")
        if file.stat("/srv/statN").exists then file.copy({content = "wrong", dest = "/srv/wrong2-N"}) end
    """,
    "fetch of a file": """
        file.copy({content = "x", dest = "/srv/fetch-N"})
        file.fetch({src = "/srv/fetch-N", dest = "fetched/"})
    """,
    "a unit and its service": """
        systemd.unit({name = "unitN.service", content = "[Service]\\nExecStart=/bin/sleep 1000\\n"})
        systemd.start("unitN.service")
        systemd.restart("unitN.service")
    """,
    "ssh in a home": """
        user.create({name = "sN"})
        ssh.config({user = "sN", host = "other", hostname = "10.0.0.1"})
        ssh.authorized_key({user = "sN", key = "KEY"})
    """,
    "a repository that an action makes": """
        exec.run({creates = "/srv/repoN", cmd = "git init -q /srv/repoN && cd /srv/repoN"
            .. " && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x"})
        git.clone({repo = "/srv/repoN", dest = "/srv/cloneN"})
    """,
    "a command that an action makes": """
        exec.run({cmd = "ln -s /bin/true /usr/local/bin/ownN", creates = "/usr/local/bin/ownN"})
        local ran = exec.run({cmd = "ownN", read_only = true})
        print(ran.exit_code)
    """,
    "an archive that an action makes": """
        exec.run({cmd = "tar -C /etc -cf /srv/arN.tar hostname", creates = "/srv/arN.tar"})
        file.directory({path = "/srv/arN"})
        archive.unpack({src = "/srv/arN.tar", dest = "/srv/arN", remote_src = true})
    """,
    "a key in a directory": """
        file.directory({path = "/srv/khN"})
        ssh.known_hosts({path = "/srv/khN/known", name = "h", key = "h KEY"})
    """,
    "a mount on a directory": """
        file.directory({path = "/srv/mountN"})
        mount.present({path = "/srv/mountN", src = "tmpfs", fstype = "tmpfs", state = "mounted"})
    """,
    "a user in the place of another": """
        user.create({name = "goneN"})
        user.delete("goneN")
        user.create({name = "goneN", shell = "/bin/sh"})
    """,
    "a unit that is there, and is started and stopped": """
        systemd.start("idle.service")
        systemd.stop("idle.service")
        systemd.start("idle.service")
        systemd.restart({name = "idle.service", only_if_active = true})
        systemd.enable("idle.service")
        systemd.disable({name = "idle.service", now = true})
        systemd.restart({name = "idle.service", only_if_active = true})
        systemd.restart("idle.service")
        systemd.mask({name = "idle.service", now = true})
        systemd.disable("idle.service")
        systemd.stop("idle.service")
        systemd.unmask("idle.service")
        systemd.start("idle.service")
        systemd.stop("idle.service")
    """,
    "guards": """
        file.copy({content = "x", dest = "/srv/guardN"})
        exec.run({cmd = "true", creates = "/srv/guardN"})
        exec.run({cmd = "true", removes = "/srv/guardN"})
        file.absent("/srv/guardN")
        exec.run({cmd = "true", removes = "/srv/guardN"})
    """,
    "a command that reads what is not there yet": """
        file.copy({content = "x", dest = "/srv/readN"})
        print(exec.run({cmd = "grep x /srv/readN", read_only = true}).stdout)
    """,
}  # fmt: skip


def predicted(events: list[Event]) -> list[tuple[str, str]]:
    return [(result.key, result.status.value) for result in results(events)]


def unknown(events: list[Event]) -> bool:
    return any(isinstance(event, TaskFinished) and event.status == "unknown" for event in events)


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_check_knows_what_earlier_calls_bring(go: Runner, name: str) -> None:
    if "idle.service" in NEIGHBOURS[name]:  # below /usr, since what is in /etc cannot be masked
        lines = "[Service]\\nExecStart=/bin/sleep 1000\\n[Install]\\nWantedBy=multi-user.target\\n"
        go.shell(f"printf '{lines}' > /usr/lib/systemd/system/idle.service; systemctl daemon-reload")
    compare(go, NEIGHBOURS[name].replace("N", str(100 + list(NEIGHBOURS).index(name))))


def compare(go: Runner, body: str) -> None:
    """Check, then run; the check must not fail, and what it predicts is what happens, up to what it cannot know."""
    body = body.replace("KEY", KEY)
    check = go(body, check=True)
    ended = finished_hosts(check)[HOST]
    assert ended.status in ("changed", "unchanged", "unknown"), ended.error
    assert [result.warnings for result in results(check) if result.warnings] == []
    run = go(body)
    assert finished_hosts(run)[HOST].status in ("changed", "unchanged"), finished_hosts(run)[HOST].error
    before, after = predicted(check), predicted(run)
    if not unknown(check):
        assert len(before) == len(after)
    for expected, found in zip(before, after, strict=False):
        assert expected == found or expected == (found[0], "unknown")


SLEEPS = (
    'systemd.unit({name = "ppN.service", content = "[Unit]\\nStartLimitIntervalSec=0\\n'
    '[Service]\\nExecStart=/bin/sleep 100N\\n"})'
)
ENABLED = (
    'systemd.unit({name = "peN.service", content = "[Service]\\nExecStart=/bin/true\\n'
    '[Install]\\nWantedBy=multi-user.target\\n"})'
)
# Each is right after any others, with any number; numbers are few, so that calls meet.
PARTS = (
    'file.directory({path = "/srv/pN", mode = "0755"})',
    'file.copy({content = "N", dest = "/srv/p-file-N", mode = "0640"})',
    'file.copy({content = "other", dest = "/srv/p-file-N"})',
    'file.lineinfile({path = "/srv/p-lines-N", line = "one", create = true})',
    'file.lineinfile({path = "/srv/p-lines-N", line = "two", create = true})',
    'file.blockinfile({path = "/srv/p-lines-N", block = "b", create = true})',
    'file.absent("/srv/p-file-N")',
    'file.absent("/srv/p-lines-N")',
    'file.link({path = "/srv/p-link-N", src = "/srv/p-file-N", force = true})',
    'group.create({name = "pgN"})',
    'user.create({name = "puN", shell = "/bin/sh"})',
    'user.create({name = "puN", shell = "/bin/bash", comment = "c"})',
    'user.create({name = "puN"}) cron.job({name = "j", user = "puN", job = "true", hour = "N"})',
    'user.create({name = "puN"}) ssh.authorized_key({user = "puN", key = "KEY"})',
    'group.create({name = "pgN"}) user.create({name = "puN", groups = {"pgN"}})',
    'user.delete("pdN")',
    SLEEPS,
    'cron.job({name = "fN", cron_file = "pfN", user = "root", job = "true"})',
    'exec.run({cmd = "touch /srv/p-made-N", creates = "/srv/p-made-N"})',
    'exec.run({cmd = "cat /srv/p-file-N || true", read_only = true})',
    'ssh.known_hosts({path = "/srv/p-known-N", name = "h", key = "h KEY"})',
    'hostname.set({name = "host5"})',
    'pkg.install("checked-N")',
    'pkg.install({name = {"checked-1", "checked-N"}, state = "latest"})',
    'pkg.remove("checked-N")',
    'pkg.install("checked-N") file.lineinfile({path = "/etc/checked-N.conf", line = "version = N"})',
    'sysctl.set({name = "kernel.panic", value = N, sysctl_set = false})',
    'sysctl.set({name = "kernel.panic", value = N, sysctl_set = false, sysctl_file = "/etc/sysctl.d/N.conf"})',
    'http.download({url = "http://127.0.0.1:8139/served-N", dest = "/srv/p-served", mode = "0644"})',
    'file.copy({content = "served", dest = "/srv/p-served"})',
    'mount.present({path = "/mnt/pN", src = "tmpfs", fstype = "tmpfs", opts = "size=Nm", state = "configured"})',
    'mount.absent({path = "/mnt/pN"})',
    'file.directory({path = "/srv/p-un-N"})'
    ' archive.unpack({src = "/srv/checked.tar", dest = "/srv/p-un-N", remote_src = true})',
    'git.clone({repo = "/srv/checked-repo", dest = "/srv/p-clone-N"})',
    'file.copy({content = "a N", dest = "/srv/p-re-N"})'
    ' file.replace({path = "/srv/p-re-N", regexp = "a", replace = "b"})',
    'file.template({src = "t.j2", dest = "/srv/p-file-N", vars = {n = N}})',
    'file.copy({content = "x", dest = "/srv/p-fetch-N"}) file.fetch({src = "/srv/p-fetch-N", dest = "fetched/"})',
    'user.create({name = "puN"}) user.modify({name = "puN", comment = "modified"})',
    'group.delete("pgN")',
    'user.create({name = "puN"}) ssh.config({user = "puN", host = "h", hostname = "10.0.0.N"})',
    SLEEPS + ' systemd.start("ppN.service")',
    SLEEPS + ' systemd.stop("ppN.service")',
    SLEEPS + ' systemd.restart({name = "ppN.service", only_if_active = true})',
    ENABLED + ' systemd.enable("peN.service")',
    ENABLED + ' systemd.disable("peN.service")',
    'systemd.mask("pmN.service")',
    'systemd.unmask("pmN.service")',
    SLEEPS + ' systemd.service({name = "ppN.service", state = "started"})',
    'timezone.set("Etc/GMT+N")',
    'if file.stat("/srv/p-file-N").exists then file.copy({content = "seen", dest = "/srv/p-seen-N"}) end',
)


def test_every_resource_is_among_the_parts() -> None:
    text = " ".join(PARTS)
    missing = [cls.name for cls in registry() if issubclass(cls, Resource) and f"{cls.name}(" not in text]
    assert missing == []


@pytest.fixture(scope="module")
def sources(fleet: Fleet) -> Iterator[None]:
    """What the parts take from elsewhere: packages, an archive, a repository, and a web server."""
    directory = fleet.roots[HOST] / "srv/checked"
    fleet.shell(HOST, "tar -C / -cpf /srv/apt.tar etc/apt var/lib/apt/lists")  # other tests use what there is
    directory.mkdir()
    for number in (1, 2, 3):
        deb.build(directory, f"checked-{number}", "1.0")
    deb.index(directory)
    (fleet.roots[HOST] / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/checked ./\n")
    fleet.shell(
        HOST,
        "apt-get update -qq; mkdir -p /srv/web; for n in 1 2 3; do echo $n > /srv/web/served-$n; done;"
        " systemd-run -q --unit=checked-httpd python3 -m http.server --directory /srv/web --bind 127.0.0.1 8139;"
        " tar -C /etc -cf /srv/checked.tar hostname; git init -q /srv/checked-repo; cd /srv/checked-repo;"
        " git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x; sleep 1",
    )
    yield
    fleet.shell(
        HOST,
        "systemctl stop checked-httpd; rm -rf /etc/apt/sources.list /var/lib/apt/lists/*; tar -C / -xpf /srv/apt.tar;"
        " rm -rf /srv/apt.tar /srv/web /srv/checked /srv/checked.tar /srv/checked-repo",
    )


@pytest.mark.usefixtures("sources")
def test_a_check_knows_what_is_asked_for_twice(go: Runner) -> None:
    (go.directory / "t.j2").write_text("{{ n }}\n")
    body = "\n".join(f"{part}\n{part}".replace("N", "2") for part in PARTS)
    compare(go, body)
    check = go(body.replace("2", "3"), check=True)
    said = Counter(result.status.value for result in results(check))
    assert said["unknown"] < said.total() / 5, said


EXAMPLES = max(16, int(os.environ.get("SLOTH_ATTACK_ROUNDS", "0")) // 5)


@pytest.mark.usefixtures("sources")
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
@given(st.lists(st.tuples(st.sampled_from(PARTS), st.integers(1, 3)), min_size=1, max_size=8))
def test_a_check_predicts_the_run(go: Runner, parts: list[tuple[str, int]]) -> None:
    (go.directory / "t.j2").write_text("{{ n }}\n")
    compare(go, "\n".join(part.replace("N", str(number)) for part, number in parts))
    events = go("\n".join(part.replace("N", str(number)) for part, number in parts).replace("KEY", KEY), check=True)
    assert finished_hosts(events)[HOST].status in ("changed", "unchanged", "unknown")


def test_a_rollback_restores_a_shell_though_the_record_has_a_password(go: Runner) -> None:
    def body(shell: str) -> str:
        return f'user.create({{name = "rolled", shell = "{shell}", password = "$6$abc$defghijklmnop"}})'

    go(body("/bin/sh"))
    run = next(event for event in go(body("/bin/bash")) if isinstance(event, RunStarted)).run_id
    go.shell("getent passwd rolled | grep -q /bin/bash")
    inventory = Inventory.read(go.directory / "inventory.toml")
    query = Query(write=True, run="back", site="rollback")
    agents = [Agent(inventory.hosts[HOST])]
    answers = asyncio.run(query.states(agents, queries.roll_back(run, check=False, force=False)))
    (row,) = answers[HOST]  # type: ignore[misc]  # no error came instead
    assert (row.key, row.status, row.msg) == ("user:create:rolled", "done", "")
    assert go.shell("getent passwd rolled").strip().endswith("/bin/sh")
    assert "$6$abc$defghijklmnop" in go.shell("getent shadow rolled")
