"""Queries of a host's state that are not answered yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from sloth.errors import HostError, ProtocolError, StateError, StateNotFound
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.session import messages
from sloth.transport.in_flight import retrieve
from sloth.transport.outbox import Outbox

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject, Rows

T = TypeVar("T")
ANSWER = 128 * 1024 * 1024  # bytes of the answer to one query


def read_answer(host: str, op: str, rows: Iterable[JsonObject], read: Callable[[JsonObject], T]) -> list[T]:
    """Return what `read` makes of each row that a host has sent. Raises ProtocolError when it is not as it must be."""
    try:
        return [read(row) for row in rows]
    except (InvalidValue, LookupError, TypeError, ValueError, OverflowError) as error:
        what = error.message if isinstance(error, InvalidValue) else f"{type(error).__name__}: {error}"
        raise ProtocolError(f"{host} sent an invalid answer to the query {op}: {what}") from error


class _Waiting:
    """A query and the pages of its answer so far."""

    def __init__(self, future: asyncio.Future[Rows]) -> None:
        self.future = future
        self.rows: Rows = []
        self.size = 0


class Queries:
    """Every query is answered by pages of rows, or gets a HostError."""

    def __init__(self, host: str, outbox: Outbox) -> None:
        self._host = host
        self._outbox = outbox
        self._waiting: dict[int, _Waiting] = {}

    async def query(self, number: int, op: str, args: JsonObject) -> Rows:
        """Query the host's state; see payload/session/queries.py. Raises StateError, HostError."""
        future: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        future.add_done_callback(retrieve)
        self._waiting[number] = _Waiting(future)
        await self._outbox.send(messages.StateQuery(id=number, op=op, args=args))
        return await future

    def take(self, page: messages.Rows, size: int) -> None:
        """Take a page of rows, of `size` bytes; the last one answers the query. Raises ProtocolError."""
        waiting = self._waiting.get(page.id)
        if waiting is None:
            raise ProtocolError(f"{self._host} sent the answer to a query that was not made")
        future, rows = waiting.future, waiting.rows
        waiting.size += size
        if waiting.size > ANSWER:
            raise ProtocolError(f"{self._host} sent more than {ANSWER} bytes as the answer to one query")
        rows += page.rows
        if page.more:
            return
        del self._waiting[page.id]
        if future.done():
            return
        if page.error:
            kind = StateNotFound if page.not_found else StateError
            future.set_exception(kind(f"{self._host}: {page.error}", hint=page.hint))
        else:
            future.set_result(rows)

    def end(self, error: HostError) -> None:
        """Answer every query with `error`."""
        for waiting in self._waiting.values():
            if not waiting.future.done():
                waiting.future.set_exception(error)
        self._waiting.clear()
