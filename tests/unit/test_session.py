"""A session with a host that answers anything: every future is answered, and nothing takes for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sloth.errors import ConnectionLost, HostError, ProtocolError, StateError, Unresponsive
from sloth.payload.session import messages, wire
from sloth.transport import Asset, Bootstrap, Session, in_flight, outbox, queries, replica, session
from sloth.transport.bundle import Bundle
from sloth.transport.in_flight import CallsInFlight
from sloth.transport.replica import ReplicaRows
from tests.support.messages import json_values, message_of

READY = messages.Ready(v=messages.VERSION)


class Process:
    """A command that prints `output`, and then ends, or waits to be killed. Without `reads` its stdin is full."""

    def __init__(self, output: Iterable[bytes], reads: bool = True, ends: bool = False) -> None:
        self._output: Iterator[bytes] = iter((wire.MARK + b"OK\n", *output))
        self._reads = reads
        self._ends = ends
        self._killed = asyncio.Event()
        self.speak = asyncio.Event()  # it prints its output once this is set
        self.written = bytearray()

    async def write(self, data: bytes) -> None:
        if self.written and not self._reads:
            await self._killed.wait()
        self.written += data

    async def read(self, limit: int) -> bytes:
        for data in self._output:
            if not data.startswith(wire.MARK):
                await self.speak.wait()
            return data
        if not self._ends:
            await self._killed.wait()
        return b""

    def stderr_tail(self) -> str:
        return ""

    async def stderr_contains(self, text: str, after: int) -> int:
        raise AssertionError("there is no sudo here")

    async def wait(self) -> int | None:
        return 0

    def kill(self) -> None:
        self._killed.set()


class Connection:
    """Starts one process, whatever the command."""

    python = "python3"

    def __init__(self, process: Process) -> None:
        self._process = process

    async def start(self, command: str) -> Process:
        return self._process

    async def close(self) -> None:
        pass


async def opened(process: Process) -> Session:
    hello = messages.Hello(v=messages.VERSION, agent="web1")
    bootstrap = Bootstrap("web1", Bundle("0" * 64, b"", lambda: b""), known=True)
    opened = Session(Connection(process), bootstrap, hello)
    await opened.open()
    return opened


def call(number: int) -> messages.Call:
    return messages.Call(id=number, epoch=0, name="file.stat", args={"path": "/"})


async def outcomes(output: Iterable[bytes]) -> list[Any]:
    """What a call, a query and the end of the session come to when a host sends `output`; in bounded time."""
    async with asyncio.timeout(30):
        process = Process(output, ends=True)
        speaking = await opened(process)
        _, reply = await speaking.submit(call)
        query = asyncio.create_task(speaking.query("list", {}))
        end = asyncio.create_task(speaking.close())
        await asyncio.sleep(0.001)
        process.speak.set()
        return await asyncio.gather(reply, query, end, return_exceptions=True)


async def test_what_is_right_is_returned() -> None:
    reply = messages.Reply(id=1, status=messages.Status.CHANGED)
    rows = messages.Rows(id=2, rows=[{"key": "a"}])
    answers = await outcomes(wire.pack(message) for message in (READY, reply, rows, messages.Bye()))
    assert answers == [reply, [{"key": "a"}], (None, messages.Bye())]


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ({"t": "reply", "id": 1, "status": "splendid"}, "Reply.status"),
        ({"t": "reply", "id": 1, "status": "unreachable"}, "unreachable"),
        ({"t": "reply", "id": 1, "status": "changed", "values": []}, "Reply.values"),
        ({"t": "reply", "id": 1, "status": "changed", "seconds": 10**399}, "a number of 400 digits"),
        ({"t": "reply", "id": 7, "status": "changed"}, "a call that was not made"),
        ({"t": "rows", "id": 7}, "a query that was not made"),
        ({"t": "need", "id": 1, "index": 0}, "not offered"),
        ({"t": "hello", "v": 2, "agent": "a"}, "hello"),
        ({"t": "ready", "v": 3}, "version 3"),
        ({"t": "what"}, "what"),
    ],
)
async def test_an_invalid_message_ends_the_session_and_answers_everything(frame: object, problem: str) -> None:
    body = json.dumps(frame).encode("ascii")
    before = b"" if problem == "version 3" else wire.pack(READY)
    for answer in await outcomes([before + wire.HEADER.pack(len(body), wire.JSON) + body]):
        assert isinstance(answer, ProtocolError)
        assert problem in answer.message


@settings(max_examples=80)
@given(kind=st.sampled_from(sorted(messages.FROM_PAYLOAD)), data=st.data())
def test_whatever_a_host_sends_everything_is_answered(kind: str, data: st.DataObject) -> None:
    cls = messages.FROM_PAYLOAD[kind]
    frame = json.loads(json.dumps(data.draw(message_of(cls)).plain()))
    frame["id"] = data.draw(st.sampled_from([1, 2, 3]))
    frame[data.draw(st.sampled_from([*cls.fields, "t"]))] = data.draw(json_values)
    body = json.dumps({"t": kind, **frame}).encode("ascii")
    output = [wire.pack(READY), wire.HEADER.pack(len(body), wire.JSON) + body, wire.pack(messages.Bye())]
    reply, rows, end = asyncio.run(outcomes(output))
    assert isinstance(reply, messages.Reply | HostError)
    assert isinstance(rows, list | HostError | StateError)
    assert isinstance(end, tuple | HostError)


@settings(max_examples=40)
@given(st.binary(max_size=100))
def test_garbage_is_a_protocol_error_or_a_lost_connection(garbage: bytes) -> None:
    reply, rows, end = asyncio.run(outcomes([garbage]))
    assert isinstance(reply, HostError)
    assert isinstance(rows, HostError)
    assert isinstance(end, HostError)


async def test_a_host_that_reads_nothing_keeps_nobody_waiting() -> None:
    with mock.patch.object(outbox, "STALLED", 0.4), mock.patch.object(session, "CANCEL", 0.05):
        async with asyncio.timeout(5):
            speaking = await opened(Process([wire.pack(READY)], reads=False))
            _, reply = await speaking.submit(call)
            await asyncio.sleep(0.01)  # its write has begun, and does not end
            begun = asyncio.get_running_loop().time()
            await speaking.cancel(0)
            assert asyncio.get_running_loop().time() - begun < 0.3
            assert not reply.done()
            with pytest.raises(ConnectionLost, match="has read nothing"):
                await reply
            with pytest.raises(ConnectionLost, match="has read nothing"):
                await speaking.close()


async def test_what_waits_is_written_in_slices_each_of_which_has_its_time() -> None:
    writes: list[int] = []

    class Taker(Process):
        async def write(self, data: bytes) -> None:
            writes.append(len(data))

    box = outbox.Outbox("web1", lambda work: work.close())
    await box.begin(Taker([]), b"header")
    largest = 256 * 1024
    await box.write(*(bytes(size) for size in (largest // 2, largest // 2, 1, largest + 1, 10)))
    assert writes == [len(b"header"), largest, 1, largest + 1, 10]
    assert box.taken == 4, "a slice that it takes is a sign of life"


async def test_pings_do_not_pile_up_and_end_with_the_session() -> None:
    spawned: list[Any] = []
    box = outbox.Outbox("web1", spawned.append)
    box.post_first(messages.Ping())
    box.post_first(messages.Ping())
    assert len(spawned) == 1, "one that is stuck is enough"
    await box.begin(process := Process([]), b"")
    await spawned.pop()
    assert bytes(process.written) == wire.pack(messages.Ping())
    box.end = ConnectionLost("lost")
    box.post_first(messages.Ping())
    assert spawned == []


async def test_closing_does_not_wait_for_a_write_that_never_ends() -> None:
    with mock.patch.object(session, "CLOSE", 0.0):
        async with asyncio.timeout(5):
            speaking = await opened(Process([wire.pack(READY)], reads=False))
            await speaking.submit(call)
            await asyncio.sleep(0.01)
            with pytest.raises(ConnectionLost, match="does not read"):
                await speaking.close()


async def ending(process: Process) -> BaseException | None:
    """Return the error that a session with a call in flight ends with, once the host speaks."""
    async with asyncio.timeout(20):
        speaking = await opened(process)
        _, reply = await speaking.submit(call)
        query = asyncio.create_task(speaking.query("list", {}))
        await asyncio.sleep(0.01)
        process.speak.set()
        await asyncio.wait([reply, query])
        query.exception()
        return reply.exception()


async def test_a_host_without_a_sign_of_life_is_lost() -> None:
    with mock.patch.object(session, "PING", 0.05), mock.patch.object(session, "SILENCE", 0.2):
        error = await ending(Process([wire.pack(READY)]))
    assert isinstance(error, ConnectionLost)
    assert "no sign of life" in error.message


async def test_a_host_that_is_alive_may_take_its_time() -> None:
    with mock.patch.object(session, "PING", 0.05), mock.patch.object(session, "SILENCE", 0.2):
        process = Process([wire.pack(READY)])
        speaking = await opened(process)
        process.speak.set()
        await speaking.ready
        for _ in range(8):
            await asyncio.sleep(0.1)
            speaking._received += 1
        assert speaking.end is None
        await speaking.abort()


async def test_what_a_host_takes_is_a_sign_of_life() -> None:
    """Its own may be slow behind a slow link."""
    with mock.patch.object(session, "PING", 0.05), mock.patch.object(session, "SILENCE", 0.3):
        process = Process([wire.pack(READY)])
        speaking = await opened(process)
        process.speak.set()
        await speaking.ready
        for _ in range(8):
            await asyncio.sleep(0.1)
            await speaking.send_secrets({str(len(process.written))})
        assert speaking.end is None
        pings = bytes(process.written).count(b'"ping"')
        assert pings > 4
        await speaking.abort()


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        ([messages.Alive()] * 200, "all the time"),
        ([READY], "unexpected message: ready"),
        ([messages.Waiting(holder=messages.LockHolder())], "unexpected message: waiting"),
        ([messages.Bye()], "unexpected message: bye"),
        ([messages.ReplicaPage(rows=[])], "unexpected message: replica"),
        ([messages.Reply(id=1, status=messages.Status.UNKNOWN)], "status unknown"),
        ([wire.Blob(1, 0, b"x")], "a file that was not requested"),
    ],
)
async def test_what_may_not_come_now(frames: list[Any], problem: str) -> None:
    packed = [item.pack() if isinstance(item, wire.Blob) else wire.pack(item) for item in (READY, *frames)]
    error = await ending(Process([b"".join(packed)]))
    assert isinstance(error, ProtocolError)
    assert problem in error.message


async def test_before_it_is_ready_a_host_may_only_wait() -> None:
    error = await ending(Process([wire.pack(messages.Output(id=1, stream="stdout", data="x"))]))
    assert isinstance(error, ProtocolError)
    assert "before it was ready" in error.message
    waiting = messages.Waiting(holder=messages.LockHolder(run="r"))
    process = Process([wire.pack(waiting), wire.pack(messages.Alive()), wire.pack(READY)])
    speaking = await opened(process)
    process.speak.set()
    assert await speaking.ready == READY
    assert speaking.has_been_ready
    await speaking.abort()
    assert speaking.has_been_ready


async def test_replies_are_bounded_in_all() -> None:
    reply = messages.Reply(id=1, status=messages.Status.CHANGED, msg="x" * 1000)
    with mock.patch.object(in_flight, "REPLIES", 1000):
        error = await ending(Process([wire.pack(READY) + wire.pack(reply)]))
    assert isinstance(error, ProtocolError)
    assert "more than 1000 bytes of replies" in error.message


async def test_the_answer_to_a_query_is_bounded() -> None:
    page = messages.Rows(id=2, rows=[{"a": "x" * 400}], more=True)
    with mock.patch.object(queries, "ANSWER", 1000):
        error = await ending(Process([wire.pack(READY), *[wire.pack(page)] * 3]))
    assert isinstance(error, ProtocolError)
    assert "the answer to one query" in error.message


@pytest.mark.parametrize("pages", [0, 3])
async def test_a_host_that_lives_and_never_ends_its_answer_gets_a_bounded_time(pages: int) -> None:
    page = messages.Rows(id=1, rows=[{"a": 1}], more=True)
    process = Process([wire.pack(READY), *[wire.pack(page)] * pages])
    with mock.patch.object(queries, "READ", 0.2), mock.patch.object(queries, "TURN", 0.05):
        speaking = await opened(process)
        query = asyncio.create_task(speaking.query("list", {}))
        await asyncio.sleep(0.02)
        process.speak.set()
        later = asyncio.create_task(speaking.query("show", {"key": "x"}))
        for waiting in (query, later):
            with pytest.raises(HostError, match="web1 gives signs of life, but has not answered the query list"):
                await waiting
    assert speaking.end is not None
    await speaking.abort()


async def test_a_query_has_its_time_once_what_was_sent_before_is_answered() -> None:
    reply, answer = messages.Reply(id=1, status=messages.Status.CHANGED), messages.Rows(id=3)
    process = Process([wire.pack(READY)])
    with mock.patch.object(queries, "READ", 0.2), mock.patch.object(queries, "TURN", 0.05):
        speaking = await opened(process)
        process.speak.set()
        await speaking.submit(call)
        with pytest.raises(TimeoutError):  # nobody waits for it any more, which must not make others wait
            await asyncio.wait_for(speaking.query("list", {}), 0.1)
        query = asyncio.create_task(speaking.query("show", {"key": "x"}))
        await asyncio.sleep(0.6)
        assert not query.done()
        speaking._take(reply, 10)
        await asyncio.sleep(0.1)
        speaking._take(answer, 10)
        assert await query == []
        with pytest.raises(HostError, match="the query list"):
            await speaking.query("list", {})
    await speaking.abort()


async def test_records_for_the_replica_come_back_in_order_and_are_bounded() -> None:
    rows = ReplicaRows("web1")
    for number in range(5):
        rows.add([{"key": f"a\udcff{number}"}, {"key": None}], 100)
    assert [row["key"] for row in rows] == [key for number in range(5) for key in (f"a\udcff{number}", None)]
    with mock.patch.object(replica, "TOTAL", 600):
        rows.add([], 100)
        with pytest.raises(ProtocolError, match="more than 600 bytes"):
            rows.add([], 1)
    with mock.patch.object(replica, "HELD", 100), pytest.raises(ProtocolError):
        rows.add([{"key": str(number)} for number in range(1000)], 1)
    ReplicaRows("web1").add([], 1 << 30)


async def test_what_a_replica_lacks_comes_before_the_end() -> None:
    pages = [messages.ReplicaPage(rows=[{"key": name}]) for name in ("a", "b", "c")]
    process = Process([b"".join(map(wire.pack, (READY, *pages, messages.Bye())))])
    async with asyncio.timeout(20):
        speaking = await opened(process)
        assert speaking.replica_rows is None
        end = asyncio.create_task(speaking.close())
        await asyncio.sleep(0.001)
        process.speak.set()
        assert await end == (None, messages.Bye())
    assert speaking.replica_rows is not None
    assert [row["key"] for row in speaking.replica_rows] == ["a", "b", "c"]


@pytest.mark.parametrize(("times", "is_refused"), [(1, False), (2, True)])
async def test_a_file_is_sent_once_at_a_time(times: int, is_refused: bool) -> None:
    asset = Asset("a", "0" * 64, 10**6, open=lambda: iter([b"x" * 10**6]))
    need = wire.pack(messages.Need(id=1, index=0))
    reply = messages.Reply(id=1, status=messages.Status.CHANGED)
    process = Process([wire.pack(READY) + need * times, wire.pack(reply)])
    async with asyncio.timeout(20):
        speaking = await opened(process)
        _, future = await speaking.submit(call, [asset])
        process.speak.set()
        await asyncio.wait([future])
    assert isinstance(future.exception(), ProtocolError) == is_refused
    await speaking.abort()


async def test_a_file_is_sent_again_but_not_for_ever() -> None:
    sent = CallsInFlight("web1", mock.AsyncMock(end=None), None)
    asset = Asset("a", "0" * 64, 10**6, open=lambda: iter([b"x"]))
    await sent.submit(1, call, [asset])
    for _ in range(in_flight.NEEDS):
        await sent.ship(1, 0, sent.asset(1, 0))
    with pytest.raises(ProtocolError, match="again and again"):
        sent.asset(1, 0)


async def test_ending_at_once_answers_everything() -> None:
    speaking = await opened(Process([]))
    _, reply = await speaking.submit(call)
    speaking.end_now(Unresponsive("web1 does not react"))
    with pytest.raises(Unresponsive):
        await reply
    with pytest.raises(Unresponsive):
        await speaking.cancel(0)
    await speaking.abort()
    assert not speaking.has_been_ready


async def test_a_cancellation_goes_before_what_waits() -> None:
    process = Process([wire.pack(READY)])
    speaking = await opened(process)
    written = len(process.written)
    await speaking.submit(call)  # it waits for the event loop's next turn
    await speaking.cancel(4)
    sent = list(wire.Decoder(messages.FROM_CONTROLLER).feed(bytes(process.written[written:])))
    assert [type(message) for message in sent] == [messages.Cancel, messages.Call]
    await speaking.abort()


async def test_what_a_host_reports_as_its_end_is_the_error_of_all_that_waits() -> None:
    kinds = messages.FailureKind
    for fail, cls, notes in (
        (messages.Fail(kind=kinds.STATE, error="broken", hint="mend it", detail="line 7"), HostError, ["line 7"]),
        (messages.Fail(kind=kinds.STATE, error="broken", hint="mend it"), HostError, []),
        (messages.Fail(kind=kinds.PROTOCOL, error="broken", hint="mend it", detail="x"), ProtocolError, []),
    ):
        for error in await outcomes([wire.pack(READY), wire.pack(fail)]):
            assert type(error) is cls
            assert (error.message, error.hint) == ("web1: broken", "mend it")
            assert getattr(error, "__notes__", []) == notes


async def test_an_asset_is_sent_when_the_host_needs_it() -> None:
    async with asyncio.timeout(30):
        process = Process([wire.pack(READY), wire.pack(messages.Need(id=1, index=0))])
        speaking = await opened(process)
        asset = Asset("a", "0" * 64, 7, open=lambda: iter([b"content"]))
        await speaking.submit(call, [asset], push=lambda asset: False)
        assert b"content" not in process.written
        process.speak.set()
        for _ in range(2000):
            if b"content" in process.written:
                break
            await asyncio.sleep(0.01)
        assert b"content" in process.written
        await speaking.abort()
