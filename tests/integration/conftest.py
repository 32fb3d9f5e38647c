"""Real SSH servers on loopback for the integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    """Three throw-away hosts: web1, web2, db1."""
    async with LoopbackFleet(("web1", "web2", "db1"), tmp_path / "fleet") as running:
        (tmp_path / "inventory.toml").write_text(running.inventory_toml() + '\n[groups.web]\nhosts = ["web*"]\n')
        yield running


@pytest.fixture
def inventory(fleet: LoopbackFleet, tmp_path: Path) -> Inventory:
    """The inventory of `fleet`."""
    return Inventory.read(tmp_path / "inventory.toml")
