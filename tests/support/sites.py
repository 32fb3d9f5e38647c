"""Runs the body of a task on one host of the fleet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.events import Event
from sloth.engine.options import Options
from sloth.inventory import Inventory
from tests.support.machines import Fleet
from tests.support.running import finished_hosts, results, run_site

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
