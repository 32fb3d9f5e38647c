"""Whatever a backend answers, each use of it ends soon, with an error in words or a value: never a defect, never more.

The server of a backend, or anybody who can write there, is an attacker: see SECURITY.md.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import json
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sloth.errors import StateError
from sloth.payload.state.store import Store
from sloth.state.backends import documents, http, untrusted
from sloth.state.backends.backend import BackendError, Entry
from sloth.state.backends.location import open_server, parse
from sloth.state.backends.pieced import Head, Pieced
from sloth.state.backends.sqlite import SQLite
from sloth.state.shared import Shared
from sloth.state.sync import entries, plans, push, versions
from sloth.state.sync.deliver import Delivery
from sloth.state.sync.entries import head_key, run_key
from sloth.state.sync.fetch import Fetching
from tests.support.command import sloth
from tests.support.replicas import Controller, record_on

pytestmark = [pytest.mark.attack, pytest.mark.asyncio]

DEEP = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
RUN = "20261126-015828-09408c"
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e"  # what would change a terminal's title, clear it, and turn text round
WRITES = ("deliver", "news", "push", "replicas")  # uses that write this controller's own files
# What stands in place of each part of each document.
WRONG: list[Any] = [
    None, True, -1, 0.5, 1e300, 10**400, 10**19, "", HOSTILE, "../../etc/x", [], {}, [[]], [None], {"a": []},
    {"id": None},
]  # fmt: skip


class Puppet:
    """A backend that answers each read with the value of `answer`, whatever is read."""

    url, limit = "evil://server/x", 1_000_000

    def __init__(self, answer: bytes, names: list[str] | None = None) -> None:
        self.answer = answer
        self._names = names or ["shared/a", "locks/a", head_key("web1"), run_key(RUN), "plans/a"]

    async def read(self, key: str) -> Entry | None:
        return Entry(self.answer, "1")

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        return "2"

    async def names(self, prefix: str) -> list[str]:
        return [name for name in self._names if name.startswith(prefix)]

    async def forget(self, key: str) -> None:
        pass

    async def remove(self, key: str, expected: str) -> bool:
        return True

    async def clock(self) -> float:
        return time.time()

    async def close(self) -> None:
        pass


def uses(backend: Any, controller: Controller) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return all that reads a backend."""
    shared = Shared(backend)
    fetching = Fetching(controller.memory, backend)
    by = {"by": "me", "origin": "here"}
    return {
        "get": lambda: shared.get("a"),
        "set": lambda: shared.set("a", 1),
        "cas": lambda: shared.cas("a", 1, 2),
        "delete": lambda: shared.delete("a"),
        "list": lambda: shared.list(""),
        "incr": lambda: shared.incr("a"),
        "take": lambda: shared.take("a", "me", 10),
        "unlock": lambda: shared.unlock("a", "me"),
        "renew": lambda: shared.locks.renew("a", "me", 1, 10),
        "find": lambda: shared.locks.find("a"),
        "last": lambda: shared.locks.last("a"),
        "held": lambda: shared.locks.held(),
        "release any": lambda: shared.locks.release_any("a"),
        "versions of a run": lambda: versions.versions(backend, run_key(RUN)),
        "versions of a head": lambda: versions.versions(backend, head_key("web1")),
        "restore a run": lambda: versions.restore(backend, run_key(RUN), 1, by),
        "restore a head": lambda: versions.restore(backend, head_key("web1"), 1, by),
        "deliver": lambda: Delivery(controller.memory, backend).flush(),
        "news": fetching.news,
        "replicas": lambda: fetching.replicas(["web1"]),
        "plan": lambda: plans.read(backend, "a"),
        "push": lambda: push.make_due(controller.memory, backend),
    }


def sound() -> dict[str, dict[str, Any]]:
    """Return a document of each kind, as we write it."""
    rows = {"progress": [["web1", "t", "changed"]], "results": [], "hosts": []}
    run = {
        "version": 1, "at": 1e9, "by": "me", "origin": "here", "has_ended": True, "steps": 1, "given": "{}",
        "record": {"run": RUN, "site": "s", "who": "me", "hosts": 1, "started": 1e9, "about": "{}"},
        "rows": base64.b64encode(entries.pack(rows)).decode("ascii"),
    }  # fmt: skip
    head = {
        "version": 1, "at": 1e9, "by": "me", "store": "s", "seq": 3,
        "pieces": [{"id": "1-a", "since": None, "until": 3, "size": 9}],
    }  # fmt: skip
    lock = {
        "name": "a", "number": 1, "holder": "you", "since": 1e9, "renewed": 1e9, "expires": 9e9, "about": {"by": "x"},
    }  # fmt: skip
    return {
        "shared": {"name": "a", "value": 1, "expires": 9e9},
        "sealed": {"name": "a", "sealed": "sealed {}", "expires": None},
        "lock": lock,
        "run": {"format": 1, "versions": [run]},
        "head": {"format": 1, "versions": [head], "agent": "web1"},
    }


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the ways to all parts of plain data."""
    yield way
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*way, key))


def documents_with_faults() -> Iterator[tuple[str, bytes]]:
    """Yield what a server may have in place of a document, and which kind it is most like."""
    for one in (b"", b"null", b"[]", b"7", b"\xff\xfe", b'{"ids":', DEEP, b'{"ids": 1, "content": 1}'):
        yield "", one
    for one in (b"NaN", b"1e999", b"-Infinity", DEEP, b"9" * 5000):
        yield "", b'{"ids": [], "content": %s}' % one
    yield "shared", b'{"ids": [], "content": {"name": "a", "value": 1, "expires": NaN}}'
    for kind, content in sound().items():
        whole = {"ids": ["1"], "content": content}
        for way in places(whole):
            for wrong in WRONG:
                changed: Any = copy.deepcopy(whole)
                if not way:
                    changed = wrong
                else:
                    part = changed
                    for key in way[:-1]:
                        part = part[key]
                    part[way[-1]] = wrong
                yield kind, json.dumps(changed).encode()


@pytest.fixture
def delivering_controller(tmp_path: Path) -> Iterator[Controller]:
    """A controller with a replica, which has something to deliver."""
    made = Controller(tmp_path / "controller", SQLite(tmp_path / "unused.db"))
    host = Store(None)
    record_on(host, "a", 1)
    made.visit(host)
    yield made
    made.memory.close()


async def test_any_document_is_taken_or_refused(
    delivering_controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PATIENCE", 0.0)
    failures = set()
    for kind, data in documents_with_faults():
        backend = Puppet(data)
        for name, use in uses(backend, delivering_controller).items():
            if kind in ("shared", "sealed", "lock") and name in WRITES:  # each waits for the disk
                continue
            try:
                async with asyncio.timeout(30):
                    await use()
            except StateError:
                pass
            except Exception as error:
                failures.add((name, repr(error)[:80], data[:200]))
    assert not failures, "\n".join(map(str, sorted(failures)))


@pytest.mark.parametrize("what", ["piece", "rows"])
async def test_a_bomb_is_not_unpacked(
    what: str, delivering_controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """zlib makes a thousand bytes of one."""
    monkeypatch.setattr(untrusted, "LARGEST", 1_000_000)
    bomb = zlib.compress(b"[" + b" " * 50_000_000 + b"]")
    with pytest.raises(ValueError, match="too large"):
        entries.unpack(bomb)
    run = sound()["run"]
    run["versions"][0]["rows"] = base64.b64encode(bomb).decode("ascii")
    backend = Puppet(json.dumps({"ids": [], "content": run}).encode() if what == "rows" else bomb)
    fetching = Fetching(delivering_controller.memory, backend)
    await fetching.news()
    assert any("damaged" in str(problem) for problem in fetching.problems)


class Swelling(Puppet):
    """A backend that has pieces of a megabyte where a value should have a thousand bytes in all."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.reads = 0

    async def read(self, key: str) -> Entry | None:
        if key.startswith(".pieces/"):
            self.reads += 1
            return Entry(bytes(1_000_000), "1")
        return Entry(Head("1-a", 200_000, 1000, "x").pack(), "1")


async def test_pieces_of_which_there_are_too_many_are_not_collected() -> None:
    backend = Swelling()
    with pytest.raises(StateError, match="missing or altered"):
        await Pieced(backend).read("a")
    assert backend.reads < 20


# What a server sends in answer to a request, and what it sends for ever.
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nDate: Thu, 26 Nov 2026 10:00:00 GMT\r\n"


def reply(body: bytes, head: bytes = HEAD) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return answer


def flood(begin: bytes, more: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while True:
            writer.write(more)
            await writer.drain()

    return answer


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERS: dict[str, Answer] = {
    "a line without end": flood(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536),
    "a chunk's length without end": flood(CHUNKED, b"0" * 65536),
    "a trailer without end": flood(CHUNKED + b"0\r\n", b"x" * 65536),
    "trailers without end": flood(CHUNKED + b"0\r\n", b"a: b\r\n" * 1000),
    "chunks without end": flood(CHUNKED, (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 16),
    "a body without end": flood(HEAD + b"\r\n", b" " * 65536),
    "heads without end": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "headers without end": flood(HEAD, b"a: b\r\n" * 1000),
    "a gigabyte": flood(HEAD + b"Content-Length: 1000000000\r\n\r\n", b" " * 65536),
    "a length that is none": reply(b"{}", HEAD + b"Content-Length: -5\r\nX: y\r\n"),
    "a length of many digits": reply(b"{}", HEAD.replace(b"Date", b"Content-Length: " + b"9" * 9000 + b"\r\nDate")),
    "a year of five digits": reply(b"{}", b"HTTP/1.1 200 OK\r\nDate: Thu, 26 Nov 99999 10:00:00 GMT\r\n"),
    "a month that is none": reply(b"{}", b"HTTP/1.1 200 OK\r\nDate: Thu, 99 Nov 2026 99:99:99 +999999999\r\n"),
    "deep JSON": reply(DEEP),
    "a number of many digits": reply(b'{"kvs": [{"mod_revision": %s}]}' % (b"9" * 5000)),
    "a list of nothing": reply(b'{"kvs": null}'),
    "another kind of list": reply(b'{"kvs": 7, "header": 7, "succeeded": true}'),
    "no base64": reply(b'{"kvs": [{"key": "%", "value": "%", "mod_revision": "1"}], "header": {"revision": "1"}}'),
    "no version": reply(b'{"kvs": [{"key": "eC9h", "value": ""}], "succeeded": true}'),
    "the same page for ever": reply(
        b'{"kvs": [{"key": "eC9h", "mod_revision": "1", "value": ""}], "more": true, "header": {"revision": "1"},'
        b' "succeeded": true}'
    ),
    "a list for Consul": reply(b'[{"Value": 7, "ModifyIndex": []}]'),
    "terminal escapes": reply(
        json.dumps({"error": HOSTILE, "code": 3}).encode(),
        b"HTTP/1.1 400 Bad\r\nDate: Thu, 26 Nov 2026 10:00:00 GMT\r\n",
    ),
    "deep errors": reply(DEEP, b"HTTP/1.1 400 Bad\r\n"),
}


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """Run a server that gives every request this answer; yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
                await answer(writer)
                await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize("name", ANSWERS)
async def test_any_answer_ends_in_a_value_or_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER", 0.5)
    monkeypatch.setattr(http, "LARGEST_ANSWER", 4_000_000)
    async with serving(ANSWERS[name]) as port:
        for kind in ("etcd", "consul"):
            backend = open_server(parse(f"{kind}://127.0.0.1:{port}/x"))
            asks: list[Callable[[], Awaitable[object]]] = [
                lambda: backend.read("a"),  # noqa: B023
                lambda: backend.write("a", b"1", None),  # noqa: B023
                lambda: backend.names(""),  # noqa: B023
                lambda: backend.forget("a"),  # noqa: B023
                backend.clock,
            ]
            for ask in asks:
                async with asyncio.timeout(60):
                    with contextlib.suppress(BackendError):
                        await ask()
            await backend.close()


async def test_nothing_of_a_backend_controls_the_terminal(tmp_path: Path) -> None:
    """Names, holders and authors are of whoever can write in the backend, and commands show them."""
    backend = SQLite(tmp_path / "team.db")
    content = sound()
    run, lock, head = content["run"], content["lock"], content["head"]
    run["versions"][0].update(by=HOSTILE, origin=HOSTILE)
    run["versions"][0]["record"].update(site=HOSTILE, who=HOSTILE, started=9e10)
    lock.update(name=HOSTILE, holder=HOSTILE, about={HOSTILE: HOSTILE})
    head["versions"][0].update(store=HOSTILE, by=HOSTILE)
    values = {
        run_key(RUN): run, "locks/a": lock, head_key("web1"): head, "shared/a": {"name": HOSTILE, "value": 1},
        entries.plan_key(HOSTILE): 1, head_key(HOSTILE): head, run_key(HOSTILE): run,
    }  # fmt: skip
    for key, value in values.items():
        await backend.write(key, documents.pack(value, []), None)
    await backend.close()
    (tmp_path / "inventory.toml").write_text('[hosts.web1]\nconnection = "local"\n')
    url = backend.url
    for words in (
        ["runs", "list"], ["runs", "show", RUN], ["state", "locks"], ["plan", "list"], ["state", "list", "--cached"],
        ["state", "backend", "versions", run_key(RUN)], ["state", "backend", "versions", "replicas/web1"],
    ):  # fmt: skip
        for form in ([], ["--output", "json"]):
            done = sloth(tmp_path, *words, *form, extra={"SLOTH_BACKEND": url})
            shown = done.stdout + done.stderr
            assert "Traceback" not in shown, shown
            assert not {"\x1b", "\x07", "\u202e"} & set(shown), (words, shown)
            assert done.returncode in (0, 1, 2), shown


async def test_an_object_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    dated = b'ETag: "x"\r\nLast-Modified: Thu, 26 Nov 2026 10:00:00 GMT\r\n'
    async with serving(flood(HEAD + dated + b"Content-Length: 1000000000\r\n\r\n", b" " * 65536)) as port:
        backend = open_server(parse(f"s3://team/x?endpoint=http://127.0.0.1:{port}"))
        with pytest.raises(BackendError, match="has 1000000000 bytes"):
            await backend.read("a")
        await backend.close()
