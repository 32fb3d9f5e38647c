"""Whole sites on real hosts: the seed's own examples, word for word, and the web server of examples/."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.engine.events import Event
from sloth.engine.options import Options
from sloth.inventory import Inventory
from tests.support.machines import Fleet
from tests.support.packages import deb, nginx
from tests.support.paths import EXAMPLES
from tests.support.running import finished_hosts, results, run_site

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

BLOCKS = re.findall(r"```lua\n(.*?)```", (Path(__file__).parent / "SEED.md").read_text(), re.DOTALL)
SEED_HOST = "host4"
WEB_HOSTS = ["host2", "host3"]


def go(fleet: Fleet, site: Path, tmp_path: Path, hosts: list[str], check: bool = False) -> list[Event]:
    (tmp_path / "inventory.toml").write_text(fleet.inventory())
    inventory = Inventory.read(tmp_path / "inventory.toml")
    events = asyncio.run(run_site(site, inventory, tmp_path / "controller", Options(check=check), hosts))
    for event in finished_hosts(events).values():
        assert event.status in ("changed", "unchanged", "skipped"), event.error
    return events


def told(events: list[Event]) -> Counter[tuple[str, str, str]]:
    return Counter((result.key, result.status, result.reason) for result in results(events))


@pytest.fixture(scope="module")
def prepared(fleet: Fleet) -> Iterator[None]:
    """What the seed takes for granted: its files on the controller, and on the host nginx, docker and an app."""
    templates = Path("/templates")
    if templates.exists():
        pytest.skip("/templates is there already, and not ours to write to")
    templates.mkdir()
    (templates / "nginx.conf").write_text("events {}\n")
    (templates / "config.ini").write_text("[app]\n")
    unit = "printf '[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n'"
    fleet.shell(
        SEED_HOST,
        f"groupadd docker; mkdir -p /etc/nginx /app; {unit} > /etc/systemd/system/nginx.service;"
        " systemctl daemon-reload; useradd -m old-user",
    )  # fmt: skip
    try:
        yield
    finally:
        (templates / "nginx.conf").unlink()
        (templates / "config.ini").unlink()
        templates.rmdir()


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_of_the_seed_works_as_written(fleet: Fleet, prepared: None, tmp_path: Path, number: int) -> None:
    site = tmp_path / "site.sloth"
    site.write_text(BLOCKS[number])
    (tmp_path / "nginx.conf").write_text("events {}\n")
    go(fleet, site, tmp_path, [SEED_HOST])
    again = go(fleet, site, tmp_path, [SEED_HOST])
    assert {result.status for result in results(again)} <= {"unchanged"}


def test_the_seed_s_users_are_as_described(fleet: Fleet, prepared: None, tmp_path: Path) -> None:
    site = tmp_path / "site.sloth"
    site.write_text(next(block for block in BLOCKS if '"docker"' in block))
    go(fleet, site, tmp_path, [SEED_HOST])
    assert fleet.shell(SEED_HOST, "getent passwd deploy").strip().endswith(":/home/deploy:/bin/bash")
    assert set(fleet.shell(SEED_HOST, "id -nG deploy").split()) == {"deploy", "sudo", "docker"}


def test_a_web_server_converges_in_one_run(fleet: Fleet, tmp_path: Path) -> None:
    for host in WEB_HOSTS:
        repository = fleet.roots[host] / "srv/repository"
        repository.mkdir()
        nginx.build(repository)
        deb.index(repository)
        (fleet.roots[host] / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/repository ./\n")
    site = EXAMPLES / "webserver" / "site.sloth"
    trees = [fleet.tree(host) for host in WEB_HOSTS]
    go(fleet, site, tmp_path, WEB_HOSTS, check=True)
    assert [fleet.tree(host) for host in WEB_HOSTS] == trees, "a check altered a host"

    first = go(fleet, site, tmp_path, WEB_HOSTS)
    assert {result.status for result in results(first)} == {"changed"}
    for host in WEB_HOSTS:
        with urllib.request.urlopen(f"http://{fleet.addresses[host]}:8080/") as answer:
            assert b"It works" in answer.read()
    second = go(fleet, site, tmp_path, WEB_HOSTS)
    assert {result.status for result in results(second)} == {"unchanged"}

    fleet.shell("host2", "echo '# by hand' >> /etc/nginx/nginx.conf; systemctl stop nginx")
    healed = [key for key in told(go(fleet, site, tmp_path, WEB_HOSTS)) if key[1] == "changed"]
    assert sorted(healed) == [
        ("file:template:/etc/nginx/nginx.conf", "changed", "drift"),
        ("systemd:reload:nginx", "changed", "run"),
        ("systemd:service:nginx", "changed", "drift"),
    ]
