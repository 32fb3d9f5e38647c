"""The sessions of one host in a run: one for each account, opened when it is first needed, and again when it broke."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from sloth.engine import fetch
from sloth.engine.calls import Calls
from sloth.engine.context import RunContext
from sloth.engine.events import CallOutput, HostPhase, Phase, PhaseKind, SessionOpened
from sloth.errors import HostError, ProtocolError, Unreachable, Unresponsive
from sloth.inventory import Host
from sloth.transport import Listener, Opening, Session


class HostSessions:
    """Opens and drops sessions. open: those that there are, by account; "" is the one we log in as."""

    def __init__(self, context: RunContext, host: Host, calls: Calls) -> None:
        self._context = context
        self._host = host
        self._calls = calls
        self.open: dict[str, Session] = {}
        self._reported: Opening | None = None  # of the connection, whose sessions are several

    async def get(self, become: bool | str | None, task: str = "") -> Session:
        """Return the session of the account that a task runs as, opened if needed; become: as the task gives it.

        Raises HostError, and the CallError of an earlier call.
        """
        account = self.account(become)
        if account in self.open and self.open[account].end is not None:
            await self._calls.sync()
            await self.drop_ended()
        ended = self.open[account].end if account in self.open else None
        if ended is not None:
            raise ended
        if account not in self.open:
            await self._calls.sync()  # calls as another account come after those before them
            opened: list[Session] = []
            listener = Listener(
                output=lambda number, stream, text: self._on_output(opened, number, stream, text),
                waiting=lambda holder: self._phase(Phase(PhaseKind.LOCKED, holder=holder)),
                fetch=lambda number: self._on_fetch(opened, number),
            )
            session = await self._context.sessions.open(
                self._host, account, listener, lambda: self._phase(Phase(PhaseKind.CONNECTING))
            )
            self._phase(Phase(PhaseKind.WORKING, task=task))
            session.ready.add_done_callback(lambda ready: self._report_ready(session, account))
            opened.append(session)
            self.open[account] = session
        return self.open[account]

    def connect(self) -> None:
        """Begin to connect to the host, if that has not begun; get() will need it."""
        if not self.open:
            self._context.sessions.begin(self._host, lambda: self._phase(Phase(PhaseKind.CONNECTING)))

    async def open_fresh(self, account: str) -> Session:
        """Open a session over a connection of its own, beside those that there are. Raises HostError."""
        opened: list[Session] = []
        listener = Listener(
            output=lambda number, stream, text: self._on_output(opened, number, stream, text),
            fetch=lambda number: self._on_fetch(opened, number),
        )
        session = await self._context.sessions.open_fresh(self._host, account, listener)
        opened.append(session)
        try:
            await session.ready
        except BaseException:
            await session.abort()
            raise
        return session

    async def close_fresh(self) -> None:
        """Close the connections of open_fresh()."""
        await self._context.sessions.close_fresh(self._host)

    @contextlib.contextmanager
    def only(self, account: str, session: Session) -> Iterator[None]:
        """Let calls as `account` use this session, and no other session be used, for a while."""
        others = dict(self.open)
        self.open.clear()
        self.open[account] = session
        try:
            yield
        finally:
            self.open.clear()
            self.open.update(others)

    @property
    def have_been_ready(self) -> bool:
        """Whether the host was at work before its connection was lost."""
        return any(session.has_been_ready for session in self.open.values())

    async def drop_ended(self) -> None:
        """Forget sessions that could not start or broke; another is opened when one is needed."""
        for account, session in list(self.open.items()):
            if session.end is not None and _may_be_replaced(session, session.end):
                del self.open[account]
                await session.abort()

    async def disconnect(self) -> None:
        """Forget all sessions, since the connection was lost; the next call connects again."""
        sessions = list(self.open.values())
        self.open.clear()
        for session in sessions:
            await session.abort()
        await self._context.sessions.reconnect(self._host)
        self._calls.forget_lost()

    def account(self, become: bool | str | None) -> str:
        """Return the account that a task runs as: "" is the one we log in as."""
        return account_of(self._host, become)

    def _report_ready(self, session: Session, account: str) -> None:
        """Report how long it took until a session could be used; one that has failed is reported as an error."""
        if not session.has_been_ready:
            return
        opening = Opening() if session.opening is self._reported else session.opening
        self._reported = session.opening
        start = asyncio.get_running_loop().time() - session.begun
        self._context.emit(
            SessionOpened(time.time(), self._host.name, account, opening.connect, opening.authenticate, start)
        )

    def _phase(self, phase: Phase) -> None:
        self._context.emit(HostPhase(time.time(), self._host.name, phase))

    def _on_output(self, opened: list[Session], wire_id: int, stream: str, text: str) -> None:
        """Report what a running command printed."""
        call = self._calls.on_wire(opened[0], wire_id) if opened else None
        if call is not None and not call.is_sensitive:
            self._context.emit(CallOutput(time.time(), self._host.name, call.task, call.title, stream, text))

    def _on_fetch(self, opened: list[Session], wire_id: int) -> fetch.Sink:
        """Return where the file of a call goes. Raises OSError when it cannot be stored."""
        call = self._calls.on_wire(opened[0], wire_id) if opened else None
        if call is None or call.destination is None:
            raise HostError(f"{self._host.name} sends a file that was not requested")
        return fetch.store.sink(call.destination)


def account_of(host: Host, become: bool | str | None) -> str:
    """Return the account of a host that `become` means: "" is the one we log in as."""
    if become is None:
        return host.become or ""
    if become is True:
        return host.become or "root"
    return become or ""


def _may_be_replaced(session: Session, end: HostError) -> bool:
    """Return whether another session may follow one that has ended: nothing that this one did is in doubt."""
    if isinstance(end, (Unreachable, ProtocolError)):
        return False
    return isinstance(end, Unresponsive) or not session.has_been_ready
