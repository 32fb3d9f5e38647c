"""A client of the installed package: mypy --strict must accept it, and it must run. It shows what py.typed promises."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from sloth.engine.events import CallFinished, Event, HostFinished
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.errors import SlothError
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.storage import Storage


async def run_site(directory: Path) -> list[str]:
    """Run a site of one task on this machine in check mode, and return the keys of its calls."""
    site = directory / "site.sloth"
    site.write_text('task({name = "t", run = function() file.copy({dest = "~/x", content = "x"}) end})')
    keys: list[str] = []

    def receive(event: Event) -> None:
        if isinstance(event, CallFinished):
            keys.append(event.result.key)
        elif isinstance(event, HostFinished) and event.error is not None:
            raise SlothError(str(event.error))

    storage = Storage(directory)
    memory = storage.memory()
    try:
        inventory = Inventory.local()
        shared = storage.shared()
        options = Options(check=True)
        await Run(Site.read(str(site)), inventory, inventory.select("all"), options, receive, memory, shared).run()
    finally:
        memory.close()
    return keys


with tempfile.TemporaryDirectory() as scratch:
    assert asyncio.run(run_site(Path(scratch))) == [f"file:copy:{Path.home()}/x"]
