"""The payload's end of the connection: a thread that reads frames, and the only writer of them."""

import fcntl
import os
import select
import time
from collections import deque

from sloth.payload.kernel.errors import Disconnected, Failed
from sloth.payload.session import messages, threads, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Deque, Iterator

    from sloth.payload.kernel.content import Content
    from sloth.payload.kernel.record import Asset
    from sloth.payload.session.messages import Message
    from sloth.payload.session.wire import Blob

SILENCE = wire.SILENCE
BEAT = 10.0  # seconds between signs of life
INBOX = 4 * 1024 * 1024  # bytes of pulled content that may wait in memory
LARGE = 1024 * 1024  # bytes of a content for which the pipe is made larger
PIPE = 1024 * 1024  # bytes; the most that an account may ask for by default
F_SETPIPE_SZ = 1031  # Linux; Python has its name since 3.10
ANSWER = 600.0  # seconds within which the controller confirms a fetched file


class FrameWriter(object):
    """Writes frames, each of them whole, from whichever thread."""

    def __init__(self, descriptor: "int", ended: "Callable[[], str]") -> "None":
        """ended: returns why nothing more can be read from the other end, "" while it can."""
        self._descriptor = descriptor
        self._ended = ended
        self._lock = threads.allocate_lock()
        self._next_beat = time.monotonic() + BEAT
        os.set_blocking(descriptor, False)

    def write(self, data: "bytes") -> "None":
        """Write frames. Raises Disconnected."""
        with self._lock:
            self._write(memoryview(data))

    def beat(self) -> "None":
        """Send a sign of life when one is due. It does not block: the reading thread calls it."""
        now = time.monotonic()
        if now < self._next_beat or not self._lock.acquire(False):  # who writes is a sign of life
            return
        try:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            if poll.poll(0):  # then it takes that little at once
                self._write(memoryview(wire.pack(messages.Alive())))
                self._next_beat = now + BEAT
        except Disconnected:
            pass  # that is noticed where the controller is read
        finally:
            self._lock.release()

    def _write(self, view: "memoryview") -> "None":
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while view:
            ready = poll.poll(1000)
            if self._ended() and not ready:
                raise Disconnected(self._ended())
            if not ready:
                continue
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Disconnected(str(error))


def _widen(descriptor: "int") -> "None":
    """Let sshd write more at a time, where it reaches us by a pipe: 64 KB take a switch of processes each."""
    try:
        fcntl.fcntl(descriptor, F_SETPIPE_SZ, PIPE)
    except OSError:  # another system, no pipe, or the account has too many
        pass


class Channel(object):
    """Messages and contents, in and out.

    One thread reads (_read and what it calls); the main thread calls everything else. It runs the calls, and while one
    is running the reader still notes that it is cancelled, and takes the content that it pulls.
    """

    def __init__(self, reader: "int", writer: "int") -> "None":
        """reader, writer: file descriptors."""
        self._reader = reader
        self._frames = FrameWriter(writer, lambda: self._ended)
        self._messages: "Deque[Message]" = deque()
        self._pieces: "dict[int, dict[int, Deque[bytes]]]" = {}  # call -> asset index -> pieces; b"" ends them
        self._held = 0  # bytes in _pieces
        self._current = -1  # the call that is running; pieces for earlier ones are dropped
        self._stored: "dict[int, messages.Stored]" = {}  # by call
        self._cancelled: "dict[str, int]" = {}  # by lane: the highest epoch that was cancelled
        self._epoch = 0
        self._lane = ""
        self._ended = ""  # why nothing more will come
        self.on_heard: "Callable[[], None] | None" = None  # called by the reading thread when bytes have come
        self._violation: "wire.WireError | None" = None  # if it is what the controller sent that ended it
        self._condition = threads.Condition()

    def start(self) -> "None":
        """Begin to read."""
        threads.start(self._read)

    # Reading

    def _read(self) -> "None":
        why = "the controller closed the connection"
        decoder = wire.Decoder(messages.FROM_CONTROLLER)
        heard = time.monotonic()
        try:
            while True:
                is_readable = select.select([self._reader], [], [], BEAT)[0]
                self._frames.beat()
                now = time.monotonic()
                if not is_readable:
                    if now - heard < SILENCE:
                        continue
                    why = "no sign of life from the controller for %d seconds" % SILENCE
                    break
                heard = now
                data = os.read(self._reader, 256 * 1024)
                if not data:
                    break
                if self.on_heard is not None:
                    self.on_heard()
                for item in decoder.feed(data):
                    self._take(item)
        except wire.WireError as error:
            self._violation = error
            why = error.message
        except OSError as error:
            why = str(error)
        finally:  # whatever it was that ended this thread, the other one must not wait for it
            self.end(why)

    def end(self, why: "str") -> "None":
        """Let everything that waits for the controller end. Signal handlers call this too: it must not block."""
        self._ended = self._ended or why
        if self._condition.acquire(timeout=1):
            try:
                self._condition.notify_all()
            finally:
                self._condition.release()

    def _take(self, item: "Message | Blob") -> "None":
        with self._condition:
            if isinstance(item, wire.Blob):
                self._keep(item)
            elif isinstance(item, messages.Cancel):
                self._cancelled[item.lane] = max(self._cancelled.get(item.lane, -1), item.epoch)
            elif isinstance(item, messages.Stored):
                self._stored[item.id] = item
            elif not isinstance(item, messages.Ping):  # a ping is no more than a byte that came
                self._messages.append(item)
            self._condition.notify_all()

    def _keep(self, blob: "Blob") -> "None":
        """Keep a piece for pull(). While too many wait, this stops reading, and so the controller's writing."""
        while self._held > INBOX and blob.call == self._current and not self._ended:
            self._frames.beat()
            self._condition.wait(1)
        if blob.call >= self._current:
            self._pieces.setdefault(blob.call, {}).setdefault(blob.index, deque()).append(blob.data)
            self._held += len(blob.data)

    def receive(self, wait: "bool" = True) -> "Message | None":
        """Return the next message; None if there is none yet and not `wait`.

        Raises Disconnected at the end, or WireError if the controller sent something invalid.
        """
        with self._condition:
            while not self._messages:
                if self._violation is not None:
                    raise self._violation
                if self._ended:
                    raise Disconnected(self._ended)
                if not wait:
                    return None
                self._condition.wait(1)  # a bounded wait lets signals through
            return self._messages.popleft()

    def upcoming_calls(self) -> "list[messages.Call]":
        """Return the calls that wait behind the present one."""
        with self._condition:
            return [message for message in self._messages if isinstance(message, messages.Call)]

    # The call that is running

    def begin(self, call: "int", epoch: "int", lane: "str" = "") -> "None":
        """Note that `call` of `epoch` begins; those before it are finished."""
        with self._condition:
            self._current, self._epoch, self._lane = call, epoch, lane

    def finish(self, call: "int") -> "None":
        """Note that `call` is answered: whatever else comes for it is dropped."""
        with self._condition:
            self._current = call + 1
            for pieces in self._pieces.pop(call, {}).values():
                self._held -= sum(len(data) for data in pieces)
            self._condition.notify_all()

    def cancelled(self) -> "bool":
        """Return whether the running call is no longer wanted."""
        return self.is_cancelled(self._epoch, self._lane)

    def is_cancelled(self, epoch: "int", lane: "str" = "") -> "bool":
        """Return whether the calls of `epoch` are no longer wanted."""
        return bool(self._ended) or self._cancelled.get(lane, -1) >= epoch

    def pull(self, index: "int", asset: "Asset") -> "Iterator[bytes]":
        """Yield the bytes of asset `index` of the running call; request them unless the controller pushed them."""
        call = self._current
        if not asset.pushed:
            if asset.size > LARGE:
                _widen(self._reader)
            self.send(messages.Need(id=call, index=index))
        while True:
            with self._condition:
                pieces = self._pieces.get(call, {}).get(index)
                while not pieces:
                    if self._ended:
                        raise Failed("the connection ended while %s was being sent" % asset.name)
                    if self.cancelled():
                        raise Failed("cancelled while %s was being sent" % asset.name)
                    self._condition.wait(1)
                    pieces = self._pieces.get(call, {}).get(index)
                batch = list(pieces)  # each turn with the lock is a switch of threads
                pieces.clear()
                self._held -= sum(map(len, batch))
                self._condition.notify_all()
            for data in batch:
                if not data:
                    return
                yield data

    def give(self, content: "Content") -> "None":
        """Send `content` to the controller, and return when it has stored it. Raises Failed when it cannot."""
        call = self._current
        for data in content.chunks():
            for frame in wire.pack_pieces(call, 0, data):
                self.write(frame)
            if self.cancelled():
                raise Failed("cancelled while the file was being fetched")
        self.write(wire.Blob(call, 0, b"").pack())
        end = time.monotonic() + ANSWER
        with self._condition:
            while call not in self._stored:
                if self._ended or time.monotonic() > end:
                    raise Failed("the controller did not confirm that it stored the file")
                self._condition.wait(1)
            answer = self._stored.pop(call)
        if answer.error:
            raise Failed(answer.error, hint=answer.hint)

    # Writing

    def output(self, stream: "str", data: "bytes") -> "None":
        """Send what the running call's command printed on `stream` ("stdout" or "stderr")."""
        text = data.decode("utf-8", "surrogateescape")
        self.send(messages.Output(id=self._current, stream=stream, data=text))

    def send(self, message: "Message") -> "None":
        """Write one message. Raises Disconnected."""
        self.write(wire.pack(message))

    def write(self, data: "bytes") -> "None":
        """Write frames. Raises Disconnected."""
        self._frames.write(data)
