"""State files of this machine, opened without a session: its own, for the agent `local`, and the replicas of hosts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sloth.errors import StateError, StateNotFound
from sloth.payload.kernel.errors import NotFound, StoreError
from sloth.payload.lib.host import find_directory, state_directory
from sloth.payload.session.messages import LockHolder
from sloth.payload.session.queries import query as run_query
from sloth.payload.session.run_lock import HeldByOther, RunLock
from sloth.payload.state.store import Store
from sloth.state.queries import StateQuery

LOCAL = "local"
LOCK_WAIT = 10.0  # seconds for a run on this machine to end
T = TypeVar("T")


class _OpenState:
    """A state file that is open."""

    _store: Store

    def query(self, query: StateQuery[T]) -> list[T]:
        """Return the answer to a query. Raises StateError."""
        return _answer(self._store, query)


class LocalState(_OpenState):
    """The state of the agent `local`; a context manager that opens and closes it.

    Its queries are one transaction, undone after an exception.
    """

    def __init__(self, write: bool = False, warn: Callable[[str], None] = lambda text: None) -> None:
        """write: take the run lock of this machine, and allow changes; warn: is called with warnings for the user."""
        self._directory = find_directory()
        self._lock = RunLock(self._directory) if write else None
        self._write = write
        self._warn = warn

    def __enter__(self) -> LocalState:
        if self._lock is not None:
            holder = LockHolder(run="state command", who="state", origin=LOCAL)
            try:
                self._lock.acquire(holder, LOCK_WAIT, lambda other: None, lambda: False)
            except HeldByOther as error:
                run = f" (run {error.holder.run} of {error.holder.who})" if error.holder.run else ""
                raise StateError(
                    f"this machine is locked by another run{run}", hint="wait for that run to end"
                ) from error
        try:
            self._store = Store(os.path.join(state_directory(self._directory), f"{LOCAL}.db"), readonly=not self._write)
            if self._store.aside:
                self._warn(f"{LOCAL}: the state file was damaged; it is kept as {self._store.aside}")
        except StoreError as error:
            self._release()
            raise StateError(error.message, hint=error.hint) from error
        return self

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


def query_replica(path: Path, query: StateQuery[T]) -> list[T]:
    """Return the answer of a replica to a query. Raises StateError."""
    with ReplicaState(path) as replica:
        return replica.query(query)


class ReplicaState(_OpenState):
    """The controller's copy of the state of an agent; its queries see it as it was when it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> ReplicaState:
        try:
            self._store = Store(str(self._path), readonly=True)
            self._store.execute("BEGIN")
        except StoreError as error:
            raise StateError(error.message, hint=error.hint) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()


def _answer(store: Store, query: StateQuery[T]) -> list[T]:
    try:
        return query.read(run_query(store, query.op, query.args))
    except NotFound as error:
        raise StateNotFound(error.message, hint=error.hint) from error
    except StoreError as error:
        raise StateError(error.message, hint=error.hint) from error
    except ValueError as error:
        raise StateError(
            f"the file of the state has a damaged record: {error}", hint="state check shows more"
        ) from error
