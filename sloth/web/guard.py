"""Who may use the web UI, and how: everything that is checked before a page sees a request.

The list of attacks that this answers is tests/integration/test_web_security.py.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sloth.web.settings import Settings

COOKIE = "sloth"
SESSION = 12 * 3600  # seconds that a login lasts
SESSIONS = 1000  # at the same time; the oldest ends
LARGEST_BODY = 64 * 1024
LONGEST_TARGET = 8 * 1024  # of path and query
FAILURES = 20  # wrong tokens within a minute, after which all are refused for the rest of it
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send the Origin "null" with forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
PUBLIC = ("/login", "/static/")  # what a client without a login may have
SAFE = ("GET", "HEAD")
SLASH = "\ue000"  # stands for a slash that is a part of a name, between here and the parameters of a view


class Logins:
    """Who is logged in. The token itself never is in a cookie."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._code = secrets.token_urlsafe(32)
        self._sessions: dict[str, float] = {}
        self._failures: list[float] = []

    @property
    def code(self) -> str:
        """The code of the login address, which works once."""
        return self._code

    def redeem(self, code: str) -> str | None:
        """Return a new session for the code, or None; a code that was used is worth nothing."""
        if self._code and self._is_equal(code, self._code.encode()):
            self._code = ""
            return self._begin()
        return None

    def log_in(self, token: str) -> str | None:
        """Return a new session for the token, or None."""
        return self._begin() if self.accepts(token) else None

    def accepts(self, token: str) -> bool:
        """Return whether this is the token."""
        return self._is_equal(token, self._token)

    def has(self, session: str) -> bool:
        """Return whether a session goes on."""
        return self._sessions.get(session, 0.0) > time.monotonic()

    def end(self, session: str) -> None:
        self._sessions.pop(session, None)

    def _begin(self) -> str:
        now = time.monotonic()
        self._sessions = {name: end for name, end in self._sessions.items() if end > now}
        while len(self._sessions) >= SESSIONS:
            del self._sessions[min(self._sessions, key=self._sessions.__getitem__)]
        session = secrets.token_urlsafe(32)
        self._sessions[session] = now + SESSION
        return session

    def _is_equal(self, given: str, wanted: bytes) -> bool:
        """Compare in constant time; too many wrong ones within a minute are all refused."""
        now = time.monotonic()
        self._failures = [at for at in self._failures if at > now - 60]
        is_equal = hmac.compare_digest(given.encode("utf-8", "replace"), wanted)
        if len(self._failures) >= FAILURES:
            return False
        if not is_equal:
            self._failures.append(now)
        return is_equal and bool(wanted)


class Guard:
    """The middleware around everything."""

    def __init__(self, app: ASGIApp, settings: Settings, logins: Logins) -> None:
        self._app = app
        self._settings = settings
        self._logins = logins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        scope = _with_slashes(self._without_prefix(scope))

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in HEADERS.items():
                    headers[name] = value
                if not scope["path"].startswith("/static/"):
                    headers["Cache-Control"] = "no-store"
                    headers["Vary"] = "Cookie, Authorization"
                if self._settings.secure:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        refusal = self._refuse(scope)
        if refusal is not None:
            await refusal(scope, receive, send_safely)
            return
        await self._app(scope, Limited(receive), send_safely)

    def _without_prefix(self, scope: Scope) -> Scope:
        """Return a request without the prefix, which some reverse proxies remove and others do not."""
        prefix, path = self._settings.prefix, str(scope["path"])
        if not prefix or not (path == prefix or path.startswith(prefix + "/")):
            return scope
        raw = scope.get("raw_path") or b""
        return {**scope, "path": path[len(prefix) :] or "/", "raw_path": raw[len(prefix.encode()) :] or b"/"}

    def _refuse(self, scope: Scope) -> Response | None:
        """Return the answer to a request that no page may see, or None."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._settings.hosts:
            return _refusal(421, "this server does not answer to that name; see --host-name")
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_TARGET:
            return _refusal(414, "the address is too long")
        if "content-length" in headers and "transfer-encoding" in headers:  # a proxy may see another end of it
            return PlainTextResponse("the request has two lengths\n", 400, {"Connection": "close"})
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length[:12]) > LARGEST_BODY:
            return _refusal(413, f"a request may have up to {LARGEST_BODY} bytes")
        if not self._is_own(headers, hosts[0], scope["method"]):
            return _refusal(403, "this request comes from another site")
        if scope["path"] == "/login" or scope["path"].startswith("/static/"):
            return None
        if scope["path"] == "/metrics" and self._settings.metrics_public:
            return None
        session = session_of(headers)
        scope["session_id"] = session
        if not self._settings.token or self._logins.has(session):
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and scope["method"] in SAFE and self._logins.accepts(token.strip()):
            return None
        return self._ask_to_log_in(scope, headers)

    def _is_own(self, headers: Headers, host: str, method: str) -> bool:
        """Return whether a request comes from a page of this server, or from no page at all."""
        origins = headers.getlist("origin")
        scheme = "https" if self._settings.secure else "http"
        if any(origin.lower() != f"{scheme}://{host.lower()}" for origin in origins):
            return False
        if method not in SAFE and not origins:
            return False
        site = headers.get("sec-fetch-site", "none")
        is_link = headers.get("sec-fetch-mode") == "navigate" and method in SAFE
        return site in ("same-origin", "none") or is_link

    def _ask_to_log_in(self, scope: MutableMapping[str, object], headers: Headers) -> Response:
        path = str(scope["path"])
        if path.startswith("/api/") or path in ("/metrics", "/events") or scope["method"] not in SAFE:
            return PlainTextResponse("log in first: send the token as a bearer token\n", 401, _CHALLENGE)
        is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        # A link from elsewhere comes without the cookie, since that is strict: the same address once more has it.
        again = '<meta http-equiv="refresh" content="0">' if is_foreign else ""
        login = f"{self._settings.prefix}/login"
        page = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8">{again}<title>Log in · sloth-runner</title>'
            f'<link rel="stylesheet" href="{self._settings.prefix}/static/style.css"></head><body><main id="main">'
            f"<h1>Log in</h1><p>Open the address that <code>sloth-runner web</code> has printed, or "
            f'<a href="{login}">enter the token</a>.</p></main></body></html>'
        )
        return Response(page, 401, media_type="text/html")


def _with_slashes(scope: Scope) -> Scope:
    """Return a request in whose path what was sent as %2F is a part of a name, and no slash of the address."""
    raw = bytes(scope.get("raw_path") or b"")
    if b"%2f" not in raw.lower():
        return scope
    pieces = [unquote(piece) for piece in re.split("%2f", raw.decode("ascii", "replace"), flags=re.I)]
    return {**scope, "path": SLASH.join(pieces)}


class Limited:
    """Receives the body of a request, as long as it keeps to the limit."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = LARGEST_BODY

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                return {"type": "http.disconnect"}
        return message


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sloth-runner"'}


def session_of(headers: Headers) -> str:
    """Return the session that a request's cookie names, "" for none."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie is not None else ""


def _refusal(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status)
