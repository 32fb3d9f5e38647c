"""An export of a host that lies about how much it has."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sloth.cli import transfer
from sloth.errors import StateError
from sloth.passwords import Passwords
from sloth.state.export import writing
from sloth.state.queries import StateQuery, dump_rows

Page = list[dict[str, Any]]


def endless(at: Callable[[int], int]) -> Iterator[Page]:
    return ([{"key": "file:copy:/x", "_at": at(number)}] for number in itertools.count(1))


@pytest.mark.parametrize("at", [lambda number: number, lambda number: 7, lambda number: -number])
async def test_a_state_without_an_end_is_an_error_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: Callable[[int], int]
) -> None:
    sent = endless(at)

    async def ask(query: StateQuery[Any]) -> Page:
        return next(sent)

    @contextlib.asynccontextmanager
    async def opened(*given: object) -> AsyncIterator[Any]:
        yield ask

    monkeypatch.setattr(transfer, "_open", opened)
    monkeypatch.setattr(transfer, "LARGEST", 100_000)
    with (
        pytest.raises(StateError, match="the state of web1 has no end"),
        writing(tmp_path / "dump", ["web1"], None, {}) as writer,
    ):
        await transfer._export("web1", None, ["resources"], writer, Passwords())
    assert list(tmp_path.iterdir()) == []


def test_a_row_without_a_position_is_no_row() -> None:
    for at in (None, "1", True, 1.5, [1]):
        with pytest.raises(StateError, match="invalid answer to the state query dump"):
            dump_rows("resources").read([{"key": "x", "_at": at}])
