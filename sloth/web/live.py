"""Runs as they go on: server-sent events with the part of the page that changes, for whoever follows one.

A run of any process is followed by what it writes to the controller's database each second. Each event holds all of
that part, so a browser that reconnects misses nothing; its id is the mark of what it shows, and with it as
Last-Event-ID nothing is sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sloth.errors import SlothError
from sloth.frozen import frozen
from sloth.web.data.live import find_live, find_mark, is_over
from sloth.web.guard import SLASH

if TYPE_CHECKING:
    from sloth.web.app import Site

POLL = 0.4  # seconds between two looks
QUIET = 15.0  # seconds after which something is sent although nothing has changed
LONGEST = 3600.0  # seconds of one stream; the browser comes again
MOST = 200  # streams at the same time
RUNS = 20  # of which the newest look is kept
RETRY = 1000  # milliseconds after which a browser comes again


@frozen
class Shown:
    """What a run looked like at a mark, as HTML."""

    mark: str
    text: str
    has_ended: bool


class Streams:
    """The streams of events that are open: `count` of them; `ended`: when one did last, by the monotonic clock."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._shown: dict[str, Shown] = {}
        self.count = 0
        self.ended = float("-inf")

    def route(self) -> Route:
        return Route("/runs/{run}/events", self.events, name="events")

    async def events(self, request: Request) -> Response:
        run = str(request.path_params["run"]).replace(SLASH, "/")
        if self.count >= MOST:
            return PlainTextResponse("too many follow a run\n", 503, {"Retry-After": "5"})
        try:
            await run_in_threadpool(find_mark, self._site.source, run)
        except SlothError as error:
            return PlainTextResponse(f"{error.message}\n", 404)
        last = request.headers.get("last-event-id", "")
        # A reverse proxy must not keep events back.
        headers = {"X-Accel-Buffering": "no"}
        session = str(request.scope.get("session_id", ""))
        stream = self._stream(run, last, session if self._site.logins.has(session) else "")
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def _stream(self, run: str, last: str, session: str) -> AsyncIterator[str]:
        """Yield events, as long as the login lasts: session, "" for a token."""
        self.count += 1
        begun = sent = time.monotonic()
        try:
            yield f"retry: {RETRY}\n\n"
            while time.monotonic() - begun < LONGEST and (not session or self._site.logins.has(session)):
                with contextlib.suppress(SlothError):  # the file is busy, say: the next time
                    mark = await run_in_threadpool(find_mark, self._site.source, run)
                    if mark != last:
                        shown = await run_in_threadpool(self.look, run, mark)
                        last, sent = shown.mark, time.monotonic()
                        yield event("update", shown.text, shown.mark)
                        if shown.has_ended:
                            await self._site.refresh()  # so that the page of the run has all of it
                    if not mark.endswith("."):  # there is an exit status
                        yield event("end", run, last)
                        return
                if time.monotonic() - sent > QUIET:
                    sent = time.monotonic()
                    yield ": nothing new\n\n"
                    if await run_in_threadpool(is_over, self._site.source, run):  # its process was killed
                        yield event("end", run, last)
                        return
                await asyncio.sleep(POLL)
        finally:
            self.count -= 1
            self.ended = time.monotonic()

    def look(self, run: str, mark: str = "") -> Shown:
        """Return what those who follow a run are to see; for all who ask for the same mark, it is found once."""
        mark = mark or find_mark(self._site.source, run)
        with self._lock:
            shown = self._shown.get(run)
            if shown is None or shown.mark != mark:
                live = find_live(self._site.source, run)
                shown = Shown(live.mark, self._site.template("live.html", live=live), live.has_ended)
                self._shown = {**dict(list(self._shown.items())[-RUNS:]), run: shown}
            return shown


def event(kind: str, text: str, mark: str) -> str:
    """Return one event as it is sent; a text of several lines is several fields."""
    lines = "".join(f"data: {line}\n" for line in text.replace("\r", "").split("\n"))
    return f"id: {mark}\nevent: {kind}\n{lines}\n"
