"""One fleet for all fleet tests; skipped, with the reason, where there can be none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines import Fleet, cannot


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Five real hosts. With SLOTH_FLEET=required (CI) not having them is an error."""
    reason = cannot()
    if reason and os.environ.get("SLOTH_FLEET") != "required":
        pytest.skip(reason)
    directory: Path = tmp_path_factory.mktemp("fleet")
    with Fleet(directory) as running:
        yield running
