"""An account of this machine for tests of the payload, and a session with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.payload import Peer, connected


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of an account, with its own state."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def peer(account: Path) -> Iterator[Peer]:
    """A session of a run with the account."""
    with connected(account) as found:
        yield found
