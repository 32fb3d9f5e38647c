"""Runs as they go on: server-sent events with the part of the page that changes, for whoever follows one.

A run of any process is followed by what it writes to the controller's database each second. Each event holds all of
that part, so a browser that reconnects misses nothing; its id is the mark of what it shows, and with it as
Last-Event-ID nothing is sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sloth.errors import SlothError
from sloth.web.data.live import Live, find_live, find_mark

if TYPE_CHECKING:
    from sloth.web.app import Site

POLL = 0.4  # seconds between two looks
QUIET = 15.0  # seconds after which something is sent although nothing has changed
LONGEST = 3600.0  # seconds of one stream; the browser comes again
MOST = 200  # streams at the same time
RETRY = 1000  # milliseconds after which a browser comes again


class Streams:
    """The streams of events that are open: `count` of them; `ended`: when one did last, by the monotonic clock."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.count = 0
        self.ended = float("-inf")

    def route(self) -> Route:
        return Route("/runs/{run}/events", self.events, name="events")

    async def events(self, request: Request) -> Response:
        run = request.path_params["run"]
        if self.count >= MOST:
            return PlainTextResponse("too many follow a run\n", 503, {"Retry-After": "5"})
        try:
            await run_in_threadpool(find_mark, self._site.source, run)
        except SlothError as error:
            return PlainTextResponse(f"{error.message}\n", 404)
        last = request.headers.get("last-event-id", "")
        # A reverse proxy must not keep events back.
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(run, last), media_type="text/event-stream", headers=headers)

    async def _stream(self, run: str, last: str) -> AsyncIterator[str]:
        self.count += 1
        begun = sent = time.monotonic()
        try:
            yield f"retry: {RETRY}\n\n"
            while time.monotonic() - begun < LONGEST:
                with contextlib.suppress(SlothError):  # the file is busy, say: the next time
                    mark = await run_in_threadpool(find_mark, self._site.source, run)
                    if mark != last:
                        live, text = await run_in_threadpool(self._render, run)
                        last, sent = live.mark, time.monotonic()
                        yield event("update", text, live.mark)
                        if live.has_ended:
                            await self._site.refresh()  # so that the page of the run has all of it
                    if not mark.endswith("."):  # there is an exit status
                        yield event("end", run, last)
                        return
                if time.monotonic() - sent > QUIET:
                    sent = time.monotonic()
                    yield ": nothing new\n\n"
                await asyncio.sleep(POLL)
        finally:
            self.count -= 1
            self.ended = time.monotonic()

    def _render(self, run: str) -> tuple[Live, str]:
        live = find_live(self._site.source, run)
        return live, self._site.template("live.html", live=live)


def event(kind: str, text: str, mark: str) -> str:
    """Return one event as it is sent; a text of several lines is several fields."""
    lines = "".join(f"data: {line}\n" for line in text.replace("\r", "").split("\n"))
    return f"id: {mark}\nevent: {kind}\n{lines}\n"
