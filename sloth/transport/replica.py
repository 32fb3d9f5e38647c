"""Records for the controller's replica of a host's state, on their way from the host to the controller's files."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sloth.errors import ProtocolError

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject, Rows

TOTAL = 1024 * 1024 * 1024  # bytes of JSON that a host may send at the end of a session
HELD = 64 * 1024 * 1024  # bytes of it that are held, compressed


class ReplicaRows:
    """Rows in the order in which they came, compressed: a host may have 100,000, and many hosts end at once."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._pages: list[bytes] = []
        self._total = 0
        self._held = 0

    def add(self, rows: Rows, size: int) -> None:
        """Take a page of `size` bytes. Raises ProtocolError when a host sends more than a state can hold."""
        page = zlib.compress(json.dumps(rows).encode("ascii"), 1)
        self._total += size
        self._held += len(page)
        if self._total > TOTAL or self._held > HELD:
            raise ProtocolError(f"{self._host} sent more than {TOTAL} bytes of records for its replica")
        self._pages.append(page)

    def __iter__(self) -> Iterator[JsonObject]:
        for page in self._pages:
            yield from json.loads(zlib.decompress(page))
