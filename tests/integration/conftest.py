"""What integration tests start from: SSH servers on loopback, or a controller whose hosts are this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.home import Home


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    """Three throw-away hosts: web1, web2, db1."""
    async with LoopbackFleet(("web1", "web2", "db1"), tmp_path / "fleet") as running:
        (tmp_path / "inventory.toml").write_text(running.inventory_toml() + '\n[groups.web]\nhosts = ["web*"]\n')
        yield running


@pytest.fixture
def inventory(servers: LoopbackFleet, tmp_path: Path) -> Inventory:
    """The inventory of `servers`."""
    return Inventory.read(tmp_path / "inventory.toml")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A controller in `tmp_path` with the local hosts web1 and web2."""
    return Home(tmp_path)
