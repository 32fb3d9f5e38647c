"""Accounts without a home, or with one that they cannot write: where their files are, and that they are safe there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.passwords import Passwords
from tests.support.command import sloth
from tests.support.machines import Fleet
from tests.support.running import finished_hosts, reasons, results, run_site

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

SITE = """
task({ name = "t", become = ACCOUNT, run = function()
    file.directory({ path = "/tmp/of-" .. NAME, mode = "0755" })
    file.copy({ dest = "/tmp/of-" .. NAME .. "/a", content = "a\\n" })
    print(exec.run({ cmd = "id -un; pwd", read_only = true }).stdout)
end })
"""


@pytest.fixture(scope="module", autouse=True)
def accounts_as_before(fleet: Fleet) -> Iterator[None]:
    """Give the hosts back the accounts and the rights that other tests expect."""
    saved = "/tmp/accounts.tar"
    names = "passwd shadow group gshadow subuid subgid sudoers.d/fleet"
    for host in fleet.addresses:
        fleet.shell(host, f"tar -C /etc -cpf {saved} {names}")
    yield
    for host in fleet.addresses:
        fleet.shell(host, f"tar -C /etc -xpf {saved}; rm -rf {saved} /home/plain")


class Runs:
    """Runs the site on a host, as an account by sudo from another, with a controller in `directory`."""

    def __init__(self, fleet: Fleet, directory: Path, host: str = "host1") -> None:
        self._fleet = fleet
        self._directory = directory
        self._host = host

    def run(
        self, account: str, user: str = "deploy", password: str | None = None, become: bool = True
    ) -> tuple[str, dict[tuple[str, str], int], str]:
        """Return the host's status, how many calls ended how, and its error or what it printed."""
        inventory = self._directory / "inventory.toml"
        inventory.write_text(self._fleet.inventory(user=user, become="false"))
        text = SITE.replace("ACCOUNT", json.dumps(account) if become else "false").replace("NAME", json.dumps(account))
        site = self._directory / f"{account}.sloth"
        site.write_text(text)
        events = asyncio.run(
            run_site(
                site,
                Inventory.read(inventory),
                self._directory / ".sloth-runner",
                Options(passwords=Passwords(become=password)),
                self._host,
            )
        )
        end = finished_hosts(events)[self._host]
        printed = " ".join(str(result.values.get("stdout", "")) for result in results(events))
        return end.status, dict(reasons(events)), end.error or printed


def keys(directory: Path, agent: str) -> list[str]:
    """Return the keys that `state list` finds for an agent."""
    done = sloth(directory, "state", "list", "-i", "inventory.toml", "--agent", agent, "--output", "json")
    assert done.returncode == 0, done.stderr
    return [row["key"] for row in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("account", "prepare"),
    [
        ("nobody", "true"),  # /nonexistent
        ("www-data", "mkdir -p /var/www; chown root:root /var/www"),
        ("postgres", "useradd -r -d /var/lib/postgresql postgres"),
        ("games", "true"),  # /usr/games, of root
        ("nodir", "useradd -r -d /dev/null nodir"),
    ],
)
def test_an_account_without_a_home_of_its_own(fleet: Fleet, tmp_path: Path, account: str, prepare: str) -> None:
    fleet.shell("host1", f"chmod 700 /home/deploy; {prepare}")
    runs = Runs(fleet, tmp_path)
    status, first, printed = runs.run(account)
    assert (status, first[("changed", "new")]) == ("changed", 2), printed
    assert printed.split()[0] == account
    assert printed.split()[1] != "/home/deploy", "it is closed to the account"
    status, second, printed = runs.run(account)
    assert (status, second) == ("unchanged", {("unchanged", ""): 3}), printed
    place = f"/var/lib/sloth-runner/{account}"
    modes = fleet.shell("host1", f"stat -c '%a %U' /var/lib/sloth-runner {place} {place}/state {place}/payload")
    assert modes.splitlines() == ["755 root", *[f"700 {account}"] * 3]
    assert keys(tmp_path, f"host1@{account}") == [f"file:copy:/tmp/of-{account}/a", f"file:directory:/tmp/of-{account}"]
    drift = sloth(tmp_path, "drift", "-i", "inventory.toml", "--limit", "host1", "--exit-code")
    assert drift.returncode == 0, drift.stdout + drift.stderr


def test_a_home_that_comes_later_hides_nothing(fleet: Fleet, tmp_path: Path) -> None:
    fleet.shell("host2", "useradd -r -d /srv/late late")
    runs = Runs(fleet, tmp_path, "host2")
    assert runs.run("late")[0] == "changed"
    fleet.shell("host2", "mkdir /srv/late; chown late: /srv/late")
    status, calls, text = runs.run("late")
    assert (status, calls) == ("unchanged", {("unchanged", ""): 3}), text
    assert fleet.shell("host2", "ls -A /srv/late") == ""


def test_sudo_with_a_password_makes_the_directory_too(fleet: Fleet, tmp_path: Path) -> None:
    status, _, text = Runs(fleet, tmp_path, "host2").run("www-data", user="ops", password="secret")
    assert status == "changed", text
    assert fleet.shell("host2", "stat -c %U /var/lib/sloth-runner/www-data") == "www-data\n"


def test_without_root_it_is_in_var_tmp(fleet: Fleet, tmp_path: Path) -> None:
    fleet.shell("host3", "echo 'deploy ALL=(www-data) NOPASSWD: ALL' > /etc/sudoers.d/fleet")
    runs = Runs(fleet, tmp_path, "host3")
    assert runs.run("www-data")[0] == "changed"
    assert fleet.shell("host3", "stat -c '%a %U' /var/tmp/sloth-runner-www-data") == "700 www-data\n"
    status, calls, text = runs.run("www-data")
    assert (status, calls) == ("unchanged", {("unchanged", ""): 3}), text
    assert keys(tmp_path, "host3@www-data") == ["file:copy:/tmp/of-www-data/a", "file:directory:/tmp/of-www-data"]
    # What the system removes from /var/tmp after a month, in part, is sent again.
    fleet.shell("host3", "find /var/tmp/sloth-runner-www-data/payload -type f -delete")
    status, calls, text = runs.run("www-data")
    assert status == "unchanged", text


@pytest.mark.parametrize(
    "planted",
    [
        "mkdir -m 0777 /var/tmp/sloth-runner-backup",
        "ln -s /tmp /var/tmp/sloth-runner-backup",
        "ln -s /nowhere /var/tmp/sloth-runner-backup",
        "touch /var/tmp/sloth-runner-backup",
    ],
)
def test_what_another_account_made_first_is_refused(fleet: Fleet, tmp_path: Path, planted: str) -> None:
    fleet.shell("host4", "echo 'deploy ALL=(backup) NOPASSWD: ALL' > /etc/sudoers.d/fleet")
    fleet.shell("host4", f"rm -rf /var/tmp/sloth-runner-backup; su -s /bin/sh games -c '{planted}'")
    status, _, text = Runs(fleet, tmp_path, "host4").run("backup")
    assert (status, "/var/tmp/sloth-runner-backup belongs to another account" in text) == ("failed", True), text
    fleet.shell("host4", "rm -rf /var/tmp/sloth-runner-backup")


def test_a_directory_of_an_account_that_was_created_anew_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    fleet.shell("host5", "useradd -r -u 801 -d /nonexistent again")
    runs = Runs(fleet, tmp_path, "host5")
    assert runs.run("again")[0] == "changed"
    fleet.shell("host5", "userdel again; useradd -r -u 802 -d /nonexistent again; chown -R again /tmp/of-again")
    status, _, text = runs.run("again")
    assert (status, "/var/lib/sloth-runner/again belongs to another account" in text) == ("failed", True), text


def test_a_login_account_that_cannot_write_its_home(fleet: Fleet, tmp_path: Path) -> None:
    fleet.shell("host5", "useradd -m -s /bin/sh plain; cp -r /home/deploy/.ssh /home/plain; chown -R root: /home/plain")
    fleet.shell("host5", "chmod 755 /home/plain /home/plain/.ssh; chmod 644 /home/plain/.ssh/authorized_keys")
    runs = Runs(fleet, tmp_path, "host5")
    assert runs.run("plain", user="plain", become=False)[0] == "changed"
    assert runs.run("plain", user="plain", become=False)[0] == "unchanged"
    assert fleet.shell("host5", "stat -c '%a %U' /var/tmp/sloth-runner-plain") == "700 plain\n"


@pytest.mark.parametrize("user", ["deploy", "ops"])
def test_an_account_that_sudo_does_not_know_in_any_language(fleet: Fleet, tmp_path: Path, user: str) -> None:
    password = "secret" if user == "ops" else None
    status, _, text = Runs(fleet, tmp_path, "host1").run("nosuch", user=user, password=password)
    assert (status, "the account nosuch, which is to be become, does not exist" in text) == ("failed", True), text


def test_an_expired_login_is_said_to_be(fleet: Fleet, tmp_path: Path) -> None:
    fleet.shell("host1", "useradd -m -s /bin/sh old; cp -r /home/deploy/.ssh /home/old; chown -R old: /home/old")
    fleet.shell("host1", "chage -d 0 old")
    status, _, text = Runs(fleet, tmp_path, "host1").run("old", user="old", become=False)
    assert (status, "password has expired" in text) == ("failed", True), text


def test_a_host_that_allows_one_session_for_each_connection(fleet: Fleet, tmp_path: Path) -> None:
    fleet.shell("host2", "echo 'MaxSessions 1' >> /etc/ssh/sshd_config.d/fleet.conf; systemctl reload ssh")
    (tmp_path / "inventory.toml").write_text(fleet.inventory(become="false"))
    site = tmp_path / "site.sloth"
    task = 'task({ name = "NAME", become = "NAME", run = function() print(exec.run("id -un").stdout) end })\n'
    site.write_text(
        "".join(task.replace("NAME", name) for name in ("deploy", "root", "games", "root")).replace(
            'name = "root"', 'name = "root 1"', 1
        )
    )
    inventory = Inventory.read(tmp_path / "inventory.toml")
    events = asyncio.run(run_site(site, inventory, tmp_path / "controller", None, "host2"))
    assert finished_hosts(events)["host2"].error is None
    printed = [result.values["stdout"] for result in results(events)]
    assert printed == ["deploy", "root", "games", "root"]
