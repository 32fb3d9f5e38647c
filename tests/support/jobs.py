"""Runs in the test's own process that have not begun, with a backend that can hang or fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from sloth.engine.events import Event, Log
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.errors import StateError
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.backends.backend import Entry
from sloth.state.backends.sqlite import SQLite
from sloth.state.memory import Memory
from sloth.state.shared import Shared


class Backend(SQLite):
    """A backend that can hang, or fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = asyncio.Event()
        self.hangs = self.fails = False

    async def read(self, key: str) -> Entry | None:
        self.asked.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise StateError("no route to host")
        return await super().read(key)


class Job:
    """A run of site text that a test interrupts; on_event is called with each event."""

    def __init__(self, directory: Path, inventory: Inventory, source: str, hosts: str = "all") -> None:
        (directory / "site.sloth").write_text(source)
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = lambda event: None
        self.memory = Memory(directory / "controller")
        self.backend = Backend(directory / "shared.db")
        self.shared = Shared(self.backend)
        site = Site.read(str(directory / "site.sloth"))
        self.run = Run(site, inventory, inventory.select(hosts), Options(), self._emit, self.memory, self.shared)

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def texts(self) -> list[str]:
        """Return what was logged."""
        return [event.text for event in self.events if isinstance(event, Log)]
