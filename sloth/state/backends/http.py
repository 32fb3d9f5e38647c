"""A small HTTP client for the servers of a backend: every step ends in time, and it is clear what was sent.

Nothing sent: BackendUnavailable. A write sent and not answered: Unsure. A server that refuses us: BackendError.
"""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.state.backends.backend import BackendError, BackendUnavailable, Unsure
from sloth.state.backends.skew import Skew
from sloth.state.backends.untrusted import MALFORMED, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sloth.state.backends.address import Address

CONNECT = 5.0  # seconds for a connection, TLS included
NEXT_ADDRESS = 0.25  # seconds after which the next address of a name is tried, too: one that drops packets says nothing
ANSWER = 10.0  # seconds for an answer from the first byte that we send, and more for what is large
SLOWEST = 50_000  # bytes a second, for what is large
IDLE = 20.0  # seconds after which a connection is not used again: servers close theirs, often after a minute
CONNECTIONS = 8  # at the same time
LARGEST_LINE = 64 * 1024  # bytes of a head
MOST_HEADERS = 100
LARGEST_ANSWER = 64 * 1024 * 1024
UNREACHABLE = "check the address, and that the server runs and no firewall is between"
CLOSED = "check whether the server speaks TLS at this port, and whether the URL does"


@frozen
class Answer:
    """The answer to a request; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Lost(Exception):
    """A connection ended, or was silent for too long; nothing of the request was sent unless `sent`."""

    def __init__(self, why: str, sent: bool, hint: str = UNREACHABLE) -> None:
        super().__init__(why)
        self.sent = sent
        self.hint = hint


class Http:
    """Keep-alive connections to the servers of one backend. A server that fails is left for the next one."""

    def __init__(self, url: str, servers: Sequence[Address], tls: ssl.SSLContext | None = None) -> None:
        self.url = url
        self._servers = list(servers)
        self._tls = tls
        self._first = 0  # the server to begin with
        self._skews = {server: Skew() for server in servers}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: dict[Address, list[_Connection]] = {}
        self._slots = asyncio.Semaphore(CONNECTIONS)

    @property
    def skew(self) -> Skew:
        """Return what is known of the clock of the server in use."""
        return self._skews[self._servers[self._first]]

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, again: bool,
        is_cut_off: Callable[[Answer], bool] = lambda answer: False,
    ) -> Answer:  # fmt: skip
        """Return the answer to a request.

        again: it may be sent twice, as a read may. is_cut_off: tells the answers of a server that is there, but cannot
        reach the others of its cluster. Raises BackendError, BackendUnavailable, and Unsure without `again`.
        """
        self._enter_loop()
        trouble: BackendError | None = None
        async with self._slots:
            for left in range(len(self._servers) - 1, -1, -1):
                server = self._servers[self._first]
                try:
                    answer = await self._ask_one(server, method, path, body, headers or {}, again)
                    if not is_cut_off(answer):
                        return answer
                    self._leave(server)
                    if not left or not again:
                        return answer
                except Lost as error:
                    self._leave(server)
                    if error.sent and not again:
                        raise Unsure(f"{self.url}: no answer from {server}: {error}", hint=error.hint) from None
                    trouble = BackendUnavailable(f"{self.url}: cannot reach {server}: {error}", hint=error.hint)
                except ssl.SSLError as error:  # it has taken nothing
                    self._leave(server)
                    trouble = trouble or self._no_tls(server, error)
        assert trouble is not None  # there is a server
        raise trouble

    async def close(self) -> None:
        """Close the connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    async def _ask_one(
        self, server: Address, method: str, path: str, body: bytes, headers: Mapping[str, str], again: bool
    ) -> Answer:
        request = _request(server, method, path, body, headers)
        while True:
            connection, is_fresh = self._take(server), False
            if connection is None:
                connection, is_fresh = await _connect(server, self._tls), True
            sent = time.monotonic()
            try:
                answer = await connection.ask(request, method)
            except Lost as error:
                if not is_fresh and (again or not error.sent):
                    continue  # the server had closed it meanwhile; a few idle ones at most
                raise
            self._learn(server, answer, sent)
            if connection.is_reusable:
                self._idle.setdefault(server, []).append(connection)
            else:
                connection.abort()
            return answer

    def _leave(self, server: Address) -> None:
        """Begin with the next server from now on, unless another request has moved on already."""
        if self._servers[self._first] is server:
            self._first = (self._first + 1) % len(self._servers)

    def _take(self, server: Address) -> _Connection | None:
        """Return an idle connection that the server has not closed."""
        idle = self._idle.get(server, [])
        while idle:
            connection = idle.pop()
            if connection.is_alive():
                return connection
            connection.abort()
        return None

    def _enter_loop(self) -> None:
        """Leave the connections of an event loop that has ended: nothing of another loop can be used in this one."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._slots = loop, asyncio.Semaphore(CONNECTIONS)
            self._idle.clear()

    def _learn(self, server: Address, answer: Answer, sent: float) -> None:
        try:
            date = email.utils.parsedate_tz(answer.headers.get("date", ""))
            if date is not None:
                self._skews[server].learn(moment(email.utils.mktime_tz(date)), sent, time.monotonic())
        except MALFORMED:  # a date that is none is as good as no date
            pass

    def _no_tls(self, server: Address, error: ssl.SSLError) -> BackendError:
        why = getattr(error, "verify_message", "") or error.reason or str(error)
        hint = "check the CA, the certificate and its key, and the name of the host"
        if "WRONG_VERSION" in why or "RECORD_LAYER" in why:
            hint = "does the server speak TLS at this port?"
        return BackendError(f"{self.url}: no TLS connection to {server}: {why}", hint=hint)


class _Connection:
    """One connection, on which one request follows the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._used = time.monotonic()
        self.is_reusable = True

    def is_alive(self) -> bool:
        """Return whether it can be used again, as far as one can see from here."""
        is_closed = self._reader.at_eof() or self._reader.exception() is not None or self._writer.is_closing()
        return self.is_reusable and not is_closed and time.monotonic() - self._used < IDLE

    def abort(self) -> None:
        """Close it, without waiting for anything."""
        self.is_reusable = False
        try:
            self._writer.transport.abort()
        except RuntimeError:  # its event loop has ended
            pass

    async def ask(self, request: bytes, method: str) -> Answer:
        """Return the answer to a request. Raises Lost, ssl.SSLError, BackendError."""
        sent = False
        try:
            async with asyncio.timeout(ANSWER + len(request) / SLOWEST):
                sent = True
                self._writer.write(request)
                await self._writer.drain()
                answer = await self._receive(method)
        except TimeoutError:
            self.abort()
            raise Lost("no answer in time", sent) from None
        except asyncio.LimitOverrunError:  # a line without end
            self.abort()
            raise _no_http() from None
        except (OSError, EOFError) as error:
            self.abort()
            if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
                raise  # it refuses our certificate, or the lack of one: with TLS 1.3 it says so after the handshake
            raise Lost(_reason(error), sent, CLOSED if isinstance(error, EOFError) else UNREACHABLE) from error
        except BaseException:  # cancelled, too: an answer that still comes must not be taken for the next one's
            self.abort()
            raise
        self._used = time.monotonic()
        return answer

    async def _receive(self, method: str) -> Answer:
        status, headers = await self._head()
        while 100 <= status < 200:
            status, headers = await self._head()
        if headers.get("connection", "").lower() == "close":
            self.is_reusable = False
        if method == "HEAD" or status in (204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return Answer(status, headers, await self._chunks())
        length = headers.get("content-length")
        if length is None:
            self.is_reusable = False
            return Answer(status, headers, await self._rest())
        return Answer(status, headers, await self._reader.readexactly(_bounded(_number(length, 10))))

    async def _head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers. What is no HTTP is known by its first line, if it has one."""
        try:
            first = await self._reader.readuntil(b"\n")
            protocol, _, rest = first.decode("latin-1").partition(" ")
            if not protocol.startswith("HTTP/1."):
                raise _no_http()
            lines = []
            while line := (await self._reader.readuntil(b"\n")).decode("latin-1").rstrip("\r\n"):
                lines.append(line)
                if len(lines) > MOST_HEADERS:
                    raise _no_http()
        except asyncio.LimitOverrunError:
            raise _no_http() from None
        except asyncio.IncompleteReadError as error:
            if error.partial and not error.partial.startswith(b"HTTP/"):
                raise _no_http() from None
            raise
        if protocol == "HTTP/1.0":
            self.is_reusable = False
        pairs = (line.partition(":") for line in lines)
        return _number(rest[:3], 10), {name.strip().lower(): value.strip() for name, _, value in pairs}

    async def _chunks(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            length = _number((await self._reader.readuntil(b"\r\n")).split(b";")[0].strip().decode("latin-1"), 16)
            size = _bounded(size + length)
            if length == 0:
                while await self._reader.readuntil(b"\r\n") != b"\r\n":
                    pass
                return b"".join(parts)
            parts.append(await self._reader.readexactly(length))
            await self._reader.readexactly(2)

    async def _rest(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := await self._reader.read(65536):
            size = _bounded(size + len(part))
            parts.append(part)
        return b"".join(parts)


async def _connect(server: Address, tls: ssl.SSLContext | None) -> _Connection:
    """Return a new connection. Raises Lost, ssl.SSLError."""
    try:
        async with asyncio.timeout(CONNECT):
            return _Connection(
                *await asyncio.open_connection(
                    server.host,
                    server.port,
                    ssl=tls,
                    server_hostname=server.host if tls else None,
                    limit=LARGEST_LINE,
                    happy_eyeballs_delay=NEXT_ADDRESS,
                )
            )
    except ssl.SSLError:
        raise
    except TimeoutError:
        raise Lost("no connection in time", False) from None
    except UnicodeError:  # Python's answer to a name that is none
        raise Lost(f"a part of the name {server.host} is empty or too long", False, UNREACHABLE) from None
    except (OSError, EOFError) as error:
        was_closed = isinstance(error, ConnectionResetError | EOFError)
        raise Lost(_reason(error), False, CLOSED if was_closed else UNREACHABLE) from error


def _request(server: Address, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {headers.get('Host', server)}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name != "Host"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, EOFError):
        return "the connection was closed"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _number(text: str, base: int) -> int:
    try:
        if not text or not text.isalnum():
            raise ValueError
        return int(text, base)
    except ValueError:
        raise _no_http() from None


def _bounded(size: int) -> int:
    if size > LARGEST_ANSWER:
        raise BackendError(f"an answer of more than {LARGEST_ANSWER} bytes")
    return size


def _no_http() -> BackendError:
    return BackendError("the server does not answer with HTTP", hint="check the port, and whether it speaks TLS")
