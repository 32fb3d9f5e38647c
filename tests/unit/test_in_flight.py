"""Calls that a host has not answered: their window, what they ship and fetch, and how everything ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from unittest import mock

import pytest

from sloth.errors import CallError, ConnectionLost, ProtocolError, StateError, StateNotFound
from sloth.payload.kernel.status import Status
from sloth.payload.session import messages, wire
from sloth.transport import Asset, in_flight
from sloth.transport.in_flight import CallsInFlight
from sloth.transport.queries import Queries


class Outbox:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.end: ConnectionLost | None = None
        self.data = bytearray()

    async def write_soon(self, frames: bytes) -> None:
        self.data += frames

    async def write(self, *frames: bytes) -> None:
        self.data += b"".join(frames)

    async def send(self, message: messages.Message) -> None:
        self.data += wire.pack(message)

    def sent(self) -> list[messages.Message | wire.Blob]:
        return list(wire.Decoder(messages.FROM_CONTROLLER).feed(bytes(self.data)))


class Sink:
    """A file on the controller; writing the piece `bad` fails."""

    def __init__(self, bad: bytes = b"") -> None:
        self.data = b""
        self.state = "open"
        self._bad = bad

    def write(self, data: bytes) -> None:
        if data == self._bad:
            raise OSError(28, "No space left on device", "/x")
        self.data += data

    def finish(self) -> None:
        self.state = "finished"

    def abort(self) -> None:
        self.state = "aborted"


def call(number: int, **args: object) -> messages.Call:
    return messages.Call(id=number, epoch=0, name="file.copy", args=dict(args))


def reply(number: int) -> messages.Reply:
    return messages.Reply(id=number, status=Status.CHANGED)


def calls_of(outbox: Outbox, sink: Sink | None = None) -> CallsInFlight:
    return CallsInFlight("web1", outbox, (lambda number: sink) if sink else None)  # type: ignore[arg-type, return-value]


def asset(data: bytes, size: int | None = None) -> Asset:
    return Asset("a", "0" * 64, len(data) if size is None else size, open=lambda: iter([data]))


@pytest.mark.parametrize("bound", ["CALLS", "BYTES"])
async def test_the_window(bound: str) -> None:
    outbox = Outbox()
    calls = calls_of(outbox)
    with mock.patch.object(in_flight, bound, 1):
        first = await calls.submit(1, call, [])
        waiting = asyncio.create_task(calls.submit(2, call, []))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        calls.answer(reply(1), 256 << 20)
        second = await waiting
        assert first.result() == reply(1)
        waiting = asyncio.create_task(calls.submit(3, call, []))
        await asyncio.sleep(0.01)
        outbox.end = ConnectionLost("lost")
        calls.end(outbox.end)
        with pytest.raises(ConnectionLost):
            await waiting
    assert isinstance(second.exception(), ConnectionLost)
    with pytest.raises(ConnectionLost):
        await calls.submit(4, call, [])
    assert [message.id for message in outbox.sent() if isinstance(message, messages.Call)] == [1, 2]


async def test_hundreds_of_calls_wait_for_no_answer() -> None:
    calls = calls_of(outbox := Outbox())
    async with asyncio.timeout(30):
        for number in range(1, 501):
            await calls.submit(number, lambda number: call(number, content="x" * 1500), [])
    assert len(outbox.sent()) == 500
    assert calls.oldest == 1


@pytest.mark.parametrize(
    ("size", "wanted", "is_pushed"),
    [(4096, False, True), (4097, False, False), (wire.CHUNK, True, True), (65537, True, False)],
)
async def test_small_contents_go_with_their_call(size: int, wanted: bool, is_pushed: bool) -> None:
    outbox = Outbox()
    await calls_of(outbox).submit(1, call, [asset(b"x" * size)], lambda one: wanted)
    *pieces, sent = outbox.sent()
    assert isinstance(sent, messages.Call)
    assert sent.assets[0].pushed == is_pushed
    assert b"".join(piece.data for piece in pieces if isinstance(piece, wire.Blob)) == (
        b"x" * size if is_pushed else b""
    )
    assert len(pieces) == 2 * is_pushed


async def test_a_call_that_cannot_be_sent_is_its_own_error() -> None:
    def fails() -> Iterator[bytes]:
        raise OSError(13, "Permission denied", "/secret")
        yield b""

    calls = calls_of(Outbox())
    with pytest.raises(CallError, match="cannot be sent: a message of"):
        await calls.submit(1, lambda number: call(number, content="x" * (wire.MAX_BODY + 1)), [])
    with pytest.raises(CallError, match="/secret on the controller cannot be read: Permission denied"):
        await calls.submit(2, call, [Asset("a", size=1, open=fails)])
    assert not isinstance(await calls.submit(3, call, []), Exception)


async def test_an_unreadable_content_ends_its_shipment() -> None:
    outbox = Outbox()
    calls = calls_of(outbox)

    def breaks() -> Iterator[bytes]:
        yield b"x" * wire.CHUNK * in_flight.TOGETHER
        raise OSError(5, "Input/output error")

    large = Asset("a", "0" * 64, 10**7, open=breaks)
    await calls.submit(1, call, [large])
    await calls.ship(1, 0, calls.asset(1, 0))
    pieces = [piece for piece in outbox.sent() if isinstance(piece, wire.Blob)]
    assert [len(piece.data) for piece in pieces] == [wire.CHUNK] * in_flight.TOGETHER + [0]
    calls.answer(reply(1), 1)
    await calls.ship(1, 0, large)
    assert len(outbox.sent()) == len(pieces) + 1, "nothing is shipped to a call that was answered"


@pytest.mark.parametrize("is_read", [True, False])
async def test_a_content_is_not_sent_on_once_its_call_is_answered(is_read: bool) -> None:
    """The host has failed, or has found the content by itself; what is left would be for nobody."""
    outbox = Outbox()
    calls = calls_of(outbox)

    def answered() -> Iterator[bytes]:
        yield b"x" * wire.CHUNK * in_flight.TOGETHER
        calls.answer(reply(1).replace(status=Status.FAILED, error="the disk is full"), 1)
        if is_read:
            yield b"y" * wire.CHUNK
        else:
            raise OSError(5, "Input/output error")

    large = Asset("a", "0" * 64, 10**7, open=answered)
    future = await calls.submit(1, call, [large])
    await calls.ship(1, 0, calls.asset(1, 0))
    pieces = [piece for piece in outbox.sent() if isinstance(piece, wire.Blob)]
    assert [len(piece.data) for piece in pieces] == [wire.CHUNK] * in_flight.TOGETHER
    assert (await future).error == "the disk is full"


async def test_a_file_whose_place_cannot_be_made() -> None:
    def full(number: int) -> Sink:
        raise OSError(28, "No space left on device", "/files/x")

    calls = CallsInFlight("web1", Outbox(), full)  # type: ignore[arg-type]
    future = await calls.submit(1, call, [])
    assert calls.fetched(wire.Blob(1, 0, b"ab")) is None, "it is told at the end, when the host listens"
    stored = calls.fetched(wire.Blob(1, 0, b""))
    assert stored is not None
    assert stored.error == "the controller cannot store /files/x: No space left on device"
    calls.answer(reply(1), 1)
    assert (await future).status is Status.CHANGED


async def test_nobody_waits_for_a_reply_any_more() -> None:
    """A call whose task was cancelled is answered all the same; that is no error, and makes room."""
    calls = calls_of(Outbox())
    gone, kept = [await calls.submit(number, call, []) for number in (1, 2)]
    gone.cancel()
    calls.answer(reply(1), 1)
    assert calls.oldest == 2
    other = await calls.submit(3, call, [])
    other.cancel()
    calls.end(ConnectionLost("lost"))
    assert isinstance(kept.exception(), ConnectionLost)
    assert (gone.cancelled(), other.cancelled(), calls.oldest) == (True, True, 0)


@pytest.mark.parametrize("is_woken", [True, False])
async def test_waiting_for_room_ends_with_the_session(is_woken: bool) -> None:
    outbox = Outbox()
    calls = calls_of(outbox)
    with mock.patch.object(in_flight, "CALLS", 1):
        await calls.submit(1, call, [])
        if is_woken:
            waiting = asyncio.create_task(calls.submit(2, call, []))
            await asyncio.sleep(0)
        outbox.end = ConnectionLost("lost")
        if is_woken:
            calls.end(outbox.end)
        else:
            waiting = asyncio.create_task(calls.submit(2, call, []))
        with pytest.raises(ConnectionLost):
            await waiting


async def test_a_file_is_fetched() -> None:
    sink = Sink()
    calls = calls_of(Outbox(), sink)
    await calls.submit(1, call, [])
    assert calls.fetched(wire.Blob(1, 0, b"ab")) is None
    assert calls.fetched(wire.Blob(1, 0, b"c")) is None
    assert calls.fetched(wire.Blob(1, 0, b"")) == messages.Stored(id=1)
    assert (sink.data, sink.state) == (b"abc", "finished")


async def test_a_file_that_cannot_be_stored() -> None:
    sink = Sink(bad=b"c")
    calls = calls_of(Outbox(), sink)
    await calls.submit(1, call, [])
    assert calls.fetched(wire.Blob(1, 0, b"ab")) is None
    assert calls.fetched(wire.Blob(1, 0, b"c")) is None
    assert calls.fetched(wire.Blob(1, 0, b"d")) is None
    stored = calls.fetched(wire.Blob(1, 0, b""))
    assert stored is not None
    assert stored.error == "the controller cannot store /x: No space left on device"
    assert (sink.data, sink.state) == (b"ab", "aborted")


@pytest.mark.parametrize("end", ["reply", "loss"])
async def test_half_a_file_is_dropped(end: str) -> None:
    sink = Sink()
    calls = calls_of(Outbox(), sink)
    future = await calls.submit(1, call, [])
    calls.fetched(wire.Blob(1, 0, b"ab"))
    if end == "reply":
        calls.answer(reply(1), 1)
        with pytest.raises(ProtocolError, match="not requested"):
            calls.fetched(wire.Blob(1, 0, b"c"))
    else:
        calls.end(ConnectionLost("lost"))
        assert isinstance(future.exception(), ConnectionLost)
    assert sink.state == "aborted"


@pytest.mark.parametrize(("number", "index"), [(2, 0), (1, 1), (1, -1), (1, 2)])
async def test_only_what_was_offered_is_shipped(number: int, index: int) -> None:
    calls = calls_of(Outbox())
    await calls.submit(1, call, [asset(b"", 10**6), Asset("d", dir=True)])
    assert calls.asset(1, 0).name == "a"
    with pytest.raises(ProtocolError, match="not offered"):
        calls.asset(number, index)


async def test_queries() -> None:
    outbox = Outbox()
    queries = Queries("web1", outbox, calls_of(outbox), lambda error: None)  # type: ignore[arg-type]
    asked = [asyncio.create_task(queries.query(number, "list", {})) for number in range(4)]
    await asyncio.sleep(0.01)
    queries.take(messages.Rows(id=0, rows=[{"a": 1}], more=True), 64 << 20)
    queries.take(messages.Rows(id=1, error="broken", hint="mend it"), 10)
    queries.take(messages.Rows(id=2, error="no such run", not_found=True), 10)
    queries.take(messages.Rows(id=0, rows=[{"a": 2}]), 64 << 20)
    queries.end(ConnectionLost("lost"))
    rows, broken, missing, lost = await asyncio.gather(*asked, return_exceptions=True)
    assert rows == [{"a": 1}, {"a": 2}]
    assert isinstance(broken, StateError)
    assert str(broken) == "web1: broken; hint: mend it"
    assert isinstance(missing, StateNotFound)
    assert isinstance(lost, ConnectionLost)
    with pytest.raises(ProtocolError, match="a query that was not made"):
        queries.take(messages.Rows(id=0), 10)


async def test_an_answer_that_comes_too_late_is_taken_in_silence() -> None:
    """The query was given up, by Ctrl-C for example; the next one is answered as ever."""
    outbox = Outbox()
    queries = Queries("web1", outbox, calls_of(outbox), lambda error: None)  # type: ignore[arg-type]
    given_up = asyncio.create_task(queries.query(1, "list", {}))
    await asyncio.sleep(0.01)
    given_up.cancel()
    next_one = asyncio.create_task(queries.query(2, "list", {}))
    await asyncio.sleep(0.01)
    queries.take(messages.Rows(id=1, rows=[{"a": 1}]), 10)
    queries.take(messages.Rows(id=2, rows=[{"a": 2}]), 10)
    assert await next_one == [{"a": 2}]
    with pytest.raises(ProtocolError, match="a query that was not made"):
        queries.take(messages.Rows(id=1), 10)


async def test_a_query_whose_session_ends_while_it_is_sent_leaves_no_message_of_asyncio() -> None:
    class Ending(Outbox):
        async def send(self, message: messages.Message) -> None:
            queries.end(ConnectionLost("lost"))
            raise ConnectionLost("lost")

    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
    calls = CallsInFlight("web1", Ending(), lambda number: None)  # type: ignore[arg-type, return-value]
    queries = Queries("web1", Ending(), calls, unseen.append)  # type: ignore[arg-type]
    with pytest.raises(ConnectionLost):
        await queries.query(1, "list", {})
    gc.collect()
    assert unseen == []
