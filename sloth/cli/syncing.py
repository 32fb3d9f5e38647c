"""What commands do with a backend besides their own work: fetch what others have delivered, and deliver what is due.

Commands read local files only. A backend that is away is a warning, and what is there is used.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from sloth.cli.output import warn
from sloth.errors import SlothError, StateError

if TYPE_CHECKING:
    from sloth.state.memory import Memory
    from sloth.state.queries import Difference
    from sloth.state.storage import Storage
    from sloth.state.sync.fetch import Fetching

Work = Callable[["Fetching"], Awaitable[object]]


def fetch_runs(storage: Storage, prefix: str = "") -> None:
    """Fetch the records of the newest runs, or of all whose id begins so; deliver what is due."""
    _synchronize(storage, lambda fetching: fetching.runs(prefix))


def fetch_replicas(storage: Storage, agents: Collection[str]) -> None:
    """Fetch the replicas of these agents; deliver what is due."""
    _synchronize(storage, lambda fetching: fetching.replicas(agents))


def fetch_accounts(storage: Storage, hosts: Iterable[str]) -> None:
    """Fetch the replicas of those accounts of these hosts that are not known yet; deliver what is due."""
    wanted = frozenset(hosts)

    async def work(fetching: Fetching) -> None:
        await fetching.replicas([name for name in await fetching.new_agents() if name.partition("@")[0] in wanted])

    _synchronize(storage, work)


def fetch_news(storage: Storage) -> str:
    """Fetch the newest runs, and the replicas that changed by them; deliver what is due; return why not, or ""."""
    return _synchronize(storage, lambda fetching: fetching.news())


def compare_versions(
    storage: Storage, agents: Collection[str], first: str, last: str
) -> Mapping[str, list[Difference] | SlothError]:
    """Return for each agent what differs between the ends of two runs in the backend, or why that is not known."""
    from sloth.state.sync.compare import compare

    fetch_runs(storage)
    memory = storage.memory()
    for name in (first, last):
        try:
            memory.runs.find(name)
        except StateError:
            fetch_runs(storage, name)  # it may be older than those that are fetched without being named

    async def one(agent: str) -> list[Difference] | SlothError:
        backend = storage.backend()
        assert backend is not None
        try:
            return await compare(backend, memory, agent, first, last)
        except SlothError as error:
            return error

    async def work() -> dict[str, list[Difference] | SlothError]:
        try:
            return {agent: await one(agent) for agent in agents}
        finally:
            await storage.close()

    try:
        return asyncio.run(work())
    finally:
        memory.close()


def deliver(storage: Storage) -> None:
    """Deliver what is due."""
    _synchronize(storage, None)


def _synchronize(storage: Storage, work: Work | None) -> str:
    """Do the work, unless the backend keeps us from it, which is a warning; return why, or ""."""
    if storage.location is None:
        return ""
    memory = storage.memory()
    try:
        asyncio.run(_work(storage, memory, work))
        return ""
    except StateError as error:
        used = "; what this controller has by itself is used" if work is not None else ""
        _warn_once(f"warning: {error.message}{used}" + (f"; hint: {error.hint}" if error.hint else ""))
        return str(error)
    finally:
        memory.close()


@functools.cache
def _warn_once(text: str) -> None:
    warn(text)


async def _work(storage: Storage, memory: Memory, work: Work | None) -> None:
    from sloth.state.sync.deliver import Delivery, probe
    from sloth.state.sync.fetch import Fetching

    backend = storage.backend()
    assert backend is not None
    try:
        await probe(backend)
        delivery = Delivery(memory, backend)
        left = await delivery.finish()
        if left:
            _warn_once(f"warning: {left}")
        if work is None:
            return
        fetching = Fetching(memory, backend)
        await work(fetching)
        for problem in fetching.problems:
            _warn_once(f"warning: {problem}")
    finally:
        await storage.close()
