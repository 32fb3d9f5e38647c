"""The hosts on which calls are made for other ones, and the sessions with them, which all hosts of a run share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sloth.engine.events import CallOutput, Event, HostPhase, Log, Phase, PhaseKind
from sloth.engine.scan import delegate_hint
from sloth.errors import CallError, ConnectionLost, HostError, StateError, Unreachable
from sloth.inventory import Host, Inventory
from sloth.payload.session.messages import LockHolder
from sloth.playbook import LogLevel
from sloth.state.patience import patiently
from sloth.transport import Listener, Session

if TYPE_CHECKING:
    from sloth.engine.calls import Calls
    from sloth.engine.fetch import Sink
    from sloth.engine.sessions import Sessions

LOCAL = "local"  # the controller's own machine
END = 4.0  # seconds to close a session of an interrupted run
Key = tuple[str, str]  # the names of a host and an account


def find_delegate(inventory: Inventory, name: str, where: str = "") -> Host:
    """Return the host of a name to which something is delegated. Raises CallError with the nearest name."""
    host = inventory.hosts.get(name)
    if host is None and name == LOCAL:
        return Inventory.local().hosts[LOCAL]
    if host is None:
        raise CallError(f"delegate_to names the host {name}, which the inventory does not have",
                        hint=delegate_hint([*inventory.hosts, LOCAL], name), where=where)  # fmt: skip
    return host


class Delegates:
    """Opens the sessions when they are first needed, and again when one has ended; closes them after all hosts."""

    def __init__(self, sessions: Sessions, emit: Callable[[Event], None]) -> None:
        self._sessions = sessions
        self._emit = emit
        self._opened: dict[Key, asyncio.Task[Session]] = {}
        self._hosts: dict[str, Host] = {}
        self._users: dict[Key, dict[str, Calls]] = {}
        self._shipped: dict[Key, set[str]] = {}

    def uses(self, host: Host) -> bool:
        """Return whether the connection to a host is needed until the run ends."""
        return host.name in self._hosts

    async def get(self, delegate: Host, account: str, origin: str, calls: Calls) -> Session:
        """Return the session with `delegate`; calls: of `origin`, the host for which it is used. Raises HostError."""
        key = (delegate.name, account)
        self._hosts[delegate.name] = delegate
        self._users.setdefault(key, {})[origin] = calls
        task = self._opened.get(key)
        if task is None or _has_ended(task):
            task = self._opened[key] = asyncio.create_task(self._open(delegate, account, task))
        return await asyncio.shield(task)

    async def begin_call(self, delegate: str) -> None:
        """Wait until a call may be made on a delegate. In one process all are made in one session, in their order."""

    def end_call(self, delegate: str) -> None:
        """Take note that such a call has ended."""

    def shipped(self, delegate: Host, account: str) -> set[str]:
        """Return the set of hashes of contents that the account has got."""
        return self._shipped.setdefault((delegate.name, account), set())

    async def _open(self, delegate: Host, account: str, former: asyncio.Task[Session] | None) -> Session:
        if former is not None and not former.cancelled() and former.exception() is None:
            session = former.result()
            end = session.end
            await session.abort()
            if isinstance(end, Unreachable):
                await self._sessions.reconnect(delegate)
        elif former is not None and not former.cancelled() and isinstance(former.exception(), Unreachable):
            await self._sessions.reconnect(delegate)
        key = (delegate.name, account)
        opened: list[Session] = []
        listener = Listener(
            output=lambda number, stream, text: self._on_output(key, opened, number, stream, text),
            waiting=lambda holder: self._on_waiting(key, holder),
            fetch=lambda number: self._on_fetch(key, opened, number),
        )
        session = await self._sessions.open(delegate, account, listener)
        opened.append(session)
        return session

    def _on_output(self, key: Key, opened: list[Session], wire_id: int, stream: str, text: str) -> None:
        for origin, calls in self._users[key].items():
            call = calls.on_wire(opened[0], wire_id) if opened else None
            if call is not None and not call.is_sensitive:
                self._emit(CallOutput(time.time(), origin, call.task, call.title, stream, text))

    def _on_waiting(self, key: Key, holder: LockHolder) -> None:
        for origin in self._users[key]:
            self._emit(HostPhase(time.time(), origin, Phase(PhaseKind.LOCKED, holder=holder)))

    def _on_fetch(self, key: Key, opened: list[Session], wire_id: int) -> Sink:
        from sloth.engine import fetch  # few runs fetch files from delegates

        for calls in self._users[key].values():
            call = calls.on_wire(opened[0], wire_id) if opened else None
            if call is not None and call.destination is not None:
                return fetch.store.sink(call.destination)
        raise HostError(f"{key[0]} sends a file that was not requested")

    def abandon(self) -> None:
        """End every session at once: the user has interrupted the run again."""
        for (name, _), task in self._opened.items():
            if task.done() and not _has_ended(task):
                task.result().end_now(ConnectionLost(f"{name}: the run was interrupted"))

    async def close(self, is_interrupted: Callable[[], bool]) -> bool:
        """Close all sessions; return whether each of them ended well."""
        ends = await asyncio.gather(*(self._close(key, is_interrupted) for key in self._opened))
        for host in self._hosts.values():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END):
                    await self._sessions.disconnect(host)
        return all(ends)

    async def _close(self, key: Key, is_interrupted: Callable[[], bool]) -> bool:
        (name, account), task = key, self._opened[key]
        if not task.done():
            task.cancel()
            with contextlib.suppress(HostError, asyncio.CancelledError):
                await (await task).abort()
            return True
        if task.cancelled() or task.exception() is not None:
            return True  # the calls that needed it have failed
        session, host = task.result(), self._hosts[name]
        if session.end is not None:
            await session.abort()
            return True
        try:
            async with asyncio.timeout(END if is_interrupted() else None):
                replica, _ = await session.close()
        except (HostError, TimeoutError) as error:
            if not is_interrupted():
                text = f"what was delegated to it may not be recorded: {error}"
                self._emit(Log(time.time(), name, "", LogLevel.ERROR, text))
            await session.abort()
            return is_interrupted()
        shipped = self.shipped(host, account)
        try:
            await patiently(
                lambda: self._sessions.remember(host, account, replica, session.replica_rows, shipped), is_interrupted
            )
        except StateError as problem:  # it is only a memory, and the next run asks the host again
            text = f"the controller cannot remember this run: {problem}"
            self._emit(Log(time.time(), name, "", LogLevel.WARN, text))
        return True


def _has_ended(task: asyncio.Task[Session]) -> bool:
    """Return whether another session is to be opened: this one could not be, or has ended."""
    if not task.done():
        return False
    return task.cancelled() or task.exception() is not None or task.result().end is not None
