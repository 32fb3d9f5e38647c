"""What hosts answer to queries is read as what it must be, or is an error of that host in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from sloth.engine.reverted import Reverted
from sloth.errors import ProtocolError
from sloth.payload.kernel.findings import Restored
from sloth.transport.queries import read_answer
from tests.support.messages import json_values


@given(json_values)
def test_any_row_is_a_value_or_an_error_that_names_host_and_query(row: Any) -> None:
    readers = (
        lambda row: str(row["run"]),
        lambda row: str(row["boot"]),
        lambda row: int(row["until"]),
        lambda row: row.get("deleted") if isinstance(row, dict) else row["deleted"],
        Reverted.read,
        Restored.read,
    )
    for read in readers:
        assert is_read(row, read), row


def is_read(row: Any, read: Callable[[Any], object]) -> bool:
    """Return whether a row is read as one value, or refused by an error that names the host and the query."""
    try:
        return len(read_answer("web1", "boot", [row], read)) == 1
    except ProtocolError as error:
        return str(error).startswith("web1 sent an invalid answer to the query boot: ")


def test_no_rows_are_no_error() -> None:
    assert read_answer("web1", "boot", [], lambda row: row["boot"]) == []


@pytest.mark.parametrize("rows", [[{"boot": "x"}, {}], [{"boot": "x"}, {"root": 1}]])
def test_each_row_is_read(rows: list[dict[str, object]]) -> None:
    with pytest.raises(ProtocolError):
        read_answer("web1", "boot", rows, lambda row: row["boot"])
