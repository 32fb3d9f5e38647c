"""What the web UI can do with --allow-actions: the same as `drift`, `state unlock` and `state freeze`."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from sloth.cli import parameters
from sloth.cli.drift import agents_of
from sloth.cli.output import format_date, format_time
from sloth.cli.state_freeze import read_until
from sloth.engine import custom
from sloth.engine.drift import look_for_drift
from sloth.engine.query import Agent, Query
from sloth.errors import SlothError, StateError, UsageError
from sloth.inventory import Host, Inventory
from sloth.state import queries
from sloth.state.queries import StateQuery
from sloth.state.shared import Shared
from sloth.state.storage import Storage

RECORDED = 30.0  # seconds within which a look for drift must be on record
T = TypeVar("T")
log = logging.getLogger(__name__)


class WebActions:
    """The actions of one server. It asks for no passwords: hosts must be reachable with keys."""

    def __init__(self, read_inventory: Callable[[], Inventory] | None, open_storage: Callable[[], Storage]) -> None:
        self._read_inventory = read_inventory
        self._open_storage = open_storage

    def hosts(self, pattern: str) -> tuple[str, ...]:
        return tuple(host.name for host in self._select(pattern))

    def drift(self, pattern: str, by: str) -> str:
        selected = self._select(pattern)
        storage = self._open_storage()
        agents = agents_of(selected, storage)
        modules = custom.load(*parameters.modules_directories(None, Path.cwd()))
        run = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)
        limit = "" if pattern == "all" else pattern
        about = {"command": ["drift", *(["--limit", limit] if limit else [])], "limit": limit}

        def look() -> None:
            query = Query(custom=modules, storage=storage, warn=log.warning)
            try:
                asyncio.run(look_for_drift(agents, query, about, f"{by} (web UI)", run))
            except SlothError as error:
                log.error("run %s: %s", run, error)

        threading.Thread(target=look, name=f"drift {run}", daemon=True).start()
        self._wait_for(run)
        return run

    def holder(self, lock: str, number: int) -> str:
        found = self._ask_shared(lambda shared: shared.locks.find(lock))
        if found is None or found.number != number:
            now = f": {found.describe()} has it now" if found is not None else ""
            raise StateError(f"the lock {lock} is not held any more as it was shown{now}", hint="look again")
        return f"{found.describe()} has it since {format_time(found.taken)}"

    def unlock(self, lock: str, number: int) -> str:
        freed = self._ask_shared(lambda shared: shared.locks.release_any(lock, lambda now: now.number == number))
        if freed is None:
            raise StateError(f"the lock {lock} was not released: it is not held any more as it was shown")
        return f"released {lock}, which {freed.describe()} held"

    def _ask_shared(self, work: Callable[[Shared], Awaitable[T]]) -> T:
        async def run() -> T:
            shared = self._open_storage().shared()
            try:
                return await work(shared)
            finally:
                await shared.close()

        return asyncio.run(run())

    def freeze(self, host: str, key: str, until: str, why: str) -> str:
        at, seconds = read_until(until)
        until_then = self._edit(host, queries.freeze(key, why, at, seconds))
        return f"froze {key} on {host} until {format_date(until_then)}"

    def unfreeze(self, host: str, key: str) -> str:
        if not self._edit(host, queries.unfreeze(key)):
            raise StateError(f"{key} on {host} is not frozen")
        return f"{key} on {host} is no longer frozen"

    def _edit(self, host: str, query: StateQuery[T]) -> T:
        """Edit the state of one host; return what it answers. Raises SlothError."""
        chosen = self._select(host)
        if len(chosen) != 1:
            raise UsageError(f"{host} must be one host")
        asking = Query(write=True, storage=self._open_storage(), warn=log.warning)
        agent = Agent(chosen[0])
        answer = asyncio.run(asking.states([agent], query))[agent.name]
        if isinstance(answer, SlothError):
            raise answer
        return answer[0]

    def _select(self, pattern: str) -> tuple[Host, ...]:
        if self._read_inventory is None:
            raise UsageError("there is no inventory", hint="start sloth-runner web with -i FILE")
        return parameters.select(self._read_inventory(), pattern, "Hosts")

    def _wait_for(self, run: str) -> None:
        """Wait until a run is on record, so that its page is there."""
        memory = self._open_storage().memory()
        end = time.monotonic() + RECORDED
        try:
            while time.monotonic() < end:
                if memory.runs.given(run) is not None or any(one.run == run for one in memory.runs.newest(20, True)):
                    return
                time.sleep(0.05)
        finally:
            memory.close()
        raise StateError(f"the look for drift {run} has not begun within {RECORDED:g} seconds")
