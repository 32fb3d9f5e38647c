"""A stub of Consul: the KV store and transactions as the documentation of the HTTP API has them, and nothing else.

What the documentation does not have is refused with 400, so that a client that relies on it fails here.
"""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LIMIT = 512 * 1024  # of a value, and of a transaction's body
OPERATIONS = 64


@dataclass
class Row:
    value: bytes
    flags: int
    created: int
    modified: int

    def plain(self, key: str, with_value: bool = True) -> dict[str, object]:
        value = base64.b64encode(self.value).decode() if self.value and with_value else None
        return {
            "LockIndex": 0, "Key": key, "Flags": self.flags, "Value": value,
            "CreateIndex": self.created, "ModifyIndex": self.modified,
        }  # fmt: skip


class Failed(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Store:
    """What the server holds. tokens: the names that each may write; no tokens: everybody everything."""

    rows: dict[str, Row] = field(default_factory=dict)
    index: int = 10
    tokens: dict[str, str] = field(default_factory=dict)
    readable: str = "\0"  # a prefix that every token may read
    has_leader: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, key: str, value: bytes, flags: int) -> Row:
        old = self.rows.get(key)
        row = Row(value, flags, old.created if old else self.index, self.index)
        self.rows[key] = row
        return row


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True
    store: Store

    def log_message(self, *rest: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, work) -> None:  # type: ignore[no-untyped-def]
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        self.path_only = unquote(url.path)
        self.query = parse_qs(url.query, keep_blank_values=True)
        headers: dict[str, str] = {}
        try:
            if "//" in self.path_only or "/./" in self.path_only or "/../" in self.path_only:
                headers["Location"] = self.path_only.replace("//", "/")  # as Go's multiplexer cleans paths
                raise Failed(301, "")
            with self.store.lock:
                if not self.store.has_leader:
                    raise Failed(500, "No cluster leader")
                status, content = work()
                headers["X-Consul-Index"] = str(self.store.index)
            data = json.dumps(content).encode() if content is not None else b""
        except Failed as error:
            status, data = error.status, str(error).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _require(self, query: set[str]) -> None:
        unknown = set(self.query) - query
        if unknown:
            raise Failed(400, f"the documentation has no {unknown}")

    def _may(self) -> str | None:
        """Return the prefix that the token may use; None for everything."""
        if not self.store.tokens:
            return None
        token = self.headers.get("X-Consul-Token", "")
        if not token:
            return "\0"  # anonymous
        if token not in self.store.tokens:
            raise Failed(403, "ACL not found")
        return self.store.tokens[token]

    def _check_right(self, key: str) -> None:
        may = self._may()
        if may is not None and not key.startswith(may):
            raise Failed(403, "Permission denied: token with AccessorID '1' lacks permission 'key:write' on \"x\"")

    def _key(self) -> str:
        if not self.path_only.startswith("/v1/kv/"):
            raise Failed(404, "")
        return self.path_only.removeprefix("/v1/kv/")

    def _get(self) -> tuple[int, object]:
        if self.path_only == "/v1/status/leader":
            return 200, "127.0.0.1:8300"
        key = self._key()
        self._require({"consistent", "stale", "keys", "recurse", "separator", "raw", "dc"})
        if "keys" in self.query:
            may = self._may()
            names = [name for name in sorted(self.store.rows) if name.startswith(key)]
            names = [name for name in names if may is None or name.startswith(may)]  # others are left out silently
            return (200, names) if names else (404, None)
        if not key.startswith(self.store.readable):
            self._check_right(key)
        if not key:
            raise Failed(400, "Missing key name")
        row = self.store.rows.get(key)
        return (200, [row.plain(key)]) if row else (404, None)

    def _delete(self) -> tuple[int, object]:
        key = self._key()
        self._require({"recurse", "cas", "dc"})
        self._check_right(key)
        if not key:
            raise Failed(400, "Missing key name")
        row = self.store.rows.get(key)
        if "cas" in self.query and (row is None or int(self.query["cas"][0]) != row.modified):
            return 200, False  # also for an index of 0, with which nothing is deleted
        self.store.index += 1
        self.store.rows.pop(key, None)
        return 200, True

    def _put(self) -> tuple[int, object]:
        if self.path_only == "/v1/txn":
            return self._txn()
        key = self._key()
        self._require({"cas", "flags", "acquire", "release", "dc"})
        self._check_right(key)
        if len(self.body) > LIMIT:
            raise Failed(413, f"Request body({len(self.body)} bytes) too large, max size: {LIMIT} bytes.")
        row = self.store.rows.get(key)
        if "cas" in self.query and int(self.query["cas"][0]) != (row.modified if row else 0):
            return 200, False
        self.store.index += 1
        self.store.put(key, self.body, int(self.query.get("flags", ["0"])[0]))
        return 200, True

    def _txn(self) -> tuple[int, object]:
        self._require({"dc"})
        if len(self.body) > LIMIT:
            raise Failed(413, f"Request body({len(self.body)} bytes) too large, max size: {LIMIT} bytes.")
        try:
            operations = [one["KV"] for one in json.loads(self.body)]
        except (ValueError, KeyError, TypeError) as error:
            raise Failed(400, f"Failed to parse body: {error}") from None
        if len(operations) > OPERATIONS:
            raise Failed(413, f"Transaction contains too many operations ({len(operations)} > {OPERATIONS})")
        may = self._may()
        errors: list[dict[str, object]] = []
        for number, one in enumerate(operations):
            if set(one) - {"Verb", "Key", "Value", "Flags", "Index", "Session"}:
                raise Failed(400, "unknown field")
            if one["Verb"] != "cas" or not isinstance(one.get("Index"), int):
                raise Failed(400, f"this stub knows only the verb cas, with an Index, and not {one['Verb']}")
            if len(base64.b64decode(one["Value"], validate=True)) > LIMIT:
                raise Failed(413, f'Value for key "{one["Key"]}" is too large')
            if may is not None and not one["Key"].startswith(may):
                errors.append({"OpIndex": number, "What": "Permission denied"})
                continue
            row = self.store.rows.get(one["Key"])
            if one["Index"] != (row.modified if row else 0):
                errors.append({"OpIndex": number, "What": f'failed to set key "{one["Key"]}", index is stale'})
        if errors:
            return 409, {"Results": None, "Errors": errors}
        self.store.index += 1
        results = []
        for one in operations:
            row = self.store.put(one["Key"], base64.b64decode(one["Value"]), int(one.get("Flags", 0)))
            results.append({"KV": row.plain(one["Key"], with_value=False)})
        return 200, {"Results": results, "Errors": None}


class ConsulStub:
    """The stub, in a thread of the tests."""

    def __init__(self) -> None:
        self.store = Store()
        handler = type("Bound", (Handler,), {"store": self.store})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def kill(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, prefix: str) -> str:
        return f"consul://127.0.0.1:{self.port}/{prefix}"
