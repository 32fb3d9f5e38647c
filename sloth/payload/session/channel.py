"""The payload's end of the wire: a thread that reads frames, and the only writer of frames."""

import collections
import os
import select
import threading
import time

from sloth.payload.kernel.errors import Disconnected, Failed
from sloth.payload.session import wire
from sloth.payload.session.messages import Cancel, Need, Output, Ping, Stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Deque, Iterator

    from sloth.payload.kernel.content import Content
    from sloth.payload.kernel.record import Asset
    from sloth.payload.session.messages import Message

SILENCE = 60.0  # seconds without a byte from the controller (it pings every 15) after which the link counts as dead
INBOX = 4 * 1024 * 1024  # bytes of pulled content that may wait in memory
ANSWER = 600.0  # seconds within which the controller answers a fetch


class Channel(object):
    """Frames in and out. Everything but `_read` is called by the main thread."""

    def __init__(self, reader: "int", writer: "int") -> "None":
        """reader, writer: file descriptors of the wire."""
        self._reader = reader
        self._writer = writer
        self._decoder = wire.Decoder()
        self._messages: "Deque[Message]" = collections.deque()
        self._blobs: "dict[int, dict[int, Deque[bytes]]]" = {}  # call -> asset -> pieces; b"" is the last
        self._waiting = 0  # bytes in _blobs
        self._current = -1  # the call being run; blobs of earlier ones are dropped
        self._stored: "dict[int, Stored]" = {}  # call -> the controller's answer to a fetch
        self._cancelled = -1  # highest epoch that was cancelled
        self._epoch = 0
        self._over = ""  # why nothing more will come
        self._condition = threading.Condition()
        self._write_lock = threading.Lock()
        os.set_blocking(writer, False)

    def start(self) -> "None":
        """Begin to read."""
        thread = threading.Thread(target=self._read, name="wire")
        thread.daemon = True
        thread.start()

    # Reading

    def _read(self) -> "None":
        why = "the controller closed the connection"
        try:
            while True:
                if not select.select([self._reader], [], [], SILENCE)[0]:
                    why = "nothing heard from the controller for %d seconds" % SILENCE
                    break
                data = os.read(self._reader, 256 * 1024)
                if not data:
                    break
                for frame in self._decoder.feed(data):
                    self._take(frame)
        except (OSError, wire.WireError) as error:
            why = str(error)
        self.end(why)

    def end(self, why: "str") -> "None":
        """Let nothing more come in (also called from signal handlers, so it waits for no lock for long)."""
        self._over = self._over or why
        if self._condition.acquire(timeout=1):
            try:
                self._condition.notify_all()
            finally:
                self._condition.release()

    def _take(self, frame: "Message | wire.Blob") -> "None":
        with self._condition:
            if isinstance(frame, wire.Blob):
                call, index, data = frame.call, frame.index, frame.data
                while self._waiting > INBOX and call == self._current and not self._over:
                    self._condition.wait(1)
                if call >= self._current:
                    self._blobs.setdefault(call, {}).setdefault(index, collections.deque()).append(data)
                    self._waiting += len(data)
            elif isinstance(frame, Ping):
                pass  # that it came is its meaning
            elif isinstance(frame, Cancel):
                self._cancelled = max(self._cancelled, frame.epoch)
            elif isinstance(frame, Stored):
                self._stored[frame.id] = frame
            else:
                self._messages.append(frame)
            self._condition.notify_all()

    def next(self, wait: "bool" = True) -> "Message | None":
        """Return the next message; None when there is none yet and not `wait`. Raises Disconnected at the end."""
        with self._condition:
            while not self._messages:
                if self._over:
                    raise Disconnected(self._over)
                if not wait:
                    return None
                self._condition.wait(1)  # a bounded wait lets signals through
            return self._messages.popleft()

    def waiting(self) -> "list[Message]":
        """Return the messages that have come in and wait behind the present one."""
        with self._condition:
            return list(self._messages)

    # The call that is running

    def begin(self, call: "int", epoch: "int") -> "None":
        """Begin call number `call` of `epoch`; those before it are finished."""
        with self._condition:
            self._current, self._epoch = call, epoch

    def finish(self, call: "int") -> "None":
        """Finish a call: whatever else comes in for it is dropped."""
        with self._condition:
            self._current = call + 1
            for pieces in self._blobs.pop(call, {}).values():
                self._waiting -= sum(len(data) for data in pieces)
            self._condition.notify_all()

    def cancelled(self, epoch: "int | None" = None) -> "bool":
        """Return whether the calls of `epoch` (of the running call, if None) are no longer wanted."""
        return bool(self._over) or self._cancelled >= (self._epoch if epoch is None else epoch)

    def pull(self, index: "int", asset: "Asset") -> "Iterator[bytes]":
        """Yield the bytes of asset `index` of the running call; ask the controller unless it pushed them."""
        call = self._current
        if not asset.pushed:
            self.send(Need(id=call, index=index))
        while True:
            with self._condition:
                pieces = self._blobs.get(call, {}).get(index)
                while not pieces:
                    if self._over:
                        raise Failed("the connection ended while %s was being sent" % asset.name)
                    if self.cancelled():
                        raise Failed("cancelled while %s was being sent" % asset.name)
                    self._condition.wait(1)
                    pieces = self._blobs.get(call, {}).get(index)
                data = pieces.popleft()
                self._waiting -= len(data)
                self._condition.notify_all()
            if not data:
                return
            yield data

    def give(self, content: "Content") -> "None":
        """Stream `content` (Content) to the controller and wait until it has stored it; Failed when it cannot."""
        call = self._current
        for data in content.chunks():
            for start in range(0, len(data), wire.CHUNK):
                self.write(wire.Blob(call, 0, data[start : start + wire.CHUNK]).pack())
            if self.cancelled():
                raise Failed("cancelled while the file was being fetched")
        self.write(wire.Blob(call, 0, b"").pack())
        end = time.monotonic() + ANSWER
        with self._condition:
            while call not in self._stored:
                if self._over or time.monotonic() > end:
                    raise Failed("the controller did not confirm that it stored the file")
                self._condition.wait(1)
            answer = self._stored.pop(call)
        if answer.error:
            raise Failed(answer.error, hint=answer.hint)

    # Writing

    def output(self, stream: "str", data: "bytes") -> "None":
        """Report `data` that the running call's command printed on `stream`."""
        text = data.decode("utf-8", "surrogateescape")
        self.send(Output(id=self._current, stream=stream, data=text))

    def send(self, message: "Message") -> "None":
        """Write one message; raises Disconnected when the controller is no longer connected."""
        self.write(wire.pack(message))

    def write(self, data: "bytes") -> "None":
        """Write packed frames; raises Disconnected."""
        view = memoryview(data)
        with self._write_lock:
            poll = select.poll()
            poll.register(self._writer, select.POLLOUT)
            while view:
                ready = poll.poll(1000)
                if self._over and not ready:
                    raise Disconnected(self._over)
                if not ready:
                    continue
                try:
                    view = view[os.write(self._writer, view) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    self._over = self._over or str(error)
                    raise Disconnected(self._over)
