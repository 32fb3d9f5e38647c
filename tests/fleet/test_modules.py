"""What modules do on real hosts beyond their contract: failures that must be told, orders that must be kept."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.events import CallOutput, Event
from sloth.engine.options import Options
from sloth.inventory import Inventory
from tests.support.machines import Fleet
from tests.support.packages import deb
from tests.support.running import finished_hosts, results, run_site

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

HOST = "host5"


class Runner:
    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet, self.directory = fleet, directory

    def __call__(self, body: str, user: str = "root", check: bool = False) -> list[Event]:
        (self.directory / "inventory.toml").write_text(self.fleet.inventory(user=user, become="false"))
        inventory = Inventory.read(self.directory / "inventory.toml")
        site = self.directory / "site.sloth"
        site.write_text(f"task({{ name = 't', run = function()\n{body}\nend }})")
        controller = self.directory / "controller"
        return asyncio.run(run_site(site, inventory, controller, Options(check=check), HOST))

    def told(self, body: str, **more: Any) -> list[tuple[str, str, str]]:
        events = self(body, **more)
        assert finished_hosts(events)[HOST].status in ("changed", "unchanged"), finished_hosts(events)[HOST].error
        return [(result.module, result.status, result.reason) for result in results(events)]

    def error(self, body: str, **more: Any) -> str:
        events = self(body, **more)
        assert finished_hosts(events)[HOST].status == "failed"
        failed = next(result for result in results(events) if result.status == "failed")
        return failed.error + "\n" + failed.detail

    def shell(self, script: str) -> str:
        return self.fleet.shell(HOST, script)


@pytest.fixture
def go(fleet: Fleet, tmp_path: Path) -> Runner:
    return Runner(fleet, tmp_path)


def unit(name: str, service: str) -> str:
    return f'systemd.unit({{ name = "{name}", content = "[Service]\\n{service}\\n" }})\n'


@pytest.mark.parametrize(
    ("name", "service", "said"),
    [
        ("dies", "ExecStart=/bin/sh -c 'echo I am sad; exit 3'", "I am sad"),
        ("loops", "Restart=always\\nExecStart=/bin/false", "did not stay up"),
        ("never", "Type=notify\\nTimeoutStartSec=1\\nExecStart=/bin/sleep 60", "systemctl start"),
        ("once", "Type=oneshot\\nExecStart=/bin/true", "systemd.restart runs it"),
        ("nothing", "ExecStart=/no/such/program", "status=203/EXEC"),
    ],
)
def test_a_unit_that_does_not_stay_up_is_a_failure(go: Runner, name: str, service: str, said: str) -> None:
    error = go.error(unit(name, service) + f'systemd.start("{name}")')
    assert said in error
    assert "site.sloth:3: systemd.start" in error


def test_a_unit_that_cannot_be_loaded_fails_on_every_run(go: Runner) -> None:
    for _ in range(2):
        assert "cannot load broken.service" in go.error(unit("broken", "Foo"))


def test_masked_and_missing_units(go: Runner) -> None:
    go.told(unit("m", "ExecStart=/bin/sleep 60"))
    go.shell("rm /etc/systemd/system/m.service; systemctl mask m; systemctl daemon-reload")
    assert "unmask it first" in go.error('systemd.start("m")')
    assert "there is no unit nope.service" in go.error('systemd.enable("nope")')
    assert "cannot be the name of a unit" in str(finished_hosts(go('systemd.start("a b")'))[HOST].error)


def test_a_changed_unit_is_read_before_its_restart(go: Runner) -> None:
    body = unit("r", "ExecStart=/bin/sleep 1000") + 'systemd.start("r")'
    go.told(body)
    go.told(body.replace("1000", "2000").replace("systemd.start", "systemd.restart"))
    assert "sleep 2000" in go.shell("cat /proc/$(systemctl show -P MainPID r)/cmdline | tr '\\0' ' '")


def test_all_units_are_asked_for_at_once(go: Runner) -> None:
    names = [f"many{number}" for number in range(30)]
    go.told("".join(unit(name, "ExecStart=/bin/sleep 60") for name in names))
    go.shell(
        'printf \'#!/bin/sh\\necho "$1 $2 $3" >> /root/asked\\nexec /usr/bin/systemctl "$@"\\n\' >'
        " /usr/local/bin/systemctl; chmod +x /usr/local/bin/systemctl"
    )
    try:
        told = go.told("".join(f'systemd.stop("{name}")\n' for name in names))
        asked = go.shell("cat /root/asked").splitlines()
    finally:
        go.shell("rm -f /usr/local/bin/systemctl /root/asked")
    assert told == [("systemd.stop", "unchanged", "adopted")] * 30
    assert len(asked) <= 3, asked  # one for all that wait; more only when calls come late


def test_a_user_s_own_manager(go: Runner) -> None:
    go.shell(
        "mkdir -p /run/user/1000; chown 1000:1000 /run/user/1000; chmod 700 /run/user/1000;"
        " systemd-run -q -p Delegate=yes --unit=um --uid=1000 --setenv=XDG_RUNTIME_DIR=/run/user/1000"
        " --setenv=HOME=/home/deploy /lib/systemd/systemd --user;"
        " while ! test -S /run/user/1000/systemd/private; do sleep 0.1; done"
    )
    body = """
local text = "[Service]\\nExecStart=/bin/sleep 99\\n[Install]\\nWantedBy=default.target\\n"
systemd.unit({ name = "mine", SCOPE, content = text })
systemd.enable({ name = "mine", SCOPE, now = true })"""
    as_root = body.replace("SCOPE", 'scope = "user", user = "deploy"')
    assert [status for _, status, _ in go.told(as_root)] == ["changed", "changed"]
    assert [status for _, status, _ in go.told(as_root)] == ["unchanged", "unchanged"]
    itself = body.replace("SCOPE", 'scope = "user"')
    assert [status for _, status, _ in go.told(itself, user="deploy")] == ["unchanged", "unchanged"]
    assert (
        go.shell("cd /home/deploy/.config; stat -c %U . systemd/user systemd/user/mine.service").split()
        == ["deploy"] * 3
    )
    go.shell("mkdir /srv/trap; mv /home/deploy/.config /home/deploy/.old; ln -s /srv/trap /home/deploy/.config")
    assert "nothing that deploy could have created is followed" in go.error(as_root)
    assert go.shell("ls -A /srv/trap; rm /home/deploy/.config; mv /home/deploy/.old /home/deploy/.config") == ""
    gone = 'systemd.unit({ name = "mine", scope = "user", user = "deploy", state = "absent" })'
    assert [status for _, status, _ in go.told(gone) + go.told(gone)] == ["changed", "unchanged"]


CHAIN = """
group.create({ name = "crew", gid = 4321 })
user.create({ name = "chain", groups = "crew", home = "/srv/homes/chain", shell = "/bin/sh" })
user.modify({ name = "chain", comment = "later" })
ssh.authorized_key({
    user = "chain", key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr x",
})
file.copy({ dest = "/srv/homes/note", content = "x", owner = "chain", group = "crew" })
systemd.unit({ name = "chain", content = "[Service]\\nUser=chain\\nExecStart=/bin/sleep 99\\n" })
systemd.start("chain")
file.lineinfile({ path = "~chain/.profile", line = "umask 077", create = true })"""


def test_a_check_on_a_new_host_predicts_what_a_run_does(go: Runner) -> None:
    predicted = go.told(CHAIN, check=True)
    done = go.told(CHAIN)
    assert [(module, status) for module, status, _ in predicted] == [(module, status) for module, status, _ in done]
    assert {status for _, status, _ in go.told(CHAIN)} == {"unchanged"}
    assert go.shell("stat -c '%U:%G %a' /srv/homes/chain/.ssh /srv/homes/note").split("\n")[:2] == [
        "chain:chain 700", "chain:crew 644",
    ]  # fmt: skip


def test_accounts_are_changed_only_where_asked(go: Runner) -> None:
    shadow = "getent shadow acct | cut -d: -f2,8"
    go.told('user.create({ name = "acct", password = "$6$a$b", expires = "2030-01-31", groups = { "adm", "mail" } })')
    assert go.shell(shadow).strip() == "$6$a$b:21945"
    assert (
        go.told('user.create({ name = "acct", password = "$6$x$y", update_password = "on_create" })')[0][1]
        == "unchanged"
    )
    go.told('user.modify({ name = "acct", lock = true })')
    assert go.shell(shadow).strip() == "!$6$a$b:21945"
    go.told('user.modify({ name = "acct", lock = false, expires = "" })')
    assert go.shell(shadow).strip() == "$6$a$b:"
    go.told('user.modify({ name = "acct", groups = { "news" }, append = true })')
    assert set(go.shell("id -nG acct").split()) == {"acct", "adm", "mail", "news"}
    go.told('user.modify({ name = "acct", groups = { "news" }, home = "/home/moved", move_home = true })')
    assert set(go.shell("id -nG acct; ls -d /home/*").split()) >= {"acct", "news", "/home/moved"}
    assert "adm" not in go.shell("id -nG acct").split()
    ages = 'user.modify({ name = "acct", password_expire_max = %d, password_expire_min = 1 })'
    assert [go.told(ages % days)[0][1] for days in (90, 90, -1, -1)] == ["changed", "unchanged"] * 2
    go.told('user.delete({ name = "acct", remove = true })')
    assert go.shell("ls /home").split() == ["deploy", "ops"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('user.create({ name = "x", uid = 0 })', "the uid 0 belongs to root"),
        ('user.create({ name = "x", groups = { "nope" } })', "there is no group nope"),
        ('user.modify({ name = "nope", shell = "/bin/sh" })', "there is no user nope"),
        ('user.create({ name = "x", lock = false })', "has no password"),
        ('ssh.authorized_key({ user = "nope", key = "ssh-rsa AAAA" })', "there is no user nope"),
        ('group.create({ name = "x", gid = 0 })', "the gid 0 belongs to root"),
        ('timezone.set("Europe/Berlni")', 'did you mean "Europe/Berlin"?'),
        ('mount.present({ path = "/mnt/x", src = "/dev/nope", fstype = "ext4" })', "/dev/nope"),
        ('git.clone({ repo = "/srv/nope.git", dest = "/srv/x" })', "git ls-remote"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_left(go: Runner, body: str, said: str) -> None:
    assert said in go.error(body)
    assert "x" not in go.shell("cut -d: -f1 /etc/passwd /etc/group").split()


@pytest.mark.parametrize(
    "body",
    ['user.create("x")', 'group.create("x")', 'pkg.install("tree")', 'systemd.mask("ssh")', 'hostname.set("x")',
     'user.modify({ name = "ops", password = "x" })'],
)  # fmt: skip
def test_without_privilege_the_way_is_shown(go: Runner, body: str) -> None:
    assert "become" in go.error(body, user="deploy")


def test_a_package_manager_s_lock_is_waited_for(go: Runner) -> None:
    repository = go.fleet.roots[HOST] / "srv/repository"
    repository.mkdir(exist_ok=True)
    deb.build(repository, "sloth-slow", "1.0", {"postinst": "echo words of the package; sleep 1"})
    deb.index(repository)
    (go.fleet.roots[HOST] / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/repository ./\n")
    script = 'import fcntl, time; f = open("/var/lib/dpkg/lock-frontend", "w"); fcntl.lockf(f, 2); time.sleep(600)'
    go.shell(f"systemd-run -q --unit=holder python3 -c '{script}'")
    call = 'pkg.install({{ name = "sloth-slow", update_cache = true, lock_timeout = {} }})'
    error = go.error(call.format(1))
    assert "lock-frontend" in error
    assert "python3" in error
    threading.Timer(1.5, lambda: go.shell("systemctl stop holder")).start()
    begun = time.monotonic()
    events = go(call.format(60))
    assert finished_hosts(events)[HOST].status == "changed", finished_hosts(events)[HOST].error
    assert time.monotonic() - begun < 50
    assert "words of the package" in "".join(event.data for event in events if isinstance(event, CallOutput))


def test_the_command_line_on_real_hosts(go: Runner) -> None:
    (go.directory / "inventory.toml").write_text(go.fleet.inventory())

    def sloth(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "sloth", words[0], "-i", "inventory.toml", *words[1:]]
        return subprocess.run(argv, cwd=go.directory, capture_output=True, text=True, timeout=120)

    done = sloth("facts", "--limit", "host*", "-o", "json", "virtualization", "distribution")
    assert '"virtualization": "systemd-nspawn"' in done.stdout
    done = sloth("exec", "host[1:2]", "--forks", "2", "--become", "cat /etc/debian_version")
    assert done.stdout.startswith("── host1, host2\n12"), done.stdout + done.stderr
    done = sloth("call", "host1", "file.lineinfile", "path=/etc/motd", "line=hi", "--check", "--diff")
    assert "+hi" in done.stdout
    assert done.returncode == 0
