"""One host of the fleet for tests of modules: its shell, runs of one call, and its state."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any
from unittest import mock

from sloth.engine.events import Event, Result
from sloth.engine.options import Options
from sloth.engine.query import Agent, Query
from sloth.inventory import Inventory
from sloth.playbook.adhoc import literal
from tests.support.machines import Fleet
from tests.support.running import results, run_site


class Machine:
    """One host of the fleet, its shell, and a run of one call on it."""

    def __init__(self, fleet: Fleet, directory: Path, host: str = "host1") -> None:
        self.fleet = fleet
        self.host = host
        self.directory = directory
        self.controller = directory / "controller"
        (directory / "inventory.toml").write_text(fleet.inventory(user="root", become="false"))
        (directory / "case.j2").write_text("{{ word }}\n")
        self.inventory = Inventory.read(directory / "inventory.toml")

    def shell(self, script: str, stdin: bytes = b"") -> str:
        return self.fleet.shell(self.host, script, stdin)

    def call(self, name: str, args: dict[str, Any], check: bool = False) -> tuple[Result, list[Event]]:
        site = self.directory / "site.sloth"
        site.write_text(f"task({{ name = 'case', run = function() {name}({literal(args)}) end }})")
        events = asyncio.run(run_site(site, self.inventory, self.controller, Options(check=check), self.host))
        found = results(events)
        assert found, [str(event) for event in events]
        assert found[0].status != "failed", found[0].error + "\n" + found[0].detail
        return found[0], events

    def nothing(self) -> list[Event]:
        """The same site, which names nothing any more: what it once made is pruned."""
        site = self.directory / "site.sloth"
        site.write_text("task({ name = 'case', run = function() end })")
        return asyncio.run(run_site(site, self.inventory, self.controller, Options(prune=True), self.host))

    def state(self, op: str, write: bool = False, **args: Any) -> list[dict[str, Any]]:
        """Ask the host's state."""

        async def ask() -> list[dict[str, Any]]:
            memory = mock.patch.dict(os.environ, {"SLOTH_HOME": str(self.controller)})
            with memory:
                async with Query(write=write, run="undo").session(Agent(self.inventory.hosts[self.host])) as session:
                    return await session.query(op, args)

        return asyncio.run(ask())

    def drifted(self) -> list[dict[str, Any]]:
        """What drift says, but for how many are clean."""
        return [row for row in self.state("drift") if row["status"] != "clean"]

    def tree(self) -> Any:
        return self.fleet.tree(self.host)
