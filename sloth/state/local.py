"""This machine's own state file, opened without a session: for state commands of the agent `local`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from sloth.errors import StateError
from sloth.payload.kernel.errors import StoreError
from sloth.payload.lib.host import state_directory
from sloth.payload.session.messages import LockHolder
from sloth.payload.session.queries import query
from sloth.payload.session.run_lock import HeldByOther, RunLock
from sloth.payload.state.store import Store

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject, Rows

LOCAL = "local"
WAIT = 10.0  # seconds for a run on this machine to end


class LocalState:
    """A context manager; write: under the run lock of this machine."""

    def __init__(self, write: bool = False, warn: Callable[[str], None] = lambda text: None) -> None:
        """warn: called with what the user should know, and is no error."""
        self._home = str(Path.home())
        self._lock = RunLock(os.path.dirname(state_directory(self._home))) if write else None
        self._write = write
        self._warn = warn

    def __enter__(self) -> LocalState:
        if self._lock is not None:
            holder = LockHolder(run="state command", who="state", origin=LOCAL)
            try:
                self._lock.acquire(holder, WAIT, lambda other: None, lambda: False)
            except HeldByOther as error:
                run = f" (run {error.holder.run} of {error.holder.who})" if error.holder.run else ""
                raise StateError(
                    f"this machine is locked by another run{run}", hint="wait for that run to end"
                ) from error
        try:
            self._store = Store(os.path.join(state_directory(self._home), f"{LOCAL}.db"), readonly=not self._write)
            if self._store.aside:
                self._warn(f"{LOCAL}: the state file was damaged; it is kept as {self._store.aside}")
        except StoreError as error:
            self._release()
            raise StateError(error.message, hint=error.hint) from error
        return self

    def query(self, op: str, args: JsonObject) -> Rows:
        """Return the rows of a query (payload/session/queries.py). Raises StateError."""
        return run_query(self._store, op, args)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self._store.abandon()
            self._store.close()
        except StoreError as problem:
            raise StateError(problem.message, hint=problem.hint) from problem
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()


def query_replica(path: Path, op: str, args: JsonObject) -> Rows:
    """Return the rows of a query of a replica. Raises StateError."""
    try:
        store = Store(str(path), readonly=True)
    except StoreError as error:
        raise StateError(error.message, hint=error.hint) from error
    try:
        return run_query(store, op, args)
    finally:
        store.close()


def run_query(store: Store, op: str, args: JsonObject) -> Rows:
    """Return the rows of a query of an open state file. Raises StateError."""
    try:
        return query(store, op, args)
    except StoreError as error:
        raise StateError(error.message, hint=error.hint) from error
