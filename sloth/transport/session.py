"""A session with one payload: messages in and out, until it ends and everything that still waits is answered.

What it consists of is in files of its own: the start (bootstrap), what goes to the host (outbox), the calls and queries
that are not answered yet (in_flight, queries). They meet here, since they end together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, TypeVar

from sloth.errors import BootstrapError, ConnectionLost, HostError, ProtocolError, WrongMachine
from sloth.frozen import frozen
from sloth.payload.kernel import findings  # noqa: F401  Bye holds some, which are read by their name
from sloth.payload.kernel.record import ReplicaChange
from sloth.payload.kernel.status import FailureKind
from sloth.payload.session import messages, wire
from sloth.payload.session.messages import Evaluation, Hello, LockHolder, Ready, Reply
from sloth.transport import exit_errors, replies
from sloth.transport.assets import Asset
from sloth.transport.bootstrap import Bootstrap
from sloth.transport.connection import Connection, Opening
from sloth.transport.in_flight import CallsInFlight, Sink, retrieve
from sloth.transport.outbox import Outbox
from sloth.transport.queries import Queries, read_answer

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject, Rows
    from sloth.transport.in_flight import Frames
    from sloth.transport.replica import ReplicaRows

T = TypeVar("T")
PING = 15.0  # seconds between signs of life
SIGNS = 60  # signs of life that a host may send besides one a second
SILENCE = 60.0  # seconds without one from the host, which sends them whatever it is busy with
BYE = 60.0  # seconds for the payload to look for orphans, commit and answer
CLOSE = 10.0  # seconds for the host to take what was sent before the session closes
CANCEL = 1.0  # seconds for the host to take a cancellation
READ = 256 * 1024


@frozen
class Listener:
    """What a session reports while it runs. Numbers are those that submit() has returned."""

    output: Callable[[int, str, str], None] = lambda number, stream, text: None
    waiting: Callable[[LockHolder], None] = lambda holder: None  # another run holds the host
    fetch: Callable[[int], Sink] | None = None  # where the file of a call goes


class Session:
    """Every future that it hands out is answered or gets a HostError: nothing hangs."""

    def __init__(
        self, connection: Connection, bootstrap: Bootstrap, hello: Hello, listener: Listener | None = None
    ) -> None:
        listener = listener or Listener()
        self._host = bootstrap.host
        self._hello = hello
        self._bootstrap = bootstrap
        self._connection = connection
        self._listener = listener
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = iter(range(1, 2**31))
        self._outbox = Outbox(self._host, self._spawn)
        self._calls = CallsInFlight(self._host, self._outbox, listener.fetch)
        self._queries = Queries(self._host, self._outbox, self._calls, self._finish)
        self._received = 0  # chunks that the host has sent
        self._signs = 0  # signs of life among them
        self.begun = asyncio.get_running_loop().time()
        self._is_closing = False
        self.replica_rows: ReplicaRows | None = None  # what came before Bye, if anything did
        self._secrets: set[str] = set()
        self._submitting = asyncio.Lock()
        loop = asyncio.get_running_loop()
        self._bye: asyncio.Future[messages.Bye] = loop.create_future()
        self.ready: asyncio.Future[Ready] = loop.create_future()
        self._bye.add_done_callback(retrieve)
        self.ready.add_done_callback(retrieve)

    @property
    def end(self) -> HostError | None:
        """Why it has ended; None while it has not."""
        return self._outbox.end

    @property
    def opening(self) -> Opening:
        """How long it took to open the connection that it uses."""
        return self._connection.opening

    @property
    def has_been_ready(self) -> bool:
        """Whether the payload has opened the session, which may have ended since."""
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None

    @property
    def running(self) -> int:
        """The number of the oldest call that is not answered, which is the one that runs; 0 when there is none."""
        return self._calls.oldest

    # Life

    async def open(self) -> None:
        """Start the payload and greet it; what fails later fails in the calls. Raises HostError."""
        await self._bootstrap.start(self._connection, self._outbox, wire.pack(self._hello))
        self._spawn(self._converse())
        self._spawn(self._keep_alive())
        self._spawn(self._watch())

    async def close(self, evaluation: Evaluation | None = None) -> tuple[ReplicaChange | None, messages.Bye]:
        """Let the payload commit and end; return how our replica changes, and its goodbye. Raises HostError.

        evaluation: given when all of the site was evaluated; the goodbye then names what it no longer does. What the
        replica lacks is in `replica_rows`.
        """
        try:
            self._is_closing = True
            await self._send_close(messages.Close(evaluation=evaluation))
            bye = await asyncio.wait_for(asyncio.shield(self._bye), BYE)
            return bye.replica, bye
        except TimeoutError:
            raise ConnectionLost(f"{self._host} did not close the session within {BYE:g} seconds") from None
        finally:
            await self.abort()

    async def _send_close(self, close: messages.Close) -> None:
        # A host that does not read what it was sent before will not read this: do not wait for as long again.
        limit = max(1.0, CLOSE - self._outbox.stuck_for())
        try:
            async with asyncio.timeout(limit):
                await self._outbox.send(close)
        except TimeoutError:
            raise ConnectionLost(f"{self._host} does not read what is sent to it", hint="run again") from None

    def end_now(self, error: HostError) -> None:
        """Answer everything that still waits with `error`, and send nothing more; abort() must follow."""
        self._finish(error)

    async def abort(self) -> None:
        """End the session now."""
        self._finish(ConnectionLost(f"{self._host}: the session was closed"))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._bootstrap.kill()

    def _finish(self, error: HostError) -> None:
        """Answer everything that still waits with `error`; nothing more will come."""
        if self._outbox.end is not None:
            return
        self._outbox.end = error
        self._calls.end(error)
        self._queries.end(error)
        if not self.ready.done():
            self.ready.set_exception(error)
        if not self._bye.done():
            self._bye.set_exception(error)
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` in the background; an error of it ends the session."""

        async def guarded() -> None:
            try:
                await work
            except HostError as error:
                self._finish(error)
            except Exception as error:
                self._finish(ProtocolError(f"{self._host}: {type(error).__name__}: {error}"))

        def forget(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            work.close()  # it has not even begun if the session has ended meanwhile

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(forget)

    async def _keep_alive(self) -> None:
        """Send signs of life, and end the session when the host sends none: its payload may be stopped.

        What it takes is one, too, since its own may be slow behind a slow link. They are counted in our own: after a
        time in which the controller was asleep or busy, a host must get the time to be heard.
        """
        quiet = seen = 0
        while True:
            await asyncio.sleep(PING)
            signs = self._received + self._outbox.taken
            quiet = quiet + 1 if signs == seen and self.ready.done() else 0
            seen = signs
            if quiet * PING >= SILENCE:
                raise ConnectionLost(
                    f"{self._host} has given no sign of life for {SILENCE:g} seconds",
                    hint="its payload may be stopped, or the network down; run again",
                )
            self._outbox.post_first(messages.Ping())

    async def _watch(self) -> None:
        """Report a payload that starts but never becomes ready (and waits for no lock) as an error."""
        limit = self._bootstrap.timeout * 2 + self._hello.lock_wait
        with contextlib.suppress(TimeoutError, HostError):
            await asyncio.wait_for(asyncio.shield(self.ready), limit)
        if not self.ready.done():
            raise BootstrapError(f"{self._host}: the payload was not ready within {limit:g} seconds")

    # Reading

    async def _converse(self) -> None:
        """Read from the payload until it ends; then end everything that still waits for it."""
        try:
            rest = await self._bootstrap.handshake(self._connection, self._outbox)
            decoder = wire.Decoder(replies.MESSAGES)
            while True:
                for frame in decoder.feed(rest):
                    self._take(frame, decoder.size)
                self._received += 1
                rest = await self._bootstrap.process.read(READ)
                if not rest:
                    break
        except wire.WireError as error:
            raise ProtocolError(f"{self._host} sent an invalid message: {error.message}") from error
        raise await self._bootstrap.explain_end(begun=True)

    def _take(self, frame: messages.Message | wire.Blob, size: int) -> None:
        """Take a frame of `size` bytes. Raises HostError when it may not come now, or at all."""
        if not self.ready.done() and not isinstance(frame, (Ready, messages.Waiting, messages.Fail, messages.Alive)):
            raise ProtocolError(f"{self._host} sent a message before it was ready")
        match frame:
            case wire.Blob():
                stored = self._calls.fetched(frame)
                if stored is not None:
                    self._spawn(self._outbox.send(stored))  # the host must be read meanwhile
            case Reply():
                self._calls.answer(frame, size)
            case messages.Alive():
                self._signs += 1
                if self._signs > SIGNS + asyncio.get_running_loop().time() - self.begun:
                    raise ProtocolError(f"{self._host} sends signs of life all the time")
            case messages.Output():
                self._listener.output(frame.id, frame.stream, frame.data)
            case messages.Need():
                asset = self._calls.asset(frame.id, frame.index)
                self._spawn(self._calls.ship(frame.id, frame.index, asset))
            case Ready():
                if frame.v != messages.VERSION:
                    raise ProtocolError(f"{self._host} uses protocol version {frame.v}, not {messages.VERSION}")
                self._check_turn(not self.ready.done(), frame)
                self.ready.set_result(frame)
            case messages.Waiting():
                self._check_turn(not self.ready.done(), frame)
                self._listener.waiting(frame.holder)
            case messages.Rows():
                self._queries.take(frame, size)
            case messages.ReplicaPage():
                self._check_turn(self._is_closing and not self._bye.done(), frame)
                self._add_to_replica(frame.rows, size)
            case messages.Bye():
                self._check_turn(self._is_closing and not self._bye.done(), frame)
                self._bye.set_result(frame)
            case _:
                assert isinstance(frame, messages.Fail), frame.TYPE  # the decoder knows no other
                raise self._failure(frame)

    def _check_turn(self, is_right: bool, message: messages.Message) -> None:
        if not is_right:
            raise ProtocolError(f"{self._host} sent an unexpected message: {message.TYPE}")

    def _add_to_replica(self, rows: Rows, size: int) -> None:
        if self.replica_rows is None:
            from sloth.transport.replica import ReplicaRows  # a converged run has none

            self.replica_rows = ReplicaRows(self._host)
        self.replica_rows.add(rows, size)

    def _failure(self, fail: messages.Fail) -> HostError:
        text = f"{self._host}: {fail.error}"
        match fail.kind:
            case FailureKind.LOCKED:
                return exit_errors.locked(self._host, fail.holder or LockHolder())
            case FailureKind.MACHINE:
                return WrongMachine(text, hint=fail.hint)
            case FailureKind.PROTOCOL:
                return ProtocolError(text, hint=fail.hint)
        error = HostError(text, hint=fail.hint)
        if fail.detail:
            error.add_note(fail.detail)
        return error

    # Sending

    async def submit(
        self,
        call: Callable[[int], messages.Call],
        assets: Sequence[Asset] = (),
        push: Callable[[Asset], bool] = lambda asset: True,
        frames: Frames | None = None,
    ) -> tuple[int, asyncio.Future[Reply]]:
        """Write the call that `call(number)` returns; return its number and the future of its reply.

        See CallsInFlight.submit(). Several hosts may submit calls to one session: they are written by their numbers.
        """
        async with self._submitting:
            number = next(self._numbers)
            return number, await self._calls.submit(number, call, assets, push, frames)

    async def send_secrets(self, values: Collection[str]) -> None:
        """Tell the host which values it must neither store nor show; calls that hold them come after."""
        fresh = sorted(set(values) - self._secrets)
        if fresh:
            self._secrets.update(fresh)
            await self._outbox.write_soon(wire.pack(messages.Secrets(values=fresh)))

    async def wait_for_end(self, seconds: float) -> None:
        """Wait until it ends by itself, for some seconds at most."""
        await asyncio.wait([self._bye], timeout=max(0.0, seconds))

    def ping(self) -> None:
        """Give the host a sign of life, besides those that it gets anyway."""
        self._outbox.post_first(messages.Ping())

    async def cancel(self, epoch: int, lane: str = "") -> None:
        """Let the host interrupt and skip the calls of `epoch` and earlier ones; takes at most CANCEL seconds.

        Raises HostError when the session has ended.
        """
        with contextlib.suppress(TimeoutError):  # it stays in the outbox, before everything else
            async with asyncio.timeout(CANCEL):
                await self._outbox.send_first(messages.Cancel(epoch=epoch, lane=lane))

    async def query(self, op: str, args: JsonObject) -> Rows:
        """Query the host's state; return rows. Raises StateError, HostError."""
        return await self._queries.query(next(self._numbers), op, args)

    async def ask(self, op: str, args: JsonObject, read: Callable[[JsonObject], T]) -> list[T]:
        """Query the host's state; return what `read` makes of each row. Raises StateError, HostError."""
        return read_answer(self._host, op, await self.query(op, args), read)
