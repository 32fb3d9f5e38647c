"""The application: routes for pages, the API and static files, the login, and the guard around all of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sloth.errors import SlothError, StateError, StateNotFound, UsageError
from sloth.web import metrics
from sloth.web.actions import Actions
from sloth.web.asking import Asking
from sloth.web.data.index import Index
from sloth.web.data.live import find_live
from sloth.web.data.source import Source
from sloth.web.guard import COOKIE, HEADERS, SESSION, SLASH, Guard, Logins, session_of
from sloth.web.live import Streams
from sloth.web.openapi import document
from sloth.web.plain import plain
from sloth.web.rendering import HERE, asset_tag, environment, load_templates
from sloth.web.settings import Settings
from sloth.web.view import Query, View
from sloth.web.views import VIEWS

FIRST = 3.0  # seconds that the start waits for the index
REFRESH = 2.0  # seconds between two looks at what is new
FETCH = 30.0  # seconds between two looks at what other controllers have delivered
Endpoint = Callable[[Request], Awaitable[Response]]
log = logging.getLogger(__name__)


class Site:
    """The pages over one controller's directory.

    Attributes:
        source: what the data come from.
        logins: who may use it.
        streams: those who follow a run.
    """

    def __init__(self, settings: Settings, views: Sequence[View] = VIEWS) -> None:
        """Raises StateError when the controller's database cannot be read."""
        self.settings = settings
        self.views = tuple(views)
        self.logins = Logins(settings.token)
        self._worker = ThreadPoolExecutor(1, "index")  # SQLite wants one thread for a connection
        self._next_fetch = 0.0
        self._is_fresh = asyncio.Event()
        self._index = self._worker.submit(Index, settings.directory).result()
        self.source = Source(settings.directory, settings.read_inventory, settings.storage, settings.plans)
        self.streams = Streams(self)

    # Rendering

    def find(self, view: View, query: Query) -> object:
        """Return the data of a view. Raises SlothError."""
        return view.find(self.source, query)

    def render(self, view: View, query: Query, path: str) -> str:
        """Return a page. Raises SlothError."""
        return self.template(
            f"{view.name}.html", title=view.title, section=view.section, view=view, path=path,
            values=query.values, data=self.find(view, query), live_of=partial(find_live, self.source),
        )  # fmt: skip

    def template(self, name: str, **values: object) -> str:
        template = environment(self.settings.prefix).get_template(name)
        return template.render(asset=asset_tag, allow_actions=self.settings.actions is not None, **values)

    def error_page(self, status: int, error: SlothError) -> HTMLResponse:
        text = self.template("error.html", title=error.message, section="", status=status, error=error)
        return HTMLResponse(text, status)

    # Endpoints

    def page(self, view: View) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                query = _query(view, request)
                return HTMLResponse(await run_in_threadpool(self.render, view, query, request.url.path))
            except SlothError as error:
                return self.error_page(_status(error), error)

        return endpoint

    def api(self, view: View) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                query = _query(view, request)
                return Json(await run_in_threadpool(lambda: plain(self.find(view, query))))
            except SlothError as error:
                return Json({"error": error.message, "hint": error.hint}, _status(error))

        return endpoint

    async def openapi(self, request: Request) -> Response:
        return Json(document(self.views))

    async def login(self, request: Request) -> Response:
        """Log in by the address that was printed, or by the token of the form."""
        session, wrong = None, False
        if request.method == "POST":
            session = self.logins.log_in((await read_form(request)).get("token", ""))
            wrong = session is None
        elif "code" in request.query_params and request.method == "GET":  # what looks at links sends HEAD
            session = self.logins.redeem(request.query_params["code"])
            wrong = session is None
        if session is None:
            text = self.template("login.html", title="Log in", section="", wrong=wrong)
            return HTMLResponse(text, 403 if wrong else 200)
        self.logins.end(session_of(request.headers))
        response = RedirectResponse(f"{self.settings.prefix}{self.settings.start}", 303)
        response.set_cookie(
            COOKIE, session, max_age=SESSION, path=f"{self.settings.prefix}/", httponly=True, samesite="strict",
            secure=self.settings.secure,
        )  # fmt: skip
        return response

    async def logout(self, request: Request) -> Response:
        self.logins.end(str(request.scope.get("session_id", "")))
        response = RedirectResponse(f"{self.settings.prefix}/login", 303, {"Clear-Site-Data": '"cache"'})
        response.delete_cookie(COOKIE, path=f"{self.settings.prefix}/")
        return response

    async def failed(self, request: Request, error: Exception) -> Response:
        """Say that this is a defect; what it is, the server logs. The guard does not see this answer."""
        shown = StateError(
            "this page cannot be made: a defect of sloth-runner", hint=f"its log has the {type(error).__name__}"
        )
        headers = {**HEADERS, "Cache-Control": "no-store"}
        if request.url.path.startswith("/api/"):
            return Json({"error": shown.message, "hint": shown.hint or ""}, 500, headers)
        response = self.error_page(500, shown)
        response.headers.update(headers)
        return response

    async def not_found(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        shown = UsageError("there is no such page" if error.status_code == 404 else error.detail)
        if request.url.path.startswith("/api/"):
            return Json({"error": shown.message, "hint": ""}, error.status_code, error.headers)
        response = self.error_page(error.status_code, shown)
        response.headers.update(error.headers or {})
        return response

    # The index

    def refresh_now(self) -> None:
        """Bring the index up to date, and wait for it. Raises StateError."""
        self._worker.submit(self._index.refresh).result()

    async def refresh(self) -> None:
        """Bring the index up to date. Raises StateError."""
        await asyncio.get_running_loop().run_in_executor(self._worker, self._refresh)

    def _refresh(self) -> None:
        self._index.refresh()
        fetch = self.settings.fetch
        if fetch is not None and time.monotonic() > self._next_fetch:
            try:
                self.source.fetch_problem = fetch()
            except SlothError as error:
                self.source.fetch_problem = str(error)
            self._next_fetch = time.monotonic() + FETCH
            self._index.refresh()

    def close(self) -> None:
        """Close the index."""
        self._worker.submit(self._index.close).result()
        self._worker.shutdown()

    async def _keep_fresh(self) -> None:
        while True:
            try:
                await self.refresh()
            except SlothError as error:
                self.source.index_problem = str(error)
                log.warning("the index cannot be brought up to date: %s", error)
            else:
                self.source.index_problem = ""
            self._is_fresh.set()
            await asyncio.sleep(REFRESH)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        loading = asyncio.get_running_loop().run_in_executor(None, load_templates, self.settings.prefix)
        task = asyncio.create_task(self._keep_fresh())
        with contextlib.suppress(TimeoutError):  # the first time, thousands of replicas take longer: pages come first
            await asyncio.wait_for(self._is_fresh.wait(), FIRST)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await loading
            self.close()


class Json(JSONResponse):
    """JSON that is safe wherever a browser puts it."""

    def render(self, content: object) -> bytes:
        text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        return text.replace("<", "\\u003c").encode()


def create_app(site: Site, further: Sequence[Route] = ()) -> Starlette:
    """Return the application; further: routes besides those of the views."""
    routes: list[Route | Mount] = [
        *(Route(view.path, site.page(view), name=view.name) for view in site.views),
        *(Route(view.api_path, site.api(view), name=f"api-{view.name}") for view in site.views),
        Route("/api/v1/openapi.json", site.openapi),
        Route("/login", site.login, methods=["GET", "POST"]),
        Route("/logout", site.logout, methods=["POST"]),
        Route("/healthz", _health),
        site.streams.route(),
        metrics.route(site),
        *(Actions(site, site.settings.actions).routes() if site.settings.actions is not None else ()),
        Asking(site).route(),
        *further,
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, settings=site.settings, logins=site.logins)],
        exception_handlers={**dict.fromkeys((400, 404, 405, 413), site.not_found), 500: site.failed},
        lifespan=site.lifespan,
    )


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form. Raises HTTPException when it is too large, or none."""
    try:
        body = await request.body()
        return dict(parse_qsl(body.decode("utf-8"), max_num_fields=20, keep_blank_values=True))
    except ClientDisconnect as error:  # the guard has cut it off
        raise HTTPException(413, "the request is too large") from error
    except ValueError as error:
        raise HTTPException(400, "the request is no form") from error


async def _health(request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _query(view: View, request: Request) -> Query:
    """Return the checked parameters of a request. Raises UsageError."""
    names = [name for name, _ in request.query_params.multi_items()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice[:100]!r} is given twice")
    path = {name: str(value).replace(SLASH, "/") for name, value in request.path_params.items()}
    return Query.read(view, {**request.query_params, **path})


def _status(error: SlothError) -> int:
    if isinstance(error, UsageError):
        return 400
    return 404 if isinstance(error, StateNotFound) else 503
