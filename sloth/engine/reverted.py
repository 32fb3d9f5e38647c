"""What a host has taken back by itself, since nobody confirmed it: as it reports it when it is next connected to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.payload.kernel.value import Value

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject


class Reverted(Value):
    """The changes of one task; rows: what became of each, error: why not all could be taken back."""

    run: str
    task: str
    why: str
    at: int = 0
    error: str = ""
    rows: list[JsonObject] = []
