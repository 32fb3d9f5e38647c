"""The payload's end of a session in this process, over real pipes: the test is the controller."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from sloth.payload.kernel.errors import Disconnected
from sloth.payload.kernel.record import Asset
from sloth.payload.session import messages, wire
from sloth.payload.session.channel import Channel
from sloth.payload.session.failures import fail_message
from sloth.payload.session.server import Server

PATIENCE = 60.0  # seconds for one message
M = TypeVar("M", bound=messages.Message)


class Peer:
    """A controller's end. What the payload sends is read when it is asked for."""

    def __init__(self, hello: messages.Hello, by_socket: bool = False) -> None:
        """by_socket: sshd may give a command a socket in place of two pipes."""
        if by_socket:
            ours, other = socket.socketpair()
            self._reader, self._writer = ours.detach(), -1
            theirs, answers = other.fileno(), os.dup(other.fileno())
            other.detach()
            self._writer = os.dup(self._reader)
        else:
            theirs, self._writer = os.pipe()
            self._reader, answers = os.pipe()
        self._is_socket = by_socket
        self._theirs = (theirs, answers)
        self.channel = Channel(theirs, answers)
        self._decoder = wire.Decoder(messages.FROM_PAYLOAD)
        self._items: deque[messages.Message | wire.Blob] = deque()
        self._call = 0
        self._query = 0
        self._thread = threading.Thread(target=self._serve, args=(hello,), daemon=True)

    def start(self) -> None:
        self.channel.start()
        self._thread.start()

    def _serve(self, hello: messages.Hello) -> None:
        """Do what payload/__main__.py does once it is greeted."""
        server = None
        try:
            server = Server(self.channel, hello)
            server.open()
            server.serve()
        except Disconnected:
            pass
        except Exception as error:
            if server is not None:
                server.close(error)
                server = None
            with contextlib.suppress(Disconnected):
                self.channel.send(fail_message(error))
        finally:
            if server is not None:
                server.close()

    def send(self, message: messages.Message | wire.Blob) -> None:
        self.write(message.pack() if isinstance(message, wire.Blob) else wire.pack(message))

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._writer, data) :]

    def receive(self) -> messages.Message | wire.Blob:
        """Return what comes next, but for signs of life."""
        end = time.monotonic() + PATIENCE
        while True:
            while self._items:
                item = self._items.popleft()
                if not isinstance(item, messages.Alive):
                    return item
            assert select.select([self._reader], [], [], max(0.0, end - time.monotonic()))[0], "no answer"
            data = os.read(self._reader, 1 << 18)
            assert data, "the payload has closed the connection"
            self._items.extend(self._decoder.feed(data))

    def expect(self, cls: type[M]) -> M:
        """Return the next message, which must be of this class."""
        item = self.receive()
        assert isinstance(item, cls), item
        return item

    def send_call(self, name: str, /, *, epoch: int = 0, task: str = "t", **given: object) -> int:
        """Send a call; `args_` are options of the message, such as lane_, all else are arguments."""
        self._call += 1
        options = {key[:-1]: value for key, value in given.items() if key.endswith("_")}
        args = {key: value for key, value in given.items() if not key.endswith("_")}
        self.send(messages.Call(id=self._call, epoch=epoch, name=name, args=args, task=task, **options))
        return self._call

    def call(self, name: str, /, *, epoch: int = 0, task: str = "t", **given: object) -> messages.Reply:
        """Send a call as send_call() does, and return its reply."""
        number = self.send_call(name, epoch=epoch, task=task, **given)
        reply = self.expect(messages.Reply)
        assert reply.id == number
        return reply

    def push(self, data: bytes, name: str = "x") -> Asset:
        """Send the content of the next call's first asset ahead of it; return the asset."""
        self.send(wire.Blob(self._call + 1, 0, data))
        self.send(wire.Blob(self._call + 1, 0, b""))
        return asset(data, name).replace(pushed=True)

    def answer(self, op: str, /, **args: object) -> messages.Rows:
        """Send a query and return its answer, all pages in one."""
        self._query += 1
        self.send(messages.StateQuery(id=self._query, op=op, args=args))
        rows = []
        while True:
            page = self.expect(messages.Rows)
            rows += page.rows
            if not page.more:
                return page.replace(rows=rows)

    def query(self, op: str, /, **args: object) -> list[dict[str, object]]:
        """Send a query, which must succeed, and return its rows."""
        found = self.answer(op, **args)
        assert not found.error, found.error
        return list(found.rows)

    def close(self, spared: list[str] | None = None) -> messages.Bye:
        """End the session as after a whole run."""
        self.send(messages.Close(evaluation=messages.Evaluation(spared=spared or [])))
        item = self.receive()
        while isinstance(item, messages.ReplicaPage):
            item = self.receive()
        assert isinstance(item, messages.Bye), item
        return item

    def hang_up(self) -> None:
        """Close the connection, and wait until the payload has ended."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        if self._is_socket:
            self.stop_reading()
        end = time.monotonic() + PATIENCE
        while not self.channel.cancelled():  # the thread that reads may not have noticed
            assert time.monotonic() < end, "the payload does not notice the end"
            time.sleep(0.005)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the payload does not end"

    def stop_reading(self) -> None:
        """Close the end from which the test reads."""
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1

    def dispose(self) -> None:
        self.hang_up()
        self.stop_reading()
        for descriptor in self._theirs:
            os.close(descriptor)


def asset(data: bytes, name: str = "x") -> Asset:
    """Return the asset of a content."""
    from sloth.payload.kernel.hashing import sha256

    return Asset(name=name, sha256=sha256(data).hexdigest(), size=len(data), mode="0644")


@contextlib.contextmanager
def connected(home: Path, ready: bool = True, by_socket: bool = False, **hello: object) -> Iterator[Peer]:
    """A session with the account whose home this is ($HOME names it, too); `hello`: fields of the first message."""
    fields = {"agent": "a", "run": "r1", "site": "s", "who": "me", "origin": "here", **hello}
    peer = Peer(messages.Hello(v=messages.VERSION, **fields), by_socket)
    peer.start()
    try:
        if ready:
            peer.expect(messages.Ready)
        yield peer
    finally:
        peer.dispose()
