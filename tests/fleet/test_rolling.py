"""examples/rolling-deploy on five real hosts: one of them is broken, and nobody who asks the balancer notices."""

from __future__ import annotations

import json
import os
import re
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import sloth
from tests.support.machines import Fleet
from tests.support.paths import EXAMPLES

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(600)]


class Visitor(threading.Thread):
    """Asks the balancer all the time; `failures` has what was no right answer."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._end = threading.Event()
        self.answers: list[str] = []
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._end.wait(0.05):
            try:
                with urllib.request.urlopen(self._url, timeout=10) as answer:
                    self.answers.append(answer.read().decode().strip())
            except OSError as error:
                self.failures.append(str(error))

    def __enter__(self) -> Visitor:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self.join()


@pytest.fixture
def rollout(fleet: Fleet, tmp_path: Path) -> Iterator[Path]:
    """A controller with an inventory of five web servers; the balancer is on the machine of the first."""
    head, *_ = fleet.inventory().partition("[hosts.")
    lines = [head, f'[hosts.lb1]\naddress = "{fleet.addresses["host1"]}"']
    lines += [f'[hosts.web{n}]\naddress = "{fleet.addresses[f"host{n}"]}"' for n in range(1, 6)]
    lines += ['[groups.balancer]\nhosts = ["lb1"]', '[groups.web]\nhosts = ["web*"]']
    (tmp_path / "inventory.toml").write_text("\n".join(lines) + "\n")
    yield tmp_path
    for n in range(1, 6):
        fleet.shell(f"host{n}", "systemctl disable --now app balancer; rm -rf /srv/app /etc/balancer; true")


def run(rollout: Path, status: int, *words: str, verb: str = "run") -> dict[str, Any]:
    site = str(EXAMPLES / "rolling-deploy/site.sloth")
    done = sloth(rollout, verb, "-i", "inventory.toml", "-f", site, "--output", "json", *words)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def releases(fleet: Fleet) -> list[str]:
    return [fleet.shell(f"host{n}", "cat /srv/app/release").strip() for n in range(1, 6)]


def test_a_broken_host_stops_the_deployment_and_resume_finishes_it(fleet: Fleet, rollout: Path) -> None:
    run(rollout, 0, "-e", "release=1")
    assert releases(fleet) == ["1"] * 5
    entries = fleet.shell("host1", "grep . /etc/balancer/*")
    assert len(re.findall(r":8081", entries)) == 5
    fleet.shell("host3", "touch /srv/app/broken")
    with Visitor(f"http://{fleet.addresses['host1']}:8088/") as visitor:
        # One host at a time, so that web3 comes third: in the last batch, it would leave nobody to be spared.
        document = run(rollout, 1, "-e", "release=2", "--forks", "1")
        deployed = {
            name: task["status"]
            for name, host in document["hosts"].items()
            for task in host["tasks"]
            if task["name"] == "deploy"
        }
        # Hosts come into batches of 1, 2 and 2 as they are ready. Where web3 is, it is taken back; what follows is
        # untouched.
        assert deployed["web3"] == "failed"
        done = [name for name, status in deployed.items() if status == "changed"]
        assert len(done) <= 3
        assert len(done) + sum(status == "skipped" for status in deployed.values()) == 4
        assert [f"web{n}" for n, release in enumerate(releases(fleet), 1) if release == "2"] == sorted(done)
        assert set(releases(fleet)) <= {"1", "2"}
        assert fleet.shell("host1", "grep . /etc/balancer/*") == entries, "it is in the balancer again, as it was"
        assert visitor.failures == []
        fleet.shell("host3", "rm /srv/app/broken")
        document = run(rollout, 0, "-e", "release=2", "--resume")
        assert sorted(document["hosts"]) == sorted(set(deployed) - set(done))
        skipped = {task["name"] for host in document["hosts"].values() for task in host["tasks"]
                   if task["status"] == "skipped"}  # fmt: skip
        assert skipped == {"application"}
    assert releases(fleet) == ["2"] * 5
    assert visitor.failures == [], "nobody was sent to a server that is drained"
    assert "1" in visitor.answers
    assert "2" in visitor.answers
    document = run(rollout, 0, "-e", "release=2")
    tasks = [task for host in document["hosts"].values() for task in host["tasks"]]
    changed = {result["module"] for task in tasks for result in task["results"] if result["changed"]}
    assert not [name for name in changed if name.startswith(("file.", "systemd."))], "what is released stays as it is"


def test_a_saved_plan_is_applied_on_real_hosts_and_refused_where_one_has_changed(fleet: Fleet, rollout: Path) -> None:
    (rollout / "site.sloth").write_text(
        """
handler({ name = "restart", run = function() systemd.restart("planned") end })
task({ name = "service", hosts = "@web", notify = "restart", run = function()
    systemd.unit({ name = "planned", content = "[Service]\\nExecStart=/bin/sleep infinity\\n" })
    systemd.service({ name = "planned.service", state = "started" })
    user.create({ name = "planned", shell = "/bin/sh" })
    file.directory({ path = "/srv/planned", owner = "planned" })
    file.copy({ content = secret("planned") .. "\\n", dest = "/srv/planned/key", owner = "planned", mode = "0600" })
end })
"""
    )
    secret = {"SLOTH_SECRET_PLANNED": "a-secret-of-the-plan"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in secret.items():
            patch.setenv(name, value)
        done = sloth(rollout, "plan", "-i", "inventory.toml", "-f", "site.sloth", "-o", "deploy.plan")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "a-secret" not in (rollout / "deploy.plan").read_text()
        os.remove(rollout / "site.sloth")
        fleet.shell("host2", "mkdir -p /srv/planned")
        done = sloth(
            rollout, "apply", "-i", "inventory.toml", "deploy.plan", "--allow-unknown", "--output", "json"
        )  # fmt: skip
    assert done.returncode == 3, done.stdout[-3000:] + done.stderr
    document = json.loads(done.stdout)
    statuses = {name: host["status"] for name, host in document["hosts"].items()}
    assert statuses == {"web1": "changed", "web2": "failed", "web3": "changed", "web4": "changed", "web5": "changed",
                        "lb1": "skipped"}  # fmt: skip
    assert "file:directory:/srv/planned" in document["hosts"]["web2"]["error"]
    assert fleet.shell("host2", "id planned 2>&1; true").strip().endswith("no such user")
    for n in (1, 3, 4, 5):
        shown = fleet.shell(f"host{n}", "cat /srv/planned/key; systemctl is-active planned")
        assert shown.split() == ["a-secret-of-the-plan", "active"]
        fleet.shell(f"host{n}", "systemctl stop planned; userdel planned; rm -rf /srv/planned")
    fleet.shell("host2", "rmdir /srv/planned")
