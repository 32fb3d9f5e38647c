"""The real sites of examples/: they converge, stay quiet, survive other words for the same things, and roll back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import sloth
from tests.support.machines import Fleet
from tests.support.packages import deb, nginx
from tests.support.paths import EXAMPLES

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

HOST = "host1"

# Other words for the same things: other calls, lists, and names of tasks.
OTHER_WORDS = {
    "webserver": (
        ('pkg.install({ name = { "nginx" }, update', 'pkg.install({ name = "nginx", update'),
        ('name = "packages"', 'name = "software"'),
        ('file.copy({ src = "files/html/", dest = root,', 'file.copy({ src = "files/html/", dest = root .. "/",'),
        ('systemd.service({ name = "nginx", enabled = true, state = "started" })',
         'systemd.enable("nginx") systemd.start("nginx")'),
        ('systemd.unit({ name = "pages-check.timer", src = "files/pages-check.timer" })',
         'file.copy({ src = "files/pages-check.timer", dest = "/etc/systemd/system/pages-check.timer" })'),
    ),
    "baseline": (
        ('name = "upgrades"', 'name = "updates"'),
        ('pkg.install("sudo")', 'pkg.install({ name = { "sudo", "openssh-server" } })'),
        ('file.copy({ src = "files/20auto-upgrades"', 'file.template({ src = "files/20auto-upgrades"'),
        ('file.copy({ content = "Authorized use only.\\n", dest = "/etc/issue.net", mode = "0644" })',
         'file.lineinfile({ path = "/etc/issue.net", line = "Authorized use only.", mode = "0644", create = true })'),
        ("key = person.key, exclusive = true", "key = { person.key }"),
    ),
}  # fmt: skip


# What is on the host of all that the examples describe. Homes and the configuration of packages are kept.
LOOK = """getent passwd alice bob webmaster; getent group admins web; ls -d /srv/www /etc/sudoers.d/50-baseline
cat /etc/issue.net /etc/ssh/sshd_config; ls -A /etc/ssh/sshd_config.d /etc/apt/apt.conf.d /etc/systemd/system
cat /home/*/.ssh/authorized_keys; dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | grep ^ii
systemctl is-enabled nginx pages-check.timer; grep -v '^$' /etc/sysctl.d/50-baseline.conf; true"""


class Example:
    """One example on one host, run from the command line."""

    def __init__(self, fleet: Fleet, directory: Path, name: str) -> None:
        self.fleet = fleet
        self.directory = directory
        self.site = directory / name
        subprocess.run(["cp", "-r", str(EXAMPLES / name), str(self.site)], check=True)
        (directory / "inventory.toml").write_text(fleet.inventory())
        self.first = ""
        self.words = ("-i", str(directory / "inventory.toml"), "--limit", HOST)

    def run(self, *options: str, verb: str = "run") -> dict[str, tuple[str, str]]:
        """Return key -> (status, reason) of the calls of a run, which must succeed."""
        words = (
            verb,
            *self.words,
            "-f",
            str(self.site / "site.sloth"),
            "--output",
            "json",
            "-e",
            "is_container=true",
            *options,
        )
        done = sloth(self.directory, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        document = json.loads(done.stdout)
        self.first = self.first or document["run_id"]
        results = [one for task in document["hosts"][HOST]["tasks"] for one in task["results"]]
        return {one["key"]: (one["status"], one["reason"]) for one in results}

    def pending(self) -> dict[str, tuple[str, str]]:
        return {key: what for key, what in self.run("--check").items() if what[0] != "unchanged"}

    def in_other_words(self) -> None:
        path = self.site / "site.sloth"
        text = path.read_text()
        for old, new in OTHER_WORDS[self.site.name]:
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text)

    def roll_back(self) -> None:
        """Roll the first run back; only what cannot be taken back may be left, such as a reload."""
        done = sloth(self.directory, "rollback", self.first, "--yes", *self.words)
        left = [line for line in done.stdout.splitlines() if line.startswith("not restored")]
        assert [line for line in left if "an action was done" not in line] == [], done.stdout

    def check_drift_is_seen(self) -> None:
        path = self.fleet.roots[HOST] / "etc/issue.net"
        if self.site.name == "baseline":
            before = path.read_bytes()
            path.write_bytes(b"by hand")
            assert any("/etc/issue.net" in key for key in self.drifted())
            path.write_bytes(before)

    def drifted(self) -> list[str]:
        """Return what has drifted of all that the example has made: other tests have removed what is theirs by hand."""
        done = sloth(self.directory, "drift", "-o", "json", *self.words)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)["hosts"][HOST]
        return [one["key"] for one in report["drift"] + report["unknown"] if str(self.site) in one["site"]]


@pytest.fixture(scope="module")
def repository(fleet: Fleet) -> Iterator[None]:
    place = fleet.roots[HOST] / "srv/repository"
    place.mkdir(exist_ok=True)
    nginx.build(place)
    deb.build(place, "unattended-upgrades", "2.9")
    deb.index(place)
    sources = fleet.roots[HOST] / "etc/apt/sources.list"
    before = sources.read_text() if sources.exists() else ""
    sources.write_text("deb [trusted=yes] file:/srv/repository ./\n")
    yield
    sources.write_text(before)


@pytest.mark.parametrize("name", OTHER_WORDS)
def test_an_example_is_a_real_site(fleet: Fleet, repository: None, tmp_path: Path, name: str) -> None:
    example = Example(fleet, tmp_path, name)
    before = fleet.shell(HOST, LOOK)
    assert "changed" in {status for status, _ in example.run().values()}
    assert {status for status, _ in example.run().values()} == {"unchanged"}, "the second run is quiet"
    example.roll_back()
    assert fleet.shell(HOST, LOOK) == before
    if name == "baseline":
        assert "maxauthtries 6" in fleet.shell(HOST, "sshd -T"), "sshd's own value again"

    assert "changed" in {status for status, _ in example.run().values()}
    example.check_drift_is_seen()
    example.in_other_words()
    example.run("--prune", "--yes")
    assert example.pending() == {}, "nothing that is still asked for was removed"
    assert example.drifted() == []
    example.site.joinpath("site.sloth").write_text("task({ name = 'nothing', run = function() end })")
    example.run("--prune", "--yes")
    assert example.drifted() == []
    assert fleet.shell(HOST, "true") == "", "one can still log in"
