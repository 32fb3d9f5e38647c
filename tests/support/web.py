"""The web UI for tests: a real server over a controller's directory, and data that the real code writes."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from sloth.inventory import Inventory
from sloth.state.memory import Memory
from sloth.state.run_records import RunCounts, RunHost, RunKind, RunResult

if TYPE_CHECKING:
    from sloth.web.app import Site
    from sloth.web.settings import Actions

TOKEN = "a-token-for-tests-only-0123456789"


class Answer:
    """The answer to a request."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.all_headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()


class Server:
    """A server that runs; `site` is what it serves."""

    def __init__(self, port: int, site: Site) -> None:
        self.port = port
        self.site = site
        self.base = f"http://127.0.0.1:{port}"

    def request(
        self, path: str, method: str = "GET", body: bytes | None = None, token: str | None = TOKEN, **headers: str
    ) -> Answer:
        """Make one request; headers: with _ for -; one that is "" is left out."""
        given = {name.replace("_", "-"): value for name, value in headers.items() if value}
        if token:
            given.setdefault("Authorization", f"Bearer {token}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, given)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()


@contextlib.contextmanager
def serve(
    directory: Path,
    read_inventory: Callable[[], Inventory] | None = None,
    token: str = TOKEN,
    actions: Actions | None = None,
    prefix: str = "",
) -> Iterator[Server]:
    """Serve a controller's directory until the block ends. Skips the test where the extra is not installed."""
    pytest.importorskip("starlette", reason="the extra `web` is not installed")
    uvicorn = pytest.importorskip("uvicorn", reason="the extra `web` is not installed")
    from sloth.web.app import Site, create_app
    from sloth.web.server import BoundedProtocol
    from sloth.web.settings import Settings, host_headers

    Memory(directory).close()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = Settings(
        directory=directory,
        token=token,
        hosts=host_headers("127.0.0.1", port),
        read_inventory=read_inventory,
        actions=actions,
        prefix=prefix,
    )
    site = Site(settings)
    config = uvicorn.Config(
        create_app(site), http=BoundedProtocol, ws="none", log_level="warning", server_header=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not server.started and time.monotonic() < end and thread.is_alive():
        time.sleep(0.02)
    assert server.started
    try:
        yield Server(port, site)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def record_run(
    directory: Path,
    run: str,
    *,
    site: str = "site.sloth",
    who: str = "ann",
    kind: RunKind = RunKind.RUN,
    about: str | None = None,
    results: Sequence[RunResult] = (),
    hosts: Sequence[RunHost] = (),
    counts: RunCounts | None = None,
    seconds: float = 1.5,
    status: int | None = 0,
) -> None:
    """Record a run as the engine does; status None: it goes on."""
    memory = Memory(directory)
    try:
        memory.runs.begin(run, site, who, len(hosts), kind=kind, about=about)
        if status is not None:
            memory.runs.end(
                run, counts=counts or RunCounts(), seconds=seconds, status=status, results=results, hosts=hosts
            )
    finally:
        memory.close()


def segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")


def raw(server: Server, text: str) -> bytes:
    """Send a text as it is; return what comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        try:
            client.sendall(text.encode())
            found = b""
            client.settimeout(3)
            while b"\r\n\r\n" not in found:
                piece = client.recv(65536)
                if not piece:
                    break
                found += piece
            return found
        except OSError:
            return b""
