"""Fixtures of all tests: the fleet of real hosts (skipped, with the reason, where there can be none) and a vault."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings

from sloth.state.keys import Keys, generate
from sloth.state.vault import Vault
from tests.support.machines import Fleet, cannot

# A busy machine must not fail a property: tests assert results, not times. CI tries the same examples each time, so
# that it judges the commit; new ones are tried on people's machines.
settings.register_profile("unhurried", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home for all tests, so that none uses the files of whoever runs them."""
    home = tmp_path_factory.mktemp("home")
    with mock.patch.dict(os.environ, {"HOME": str(home)}):
        yield home


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
