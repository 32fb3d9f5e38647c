"""Fixtures of all tests: the fleet of real hosts (skipped, with the reason, where there can be none) and a vault."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from sloth.state.keys import Keys, generate
from sloth.state.vault import Vault
from tests.support.machines import Fleet, cannot

# A busy machine must not fail a property: tests assert results, not times.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Five real hosts. With SLOTH_FLEET=required (CI) not having them is an error."""
    reason = cannot()
    if reason and os.environ.get("SLOTH_FLEET") != "required":
        pytest.skip(reason)
    directory: Path = tmp_path_factory.mktemp("fleet")
    with Fleet(directory) as running:
        yield running


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    """An empty vault whose key is in the environment."""
    monkeypatch.setenv("SLOTH_KEY", generate())
    return Vault(tmp_path / "secrets.vault", Keys())
