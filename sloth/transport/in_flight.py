"""The calls that a host has not answered: how many there may be, what they ship, what they fetch, their replies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from sloth.errors import CallError, HostError, ProtocolError
from sloth.payload.kernel.status import Status
from sloth.payload.session import messages, wire
from sloth.payload.session.messages import Call, Reply
from sloth.transport.assets import Asset
from sloth.transport.outbox import Outbox

T = TypeVar("T")
# The bytes of a call by its number, and by which of its assets go along.
Frames = dict[tuple[int, tuple[bool, ...]], bytes]
CALLS = 512  # calls in flight
BYTES = 1024 * 1024  # bytes in flight
KEPT = 8 * 1024  # bytes of a call, with its contents, that are kept for other hosts
INLINE = 4096  # bytes; a content up to this size always goes with its call
PUSH = 64 * 1024  # bytes; up to this size it goes with its call when the host is not known to have it
TOGETHER = 8  # pieces of a file that are written at once
REPLIES = 256 * 1024 * 1024  # bytes of a session's replies in all: the run remembers them
NEEDS = 8  # times that a host may ask for one asset


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
        self.needs: Counter[int] = Counter()  # how often the host has asked for an asset, by index
        self.shipping: set[int] = set()  # the assets that are being sent
        self.unread = ""  # why one of them could not be read


class CallsInFlight:
    """Every future that it hands out gets a reply or a HostError."""

    def __init__(self, host: str, outbox: Outbox, on_fetch: Callable[[int], Sink] | None) -> None:
        """on_fetch(number): where the file of that call goes."""
        self._host = host
        self._outbox = outbox
        self._on_fetch = on_fetch
        self._sent: dict[int, _Sent] = {}
        self._bytes = 0
        self._answered = 0  # bytes of all replies
        self._room = asyncio.Event()

    @property
    def oldest(self) -> int:
        """The number of the oldest call that is not answered, 0 when there is none."""
        return next(iter(self._sent), 0)

    async def submit(
        self,
        number: int,
        make: Callable[[int], Call],
        assets: Sequence[Asset],
        push: Callable[[Asset], bool] = lambda asset: True,
        frames: Frames | None = None,
    ) -> asyncio.Future[Reply]:
        """Write the call that make(number) returns; return the future of its reply. Waits while too much is in flight.

        push(asset): whether a smallish content goes along unasked; frames: of the same call to other hosts. Raises
        HostError when the session has ended, CallError when a content cannot be read.
        """
        pushed = tuple(
            not asset.dir and (asset.size <= INLINE or (asset.size <= PUSH and push(asset))) for asset in assets
        )
        data = frames.get((number, pushed)) if frames is not None else None
        if data is None:
            data = _frames(make(number), assets, pushed)
            if frames is not None and len(data) <= KEPT:
                frames[number, pushed] = data
        await self._wait_for_room(len(data))
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        future.add_done_callback(retrieve)
        self._sent[number] = _Sent(future, assets, len(data))
        self._bytes += len(data)
        await self._outbox.write_soon(data)
        return future

    async def _wait_for_room(self, size: int) -> None:
        """Wait until `size` bytes more may be in flight: without a window, both ends could fill all buffers."""
        while self._sent and (len(self._sent) >= CALLS or self._bytes + size > BYTES):
            if self._outbox.end is not None:
                raise self._outbox.end
            self._room.clear()
            await self._room.wait()
        if self._outbox.end is not None:
            raise self._outbox.end

    def answer(self, reply: Reply, size: int) -> None:
        """Take a reply of `size` bytes. Raises ProtocolError when its call was not made, or it is none of a call."""
        self._answered += size
        if self._answered > REPLIES:
            raise ProtocolError(f"{self._host} sent more than {REPLIES} bytes of replies")
        if reply.status is Status.UNREACHABLE or (reply.status is Status.UNKNOWN and not reply.unknown):
            raise ProtocolError(f"{self._host} sent a reply with the status {reply.status}")
        sent = self._sent.pop(reply.id, None)
        if sent is None:
            raise ProtocolError(f"{self._host} sent a reply to a call that was not made")
        if sent.sink is not None:
            sent.sink.abort()
        self._bytes -= sent.size
        self._room.set()
        if not sent.reply.done():
            is_ours = sent.unread and reply.status is Status.FAILED  # the host only knows that something was missing
            sent.reply.set_result(reply.replace(error=sent.unread, hint="run again") if is_ours else reply)

    def end(self, error: HostError) -> None:
        """Nothing more will come: everybody who waits gets the error."""
        for sent in self._sent.values():
            if sent.sink is not None:
                sent.sink.abort()
            if not sent.reply.done():
                sent.reply.set_exception(error)
        self._sent.clear()
        self._room.set()

    def asset(self, number: int, index: int) -> Asset:
        """Return an asset that the host needs, to be shipped. Raises ProtocolError when it may not have it."""
        sent = self._sent.get(number)
        if sent is None or not 0 <= index < len(sent.assets) or sent.assets[index].open is None:
            raise ProtocolError(f"{self._host} asks for a file that was not offered")
        sent.needs[index] += 1
        if index in sent.shipping or sent.needs[index] > NEEDS:
            raise ProtocolError(f"{self._host} asks for a file again and again")
        sent.shipping.add(index)
        return sent.assets[index]

    async def ship(self, number: int, index: int, asset: Asset) -> None:
        """Stream a content that the host needs; stop when the call is answered without it."""
        sent = self._sent.get(number)
        if sent is not None:
            await self._ship(number, index, asset)
            sent.shipping.discard(index)

    async def _ship(self, number: int, index: int, asset: Asset) -> None:
        frames: list[bytes] = []
        try:
            for frame in asset.blobs(number, index):
                if number not in self._sent:
                    return
                frames.append(frame)
                if len(frames) == TOGETHER:
                    await self._outbox.write(*frames)
                    frames.clear()
        except CallError as error:
            frames.clear()  # the host finds the content short, and writes nothing
            if number in self._sent:
                self._sent[number].unread = error.message
        if number in self._sent:
            await self._outbox.write(*frames, wire.Blob(number, index, b"").pack())

    def fetched(self, blob: wire.Blob) -> messages.Stored | None:
        """Take a piece of a file that the host sends; the empty piece ends it, and is answered.

        Raises ProtocolError.
        """
        sent = self._sent.get(blob.call)
        if sent is None or self._on_fetch is None:
            raise ProtocolError(f"{self._host} sends a file that was not requested")
        try:
            if sent.sink is None and not sent.sink_error:
                sent.sink = self._on_fetch(blob.call)
            if sent.sink is not None:
                if blob.data:
                    sent.sink.write(blob.data)
                    return None
                sink, sent.sink = sent.sink, None
                sink.finish()
        except OSError as error:
            if sent.sink is not None:
                sent.sink.abort()
                sent.sink = None
            sent.sink_error = f"the controller cannot store {error.filename or 'the file'}: {error.strerror}"
        return None if blob.data else messages.Stored(id=blob.call, error=sent.sink_error)


def _frames(call: Call, assets: Sequence[Asset], pushed: Sequence[bool]) -> bytes:
    """Return a call with the contents that go along. Raises CallError."""
    frames = []
    for index, (asset, goes_along) in enumerate(zip(assets, pushed, strict=True)):
        call.assets.append(asset.on_wire(goes_along))
        if goes_along:
            frames += [*asset.blobs(call.id, index), wire.Blob(call.id, index, b"").pack()]
    try:
        frames.append(wire.pack(call))
    except wire.WireError as error:
        raise CallError(f"{call.name} cannot be sent: {error.message}", hint="ship large contents as files") from error
    return b"".join(frames)


def retrieve(future: asyncio.Future[T]) -> None:
    """Mark a future's error as seen: the same error reaches the user another way."""
    if not future.cancelled():
        future.exception()
