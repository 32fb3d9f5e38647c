"""One payload process on one host: starts it, speaks frames with it, and turns every way it can end into an error.

Starting, reading, sending and ending share one promise, that every future is answered; so they share one class.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from typing import Any, Protocol

from sloth.errors import BootstrapError, CallError, HostError, LinkLost, LockedError, ProtocolError, StateError
from sloth.payload.session import wire
from sloth.transport import bootstrap
from sloth.transport.bundle import Bundle
from sloth.transport.connection import Channel, Link
from sloth.transport.exit_errors import explain
from sloth.transport.messages import Asset, Reply

CALLS = 512  # calls in flight
BYTES = 1024 * 1024  # bytes in flight
INLINE = 4096  # a content up to this size always goes with its call
PUSH = 64 * 1024  # up to this size it goes with its call when the host is not known to have it
NOISE = 64 * 1024  # bytes that a login shell may print before the payload speaks
PING = 15.0  # seconds between signs of life
BYE = 60.0  # seconds that the payload has to look at orphans, commit and say goodbye
READ = 256 * 1024
TOGETHER = 8  # pieces of a file that are written at once
SOON = 0.005  # seconds that a call may wait for others to go with it
SOON_BYTES = 32 * 1024  # bytes that may


class Sink(Protocol):
    """Where a fetched file goes."""

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def abort(self) -> None: ...


class _Sent:
    """A call on its way."""

    def __init__(self, reply: asyncio.Future[Reply], assets: Sequence[Asset], size: int) -> None:
        self.reply = reply
        self.assets = assets
        self.size = size
        self.sink: Sink | None = None
        self.sink_error = ""


class Session:
    """Speaks to one payload. Every future it hands out is answered or gets a HostError: nothing hangs."""

    def __init__(
        self,
        link: Link,
        *,
        host_name: str,
        hello: dict[str, Any],
        bundle: Bundle,
        known: bool,
        python: str | None = None,
        become: str | None = None,
        become_password: str | None = None,
        on_output: Callable[[int, str, str], None] = lambda number, stream, data: None,
        on_waiting: Callable[[str], None] = lambda holder: None,
        on_fetch: Callable[[int], Sink] | None = None,
        bootstrap_timeout: float = 30.0,
    ) -> None:
        """known: the host is believed to have the bundle. Times are seconds. on_output(number, stream, text)."""
        self._link = link
        self._host = host_name
        self._hello = hello
        self._bundle = bundle
        self._known = known
        self._python = python
        self._become = become
        self._password = become_password
        self._on_output = on_output
        self._on_waiting = on_waiting
        self._on_fetch = on_fetch
        self._timeout = bootstrap_timeout
        self._channel: Channel | None = None
        self._unconfirmed: deque[bytes] | None = deque()  # what a second start must send again; None: it has started
        self._writing = asyncio.Lock()
        self._outbox: list[bytes] = []  # frames that wait to be written together
        self._outbox_since = 0.0
        self._sent: dict[int, _Sent] = {}
        self._numbers = iter(range(1, 2**31))
        self._flying = 0
        self._room = asyncio.Event()
        self._rows: dict[int, tuple[asyncio.Future[list[dict[str, Any]]], list[dict[str, Any]]]] = {}
        self._replica: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: HostError | None = None
        self._bye: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.uploaded = False
        self.orphans: list[dict[str, Any]] = []  # what the site no longer names, once close(whole=...) has returned
        self._revealed: set[str] = set()
        for future in (self._bye, self.ready):
            future.add_done_callback(_seen)

    # Starting

    async def open(self) -> None:
        """Start the payload and send hello; what fails later fails in the calls. Raises HostError."""
        await self._start(upload=not self._known)
        self._spawn(self._converse())
        self._spawn(self._ping())
        self._spawn(self._watch())

    async def _start(self, upload: bool) -> None:
        prompt = f"sloth-{secrets.token_hex(8)}:" if self._become and self._password is not None else ""
        python = self._python or (None if self._become else self._link.python)
        self._channel = await self._link.start(bootstrap.command(python, self._become, prompt))
        if prompt:
            await self._give_password(self._channel, prompt)
        self.uploaded = upload
        data = self._bundle.data if upload else b""
        header = (bootstrap.HEADER % (self._bundle.sha256, len(data))).encode("ascii")
        replay = b"".join(self._unconfirmed or ())
        if not replay:
            replay = wire.pack(self._hello)
            assert self._unconfirmed is not None
            self._unconfirmed.append(replay)
        with contextlib.suppress(OSError):  # how it ended is what the reading side finds out
            await self._channel.write(header + data + replay)

    async def _give_password(self, channel: Channel, prompt: str) -> None:
        """Answer sudo's prompt, once. Without a prompt sudo wants no password: then stage 1 speaks first."""
        prompted = asyncio.ensure_future(channel.stderr_contains(prompt, 0))
        spoken = asyncio.ensure_future(channel.read(READ))
        try:
            done, _ = await asyncio.wait({prompted, spoken}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if prompted in done and spoken not in done:
                with contextlib.suppress(OSError):
                    await channel.write((self._password or "").encode() + b"\n")
                again = asyncio.ensure_future(channel.stderr_contains(prompt, prompted.result()))
                done, _ = await asyncio.wait(
                    {again, spoken}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED
                )
                again.cancel()
                if again in done:
                    channel.kill()
                    raise explain(self._host, None, "sudo: incorrect password", begun=False)
            if spoken not in done:
                channel.kill()
                raise BootstrapError(f"{self._host}: sudo said nothing within {self._timeout:g} seconds")
            self._first = spoken.result()
        finally:
            prompted.cancel()
            spoken.cancel()

    _first = b""  # what was read while we waited for a prompt

    # Reading

    async def _converse(self) -> None:
        """Read from the payload until it ends; then end everything that still waits for it."""
        error: HostError
        try:
            rest = await asyncio.wait_for(self._handshake(), self._timeout)
            decoder = wire.Decoder()
            while True:
                for frame in decoder.feed(rest):
                    await self._take(frame)
                assert self._channel is not None
                rest = await self._channel.read(READ)
                if not rest:
                    break
            error = await self._explain_end(begun=True)
        except HostError as raised:
            error = raised
        except wire.WireError as raised:
            error = ProtocolError(f"{self._host} sent what is no message: {raised}")
        except TimeoutError:
            error = BootstrapError(
                f"{self._host}: the payload did not start within {self._timeout:g} seconds",
                hint=f"it printed: {self._channel.stderr_tail()[-200:]!r}" if self._channel else "",
            )
        self._finish(error)

    async def _handshake(self) -> bytes:
        """Read until stage 1 has said OK (sending the bundle if it lacks it); return what came after."""
        while True:
            assert self._channel is not None
            seen, self._first = self._first, b""
            while wire.MARK not in seen:
                if len(seen) > NOISE:
                    raise ProtocolError(
                        f"{self._host} prints without end before the payload starts: {seen[:100]!r}",
                        hint="look at the account's shell start-up files",
                    )
                data = await self._channel.read(READ)
                if not data:
                    raise await self._explain_end(begun=False, noise=seen)
                seen += data
            seen = seen.partition(wire.MARK)[2]
            while b"\n" not in seen:
                data = await self._channel.read(READ)
                if not data:
                    raise await self._explain_end(begun=False)
                seen += data
            line, _, rest = seen.partition(b"\n")
            if line == b"OK":
                self._unconfirmed = None
                return rest
            if line != b"NEED" or self.uploaded:
                text = line.removeprefix(bootstrap.ERROR).decode("utf-8", "replace")
                hint = "free some space on the host" if "Errno 28" in text else ""
                raise BootstrapError(f"{self._host}: the payload cannot be installed: {text}", hint=hint)
            async with self._writing:
                await self._start(upload=True)

    async def _explain_end(self, begun: bool, noise: bytes = b"") -> HostError:
        assert self._channel is not None
        status: int | None = None
        with contextlib.suppress(TimeoutError):
            status = await asyncio.wait_for(self._channel.wait(), 5)
        said = self._channel.stderr_tail() or noise.decode("utf-8", "replace")
        return explain(self._host, status, said, begun)

    async def _take(self, frame: dict[str, Any] | tuple[int, int, bytes]) -> None:
        if isinstance(frame, tuple):
            await self._fetched(frame[0], frame[2])
            return
        match frame["t"]:
            case "reply":
                self._reply(frame)
            case "output":
                self._on_output(_int(frame, "id"), str(frame.get("stream")), str(frame.get("data")))
            case "need":
                sent = self._sent.get(_int(frame, "id"))
                index = _int(frame, "index")
                if sent is None or not 0 <= index < len(sent.assets) or sent.assets[index].open is None:
                    raise ProtocolError(f"{self._host} asks for a file that was not offered")
                self._spawn(self._ship(_int(frame, "id"), index, sent.assets[index]))
            case "ready":
                if not self.ready.done():
                    self.ready.set_result(frame)
            case "waiting":
                self._on_waiting(str(frame.get("holder")))
            case "rows":
                self._take_rows(frame)
            case "replica":
                self._replica += [row for row in frame.get("rows", []) if isinstance(row, dict)]
            case "bye":
                replica = frame.get("replica")
                self.orphans = [row for row in frame.get("orphans") or [] if isinstance(row, dict)]
                if isinstance(replica, dict):
                    replica["rows"] = self._replica
                if not self._bye.done():
                    self._bye.set_result(replica if isinstance(replica, dict) else None)
            case "fail":
                raise self._failure(frame)
            case kind:
                raise ProtocolError(f"{self._host} sent a message of unknown type {kind[:40]!r}")

    def _failure(self, frame: dict[str, Any]) -> HostError:
        text, hint = str(frame.get("error")), str(frame.get("hint") or "")
        if frame.get("kind") == "locked":
            return LockedError(f"{self._host} is held by {text}", hint=hint)
        if frame.get("kind") == "protocol":
            return ProtocolError(f"{self._host}: {text}", hint=hint)
        error = HostError(f"{self._host}: {text}", hint=hint)
        if frame.get("detail"):
            error.add_note(str(frame["detail"]))
        return error

    def _reply(self, frame: dict[str, Any]) -> None:
        sent = self._sent.pop(_int(frame, "id"), None)
        if sent is None:
            raise ProtocolError(f"{self._host} answers a call that was not made")
        if sent.sink is not None:
            sent.sink.abort()
        self._flying -= sent.size
        self._room.set()
        reply = Reply.read(frame, self._host)
        if not sent.reply.done():
            sent.reply.set_result(reply)

    def _take_rows(self, frame: dict[str, Any]) -> None:
        waiting = self._rows.get(_int(frame, "id"))
        if waiting is None:
            raise ProtocolError(f"{self._host} answers a question that was not asked")
        future, rows = waiting
        rows += [row for row in frame.get("rows", []) if isinstance(row, dict)]
        if frame.get("more"):
            return
        del self._rows[_int(frame, "id")]
        if future.done():
            return
        if frame.get("error"):
            future.set_exception(StateError(f"{self._host}: {frame['error']}", hint=str(frame.get("hint") or "")))
        else:
            future.set_result(rows)

    # Sending

    async def _write(self, data: bytes) -> None:
        """Write frames in order; what is written before the payload has started can be sent again."""
        if self._end is not None:
            raise self._end
        self._outbox.append(data)
        await self._flush()

    async def _write_soon(self, data: bytes) -> None:
        """Write frames together with those that come at once: a packet and a wake-up for each of many calls is dear.

        They wait for the event loop's next turn, and only for SOON seconds or SOON_BYTES bytes when it does not come.
        """
        if self._end is not None:
            raise self._end
        loop = asyncio.get_running_loop()
        if not self._outbox:
            self._outbox_since = loop.time()
            loop.call_soon(lambda: self._spawn(self._flush()))
        self._outbox.append(data)
        if loop.time() - self._outbox_since > SOON or sum(map(len, self._outbox)) > SOON_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            data = b"".join(self._outbox)
            self._outbox.clear()
            if not data:
                return
            if self._unconfirmed is not None:
                self._unconfirmed.append(data)
            assert self._channel is not None
            with contextlib.suppress(OSError):  # the reading side says how it ended
                await self._channel.write(data)

    async def submit(
        self,
        name: str,
        args: dict[str, Any],
        assets: Sequence[Asset],
        *,
        epoch: int,
        task: str,
        where: str,
        push: Callable[[Asset], bool] = lambda asset: True,
        notify: Sequence[str] = (),
        sealed: bool = False,
    ) -> tuple[int, asyncio.Future[Reply]]:
        """Write a call; return its number and the future of its reply. Waits while too much is in flight.

        push(asset) says whether a smallish content goes along unasked; notify: handlers that must follow a change;
        sealed: there are secrets in it, of which the host must keep nothing.
        Raises HostError when the session has ended, CallError when a content cannot be read.
        """
        number = next(self._numbers)
        frames = []
        described = []
        for index, asset in enumerate(assets):
            pushed = not asset.dir and (asset.size <= INLINE or (asset.size <= PUSH and push(asset)))
            described.append(asset.on_wire(pushed))
            if pushed:
                frames += [wire.pack_blob(number, index, data) for data in _pieces(asset)]
                frames.append(wire.pack_blob(number, index, b""))
        call = {"t": "call", "id": number, "epoch": epoch, "name": name, "args": args, "task": task, "where": where}
        if described:
            call["assets"] = described
        if notify:
            call["notify"] = list(notify)
        if sealed:
            call["sealed"] = True
        try:
            frames.append(wire.pack(call))
        except (wire.WireError, ValueError) as error:
            raise CallError(f"{name} cannot be sent: {error}", hint="ship large contents as files") from error
        data = b"".join(frames)
        while self._sent and (len(self._sent) >= CALLS or self._flying + len(data) > BYTES):
            if self._end is not None:
                raise self._end
            self._room.clear()
            await self._room.wait()
        if self._end is not None:
            raise self._end
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        self._sent[number] = _Sent(future, assets, len(data))
        self._flying += len(data)
        await self._write_soon(data)
        return number, future

    async def reveal(self, values: Collection[str]) -> None:
        """Tell the host which values it must neither store nor show; calls that hold them come after."""
        fresh = sorted(set(values) - self._revealed)
        if fresh:
            self._revealed.update(fresh)
            await self._write_soon(wire.pack({"t": "secrets", "values": fresh}))

    async def _ship(self, number: int, index: int, asset: Asset) -> None:
        """Stream a content that the host asked for; stop when the call is answered without it."""
        try:
            frames: list[bytes] = []
            for data in _pieces(asset):
                if number not in self._sent:
                    return
                frames.append(wire.pack_blob(number, index, data))
                if len(frames) == TOGETHER:
                    await self._write(b"".join(frames))
                    frames.clear()
            await self._write(b"".join(frames))
        except CallError:
            pass  # the host finds the content short, and says so
        if number in self._sent:
            await self._write(wire.pack_blob(number, index, b""))

    async def _fetched(self, number: int, data: bytes) -> None:
        """Take a piece of a file that the host sends; the empty piece ends it."""
        sent = self._sent.get(number)
        if sent is None or self._on_fetch is None:
            raise ProtocolError(f"{self._host} sends a file that nobody asked for")
        try:
            if sent.sink is None and not sent.sink_error:
                sent.sink = self._on_fetch(number)
            if sent.sink is not None:
                if data:
                    sent.sink.write(data)
                    return
                sink, sent.sink = sent.sink, None
                sink.finish()
        except OSError as error:
            if sent.sink is not None:
                sent.sink.abort()
                sent.sink = None
            sent.sink_error = f"the controller cannot store {error.filename or 'the file'}: {error.strerror}"
        if not data:
            await self._write(wire.pack({"t": "stored", "id": number, "error": sent.sink_error}))

    async def cancel(self, epoch: int) -> None:
        """Calls of `epoch` and earlier ones are no longer wanted: the host interrupts and skips them."""
        await self._write(wire.pack({"t": "cancel", "epoch": epoch}))

    async def store(self, op: str, args: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask the host's state; return rows. Raises StateError, HostError."""
        number = next(self._numbers)
        future: asyncio.Future[list[dict[str, Any]]] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        self._rows[number] = (future, [])
        await self._write(wire.pack({"t": "store", "id": number, "op": op, "args": args}))
        return await future

    async def _ping(self) -> None:
        while self._end is None:
            await asyncio.sleep(PING)
            await self._write(wire.pack({"t": "ping"}))

    async def _watch(self) -> None:
        """A payload that starts but never becomes ready (and waits for no lock) is an error, too."""
        limit = self._timeout * 2 + float(self._hello.get("lock_wait") or 0)
        with contextlib.suppress(TimeoutError, HostError):
            await asyncio.wait_for(asyncio.shield(self.ready), limit)
        if not self.ready.done():
            self._finish(BootstrapError(f"{self._host}: the payload was not ready within {limit:g} seconds"))

    # Ending

    async def close(self, whole: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Let the payload commit and end; return what its state has that our replica lacks. Raises HostError.

        whole: given when all of the site was evaluated: {"spared": names of tasks that had no reason to run}.
        """
        try:
            await self._write(wire.pack({"t": "close", "whole": whole} if whole else {"t": "close"}))
            return await asyncio.wait_for(asyncio.shield(self._bye), BYE)
        except TimeoutError:
            raise LinkLost(f"{self._host} did not say goodbye within {BYE:g} seconds") from None
        finally:
            await self.abort()

    async def abort(self) -> None:
        """End the session now."""
        self._finish(LinkLost(f"{self._host}: the session was closed"))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._channel is not None:
            self._channel.kill()

    def _finish(self, error: HostError) -> None:
        """Nothing more will come: everybody who waits is told why."""
        if self._end is not None:
            return
        self._end = error
        for sent in self._sent.values():
            if sent.sink is not None:
                sent.sink.abort()
            if not sent.reply.done():
                sent.reply.set_exception(error)
        self._sent.clear()
        self._room.set()
        waiting: list[asyncio.Future[Any]] = [self.ready, self._bye, *(future for future, _ in self._rows.values())]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except HostError:
                pass  # _finish has told everybody
            except Exception as error:
                self._finish(ProtocolError(f"{self._host}: {type(error).__name__}: {error}"))

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _pieces(asset: Asset) -> Iterator[bytes]:
    """The bytes of an asset in pieces of at most wire.CHUNK. Raises CallError when they cannot be read."""
    assert asset.open is not None
    try:
        for data in asset.open():
            for start in range(0, len(data), wire.CHUNK):
                yield data[start : start + wire.CHUNK]
    except OSError as error:
        raise CallError(f"{error.filename or asset.name} on the controller cannot be read: {error.strerror}") from error


def _int(frame: dict[str, Any], name: str) -> int:
    value = frame.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"a message without its {name}")
    return value


def _seen(future: asyncio.Future[Any]) -> None:
    """An error that nobody waits for is no defect: the same error reaches the user another way."""
    if not future.cancelled():
        future.exception()
