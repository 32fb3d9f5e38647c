"""The HTTP server's limits on clients that are slow on purpose."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 15.0  # within which a client must have sent its whole request


class BoundedProtocol(H11Protocol):
    """Closes a connection on which no request is complete in time; uvicorn itself waits for ever."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # uvicorn's own type differs between its versions
        super().connection_made(transport)
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close the connection unless an answer is under way; look again later."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and not self.cycle.more_body:
            self._timer = self.loop.call_later(REQUEST_SECONDS, self._look)
        else:
            self.transport.close()
