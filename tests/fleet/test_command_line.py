"""The options of run on five real hosts, and a site that `init` has made: what a person at a terminal does in a day."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import sloth
from tests.support.machines import Fleet
from tests.support.terminal import Terminal

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

SITE = """
task({ name = "directory", run = function() file.directory({ path = "/srv/options", mode = "0755" }) end })
task({ name = "file", run = function()
    file.copy({ content = "release " .. (vars.release or 1) .. "\\n", dest = "/srv/options/release", mode = "0644" })
    exec.run({ cmd = "test ! -e /srv/options/broken", read_only = true })
end })
task({ name = "last", run = function()
    file.copy({ content = "x\\n", dest = "/srv/options/last", mode = "0644" })
end })
"""


@pytest.fixture
def day(fleet: Fleet, tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "inventory.toml").write_text(fleet.inventory())
    (tmp_path / "site.sloth").write_text(SITE)
    yield tmp_path
    for name in fleet.addresses:
        fleet.shell(name, "rm -rf /srv/options /tmp/sloth-example")


def run(day: Path, *words: str, status: int = 0) -> str:
    done = sloth(day, "run", "-i", "inventory.toml", "-f", "site.sloth", *words)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr
    return done.stdout


def test_a_failure_is_looked_at_mended_and_finished(fleet: Fleet, day: Path) -> None:
    fleet.shell("host3", "mkdir -p /srv/options && touch /srv/options/broken")
    shown = run(day, "--log", "log.jsonl", "--profile", "times.svg", status=1)
    rows = {row[0]: row for row in (re.split(r"\s{2,}", line) for line in shown.splitlines()) if len(row) == 7}
    assert set(rows) == {"HOST", *fleet.addresses}
    for name in fleet.addresses:
        total, connect, authenticate, start, *_ = (float(cell.removesuffix(" s")) for cell in rows[name][1:])
        assert min(connect, start) > 0
        assert connect + authenticate + start < total
    assert len(ET.parse(day / "times.svg").getroot().findall(".//{*}title")) > 25
    events = [json.loads(line) for line in (day / "log.jsonl").read_text().splitlines()]
    failed = [event["host"] for event in events if event["event"] == "host_finished" and event["status"] == "failed"]
    assert failed == ["host3"]
    assert json.loads(run(day, "--list-hosts", "--limit", "@failed", "-o", "json")) == ["host3"]
    fleet.shell("host3", "rm /srv/options/broken")
    shown = run(day, "--limit", "@failed", "--start-at", "file", "--log", "log.jsonl")
    assert "1 host: 1 changed" in shown
    assert len((day / "log.jsonl").read_text().splitlines()) > len(events)
    assert {fleet.shell(name, "cat /srv/options/last") for name in fleet.addresses} == {"x\n"}
    assert "5 hosts: 0 changed" in run(day)


def test_each_step_is_asked_for_and_holds_for_all_hosts(fleet: Fleet, day: Path) -> None:
    run(day)
    words = ["-m", "sloth", "run", "-i", "inventory.toml", "-f", "site.sloth", "-e", "release=2", "--step"]
    with Terminal(words, day) as terminal:
        for task, answer in (("directory", "n"), ("file", "y"), ("last", "n")):
            terminal.wait_for(f"Run task {task}")
            terminal.press(f"{answer}\n")
        assert terminal.end(60) == 0
    assert terminal.text.count("Run task") == 3
    assert {fleet.shell(name, "cat /srv/options/release") for name in fleet.addresses} == {"release 2\n"}


def test_the_site_of_init_runs_on_real_hosts(fleet: Fleet, day: Path) -> None:
    assert sloth(day, "init", "site").returncode == 0
    made = day / "site"
    hosts = fleet.inventory().replace("[defaults]", "[defaults]\nvars = { directory = '/tmp/sloth-example' }", 1)
    (made / "inventory.toml").write_text(hosts)
    first, second = (
        sloth(day, "run", "-i", "site/inventory.toml", "-f", "site/site.sloth", "--limit", "host1,host2")
        for _ in range(2)
    )
    assert "2 hosts: 4 changed" in first.stdout, first.stdout + first.stderr
    assert "2 hosts: 0 changed" in second.stdout
    assert fleet.shell("host1", "cat /tmp/sloth-example/greeting").startswith("Welcome to host1, ")
