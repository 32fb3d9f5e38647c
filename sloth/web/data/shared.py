"""What runs share: values, locks and who holds them, and what somebody has frozen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from sloth.errors import SlothError, StateError
from sloth.frozen import frozen
from sloth.web.data.holding import Holder, find_holders
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.state.shared import Shared
    from sloth.web.view import Query

T = TypeVar("T")
PATIENCE = 5.0  # seconds for which a page waits for a backend
MOST = 1000  # values that are shown
LONGEST = 2000  # characters of a value


@frozen
class SharedValue:
    """A shared value, as JSON; one that is sealed is masked."""

    name: str
    value: str


@frozen
class HeldLock:
    """A lock that is held. Times are epoch seconds of the backend's clock; number: its fencing number."""

    name: str
    holder: str
    taken: float
    expires: float
    number: int


@frozen
class HeldHost:
    """A host, and the run that holds it."""

    host: str
    holder: Holder


@frozen
class Frozen:
    """What the newest run or drift run on a host has left alone; text: by whom, why and until when it is frozen."""

    host: str
    key: str
    text: str
    at: float


@frozen
class SharedState:
    """Values, locks, and what is frozen.

    Attributes:
        problem: why the backend cannot be read, "" when it can.
        more: how many values are not among `shared_values`.
        hosts: those that runs are at work on, and so hold the run lock of; more_hosts: how many are not among them.
    """

    shared_values: tuple[SharedValue, ...]
    more: int
    locks: tuple[HeldLock, ...]
    hosts: tuple[HeldHost, ...]
    more_hosts: int
    frozen: tuple[Frozen, ...]
    problem: str


def find_shared(source: Source, query: Query) -> SharedState:
    """Return what runs share."""
    values: tuple[SharedValue, ...] = ()
    locks: tuple[HeldLock, ...] = ()
    more, problem = 0, ""
    try:
        values, more, locks = ask(source, _read)
    except SlothError as error:
        problem = str(error)
    rows = source.database.rows(
        "SELECT r.host, r.key, r.error, coalesce(r.at, u.started), max(r.rowid) FROM run_results r"
        " JOIN runs u ON u.run=r.run JOIN cache.hosts h ON h.host=r.host AND r.run IN (h.run, h.drift_run)"
        " WHERE r.run IN (SELECT run FROM cache.hosts UNION SELECT drift_run FROM cache.hosts) AND r.status='frozen'"
        " GROUP BY r.host, r.key ORDER BY r.host, r.key"
    )
    frozen = tuple(Frozen(row[0], row[1], row[2] or "", row[3]) for row in rows)
    held = [HeldHost(host, one) for host, one in sorted(find_holders(source).items()) if one.is_at_work]
    return SharedState(values, more, locks, tuple(held[:MOST]), max(0, len(held) - MOST), frozen, problem)


def ask(source: Source, work: Callable[[Shared], Awaitable[T]]) -> T:
    """Return what work() does with what is shared, wherever that is. Raises SlothError."""

    async def run() -> T:
        shared = source.storage().shared()
        try:
            async with asyncio.timeout(PATIENCE):
                return await work(shared)
        except TimeoutError:
            hint = "is it running, and can this machine reach it? Everything else here is what this controller has"
            raise StateError(f"the backend has not answered within {PATIENCE:g} seconds", hint=hint) from None
        finally:
            await shared.close()

    return asyncio.run(run())


async def _read(shared: Shared) -> tuple[tuple[SharedValue, ...], int, tuple[HeldLock, ...]]:
    names = await shared.list()
    values = []
    for name in names[:MOST]:
        text = json.dumps(await shared.get(name), sort_keys=True, ensure_ascii=False)
        values.append(SharedValue(name, text if len(text) <= LONGEST else text[:LONGEST] + "…"))
    locks = [
        HeldLock(lock.name, lock.describe(), lock.taken, lock.expires, lock.number)
        for lock in await shared.locks.held()
    ]
    return tuple(values), max(0, len(names) - MOST), tuple(locks)
