"""Queries of a host's state that are not answered yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from sloth.errors import HostError, ProtocolError, StateError, StateNotFound
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.session import messages
from sloth.transport.in_flight import CallsInFlight, retrieve
from sloth.transport.outbox import Outbox

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject, Rows

T = TypeVar("T")
ANSWER = 128 * 1024 * 1024  # bytes of the answer to one query
READ = 120.0  # seconds for the answer to a query that reads the state file, from when it is its turn
WORK = 1800.0  # seconds for one that looks at or changes what the state is about
WORKS = frozenset({"check", "drift", "orphans", "prune", "revert", "rollback", "vacuum"})
RATE = 32 * 1024  # bytes of an answer for which a host gets another second: its link may be slow
TURN = 5.0  # seconds after which it is looked at again whose turn it is


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
    """Every query is answered by pages of rows, or gets a HostError, in bounded time."""

    def __init__(
        self, host: str, outbox: Outbox, calls: CallsInFlight, on_timeout: Callable[[HostError], None]
    ) -> None:
        """calls: those of the same session, which the host answers in turn; on_timeout: ends the session."""
        self._host = host
        self._outbox = outbox
        self._calls = calls
        self._on_timeout = on_timeout
        self._waiting: dict[int, _Waiting] = {}

    async def query(self, number: int, op: str, args: JsonObject) -> Rows:
        """Query the host's state; see payload/session/queries.py. Raises StateError, HostError."""
        future: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        future.add_done_callback(retrieve)
        self._waiting[number] = waiting = _Waiting(future)
        await self._outbox.send(messages.StateQuery(id=number, op=op, args=args))
        limit = WORK if op in WORKS else READ
        waited = 0.0
        while not future.done() and waited < limit + waiting.size / RATE:
            step = min(TURN, limit)
            waited += step if self._is_turn_of(number) else 0.0
            try:
                await asyncio.wait({future}, timeout=step)
            except asyncio.CancelledError:
                future.cancel()  # nobody waits for it, so that it is nobody's turn
                raise
        if not future.done():
            error = f"{self._host} gives signs of life, but has not answered the query {op} within {waited:g} seconds"
            self._on_timeout(HostError(error, hint="what it reads may hang, such as a network file system"))
        return await future

    def _is_turn_of(self, number: int) -> bool:
        """Return whether the host has answered what was sent to it before: calls may take as long as they need."""
        queries = (other for other, waiting in self._waiting.items() if not waiting.future.done())
        return min(self._calls.oldest or number, *queries) >= number

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
