"""The HTTP server's limits on clients that are slow on purpose, and when it ends."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from uvicorn import Server

    from sloth.web.live import Streams

LAST = 3.0  # seconds in which browsers that have followed a run to its end may load its page
REQUEST_SECONDS = 15.0  # within which a client must have sent its whole request


class BoundedProtocol(H11Protocol):
    """Closes a connection on which no request is complete in time; uvicorn itself waits for ever."""

    _timer: asyncio.TimerHandle | None = None
    _since = 0.0  # when the wait for a request began

    def connection_made(self, transport: Any) -> None:  # uvicorn's own type differs between its versions
        super().connection_made(transport)
        plain = transport.get_extra_info("socket")
        if plain is not None:  # asyncio does so itself only if the listening socket has named its protocol
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._since = self.loop.time()
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._look)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close the connection unless an answer is under way; look again later."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        left = self._since + REQUEST_SECONDS - self.loop.time()
        if is_answering and not self.cycle.more_body:
            left = REQUEST_SECONDS
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        else:
            self.transport.close()


def end_with_stdin(server: Server, streams: Streams) -> None:
    """End a server when its standard input does, and those who follow a run have got the end of it."""

    def wait() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        end = time.monotonic() + 2 * LAST
        had_followers = streams.count > 0 or time.monotonic() - streams.ended < LAST
        while streams.count and time.monotonic() < end:
            time.sleep(0.1)
        if had_followers:
            time.sleep(LAST)
        server.should_exit = True

    threading.Thread(target=wait, daemon=True).start()
