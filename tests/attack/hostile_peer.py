"""A payload that answers wrongly. It runs on a "host" in place of Python: `hostile_peer.py ATTACK`.

An attack is a function of the Peer that does one thing wrong; until then, and where nothing else is said, the peer does
what a payload does. ATTACKS holds them by name, and for each whether its host may come to a good end all the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from sloth.payload.kernel import findings  # noqa: F401  messages hold some
from sloth.payload.kernel.status import FailureKind, Reason, Status
from sloth.payload.session import messages, wire

LIFETIME = 120  # seconds after which a peer that nobody has ended ends itself
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\n\udcff\ud800\x00\ufffe"  # a terminal, XML and UTF-8 mind these


COLUMNS = (
    "key", "module", "type", "id", "checksum", "desired", "observed", "site", "task", "place", "created_at",
    "changed_at", "checked_at", "run", "seq", "calls", "before_first_change", "orphaned",
)  # fmt: skip


class Ended(Exception):
    """The controller has closed the connection."""


class Peer:
    """The host's end of one session."""

    def __init__(self) -> None:
        self._decoder = wire.Decoder(messages.FROM_CONTROLLER)
        self._items: list[Any] = []
        self.rows: dict[str, Any] = {}  # the answers to queries

    # Writing

    def raw(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]

    def body(self, body: bytes, kind: int = wire.JSON) -> None:
        self.raw(wire.HEADER.pack(len(body), kind) + body)

    def text(self, text: str) -> None:
        """Send JSON text as it is."""
        self.body(text.encode("ascii"))

    def plain(self, **fields: Any) -> None:
        """Send a message that need not be one."""
        self.text(wire._encode(fields))

    def send(self, message: messages.Message) -> None:
        self.raw(wire.pack(message))

    # Reading

    def receive(self) -> Any:
        """Return the next message or blob."""
        while not self._items:
            data = os.read(0, 1 << 20)
            if not data:
                raise Ended
            self._items += self._decoder.feed(data)
        return self._items.pop(0)

    # What a payload does

    def begin(self, mark: bytes = wire.MARK) -> int:
        """Do stage 1's part up to its answer; return the size of the bundle."""
        self.raw(mark)
        size = self._skip()
        if size:
            self._skip()  # the compiled code
        return size

    @staticmethod
    def _skip() -> int:
        """Read a header and what it announces; return its size."""
        header = b""
        while len(header) < 78:
            part = os.read(0, 78 - len(header))
            if not part:
                raise Ended
            header += part
        size = left = int(header.split()[-1])
        while left:
            left -= len(os.read(0, min(left, 1 << 20)))
        return size

    def start(self) -> None:
        """Get to where frames begin."""
        self.begin()
        self.raw(b"OK\n")
        assert isinstance(self.receive(), messages.Hello)

    def ready(self) -> None:
        self.start()
        self.send(messages.Ready(v=messages.VERSION, python="3.11.0", user="u", home="/", pid=1))

    def serve(self, *until: type) -> Any:
        """Answer rightly; return the first message that is one of `until`."""
        while True:
            message = self.receive()
            if isinstance(message, until):
                return message
            if isinstance(message, messages.Call):
                self.send(answer(message))
            elif isinstance(message, messages.StateQuery):
                self.send(messages.Rows(id=message.id, rows=self.rows.get(message.op, [])))
            elif isinstance(message, messages.Close):
                self.send(bye())
                raise Ended

    def call(self, name: str = "") -> messages.Call:
        """Get to the first call (of that name)."""
        self.ready()
        while True:
            call: messages.Call = self.serve(messages.Call)
            if name in ("", call.name):
                return call
            self.send(answer(call))

    def close(self) -> None:
        """Get to where the controller closes the session."""
        self.ready()
        self.serve(messages.Close)


def answer(call: messages.Call) -> messages.Reply:
    """Return a right answer to a call."""
    if call.name == "facts.gather":
        return messages.Reply(id=call.id, status=Status.UNCHANGED, values={"os_family": "debian"})
    values = {"stdout": "out", "stderr": "", "exit_code": 0, "timed_out": False}
    key = call.name.replace(".", ":") + ":x"
    return messages.Reply(id=call.id, status=Status.CHANGED, reason=Reason.NEW, key=key, values=values)


def bye() -> messages.Bye:
    return messages.Bye(replica=messages.ReplicaChange(id="0" * 32, seq=1))


def quiet() -> None:
    """Say nothing more, and read nothing more, but live."""
    time.sleep(LIFETIME)


def alive(peer: Peer) -> None:
    """Give signs of life and nothing else."""
    while True:
        peer.send(messages.Alive())
        time.sleep(0.9)


def drip(peer: Peer, data: bytes) -> None:
    for at in range(len(data)):
        peer.raw(data[at : at + 1])
        time.sleep(0.2)
    quiet()


def endlessly(write: Callable[[], None]) -> None:
    while True:
        write()


Attack = Callable[[Peer], None]
ATTACKS: dict[str, tuple[Attack, bool]] = {}


def attack(harmless: bool = False) -> Callable[[Attack], Attack]:
    """Enter a function into the table under its name."""

    def enter(function: Attack) -> Attack:
        ATTACKS[function.__name__.replace("_", "-")] = (function, harmless)
        return function

    return enter


def enter_all(prefix: str, make: Callable[[Any], Attack], values: dict[str, Any], harmless: bool = False) -> None:
    """Enter an attack for each of `values`."""
    for name, value in values.items():
        ATTACKS[f"{prefix}-{name}"] = (make(value), harmless)


# Before the payload

enter_all(
    "exit-at-once", lambda status: lambda peer: os._exit(status), {"0": 0, "1": 1, "75": 75, "76": 76, "127": 127}
)


@attack()
def die_at_once(peer: Peer) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@attack()
def say_nothing(peer: Peer) -> None:
    quiet()


@attack()
def noise_without_a_mark(peer: Peer) -> None:
    endlessly(lambda: peer.raw(b"Welcome to web1!\n" * 1000))


@attack()
def noise_drips(peer: Peer) -> None:
    drip(peer, b"Welcome" * 100)


@attack()
def errors_without_a_mark(peer: Peer) -> None:
    endlessly(lambda: _write(2, b"\x1b[31merror\n" * 10000))


def _write(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data)


enter_all(
    "mark",
    lambda data: lambda peer: (peer.raw(data), quiet()),
    {
        "half": wire.MARK[:5],
        "of-version-1": wire.MARK.replace(b"2", b"1"),
        "then-nothing": wire.MARK,
        "then-half-a-word": wire.MARK + b"O",
        "twice": wire.MARK * 2 + b"OK\n",
    },
)


@attack()
def mark_then_no_line(peer: Peer) -> None:
    peer.raw(wire.MARK)
    endlessly(lambda: peer.raw(b"x" * 65536))


@attack()
def mark_drips(peer: Peer) -> None:
    drip(peer, wire.MARK + b"OK\n")


def _answer_stage_1(line: bytes) -> Attack:
    def do(peer: Peer) -> None:
        peer.begin()
        peer.raw(line)
        while peer.receive():
            pass

    return do


enter_all(
    "stage-1",
    _answer_stage_1,
    {
        "unknown-word": b"WHAT\n",
        "empty-line": b"\n",
        "binary": b"\x00\xff\xfe\n",
        "error": b"ERR No space left on device (Errno 28)\n",
        "error-with-escapes": b"ERR " + ESCAPES.encode("utf-8", "surrogatepass").replace(b"\n", b"") + b"\n",
        "long-error": b"ERR " + b"x" * 200_000 + b"\n",
        "needs-again-and-again": b"NEED\n",
        "no-home-again-and-again": b"HOME\n",
    },
)


@attack()
def stage_1_needs_and_ends(peer: Peer) -> None:
    peer.begin()
    peer.raw(b"NEED\n")
    os._exit(76)


# Frames that are none


def _after_ok(data: bytes, ends: bool = False) -> Attack:
    def do(peer: Peer) -> None:
        peer.start()
        peer.raw(data)
        if ends:
            os._exit(0)
        while peer.receive():
            pass

    return do


def _frame(body: bytes, kind: int = wire.JSON, length: int | None = None) -> bytes:
    return wire.HEADER.pack(len(body) if length is None else length, kind) + body


FRAMES = {
    "nothing": b"",
    "garbage": bytes(range(256)) * 4,
    "text": b"Traceback (most recent call last):\n  File ...\n" * 3,
    "half-a-header": b"\0\0",
    "half-a-frame": _frame(b'{"t":"rea', length=100),
    "of-4-GB": _frame(b"", length=2**32 - 1),
    "over-the-limit": _frame(b"", length=wire.MAX_BODY + 1),
    "of-unknown-kind": _frame(b"x", kind=7),
    "empty": _frame(b""),
    "no-JSON": _frame(b"{ready}"),
    "half-JSON": _frame(b'{"t":"ready","v":2'),
    "no-UTF-8": _frame(b'{"t":"\xff"}'),
    "null": _frame(b"null"),
    "list": _frame(b'["ready"]'),
    "without-type": _frame(b'{"v":2}'),
    "type-number": _frame(b'{"t":2}'),
    "type-unknown": _frame(b'{"t":"' + b"x" * 100_000 + b'"}'),
    "type-with-escapes": _frame(b'{"t":"\\u001b[2J\\udcff"}'),
    "of-the-controller": _frame(b'{"t":"hello","v":2,"agent":"a"}'),
    "call": _frame(b'{"t":"call","id":1,"epoch":0,"name":"exec.run","args":{}}'),
    "NaN": _frame(b'{"t":"ready","v":NaN}'),
    "Infinity": _frame(b'{"t":"ready","v":2,"pid":-Infinity}'),
    "1e999": _frame(b'{"t":"ready","v":1e999}'),
    "400-digits": _frame(b'{"t":"ready","v":' + b"9" * 400 + b"}"),
    "a-million-digits": _frame(b'{"t":"ready","v":' + b"9" * 1_000_000 + b"}"),
    "101-deep": _frame(b'{"t":"ready","v":2,"x":' + b"[" * 101 + b"]" * 101 + b"}"),
    "900-deep": _frame(b'{"t":"ready","v":2,"x":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}"),
    "a-million-deep": _frame(b"[" * 1_000_000),
    "of-too-many-parts": _frame(b'{"t":"ready","v":2,"x":[' + b"[]," * 2_000_000 + b"1]}"),
    "blob-without-header": _frame(b"xx", kind=wire.BLOB),
    "blob-too-long": _frame(b"x" * (wire.CHUNK + 100), kind=wire.BLOB),
    "blob-before-ready": wire.Blob(1, 0, b"x").pack(),
}  # fmt: skip
enter_all("frame", _after_ok, FRAMES)
enter_all("end-after", lambda data: _after_ok(data, ends=True), {
    "OK": b"", "half-a-header": b"\0\0", "half-a-frame": _frame(b'{"t":"rea', length=100),
    "ready": wire.pack(messages.Ready(v=messages.VERSION)),
})  # fmt: skip
enter_all("before-ready", lambda message: _after_ok(wire.pack(message)), {
    "reply": messages.Reply(id=1, status=Status.CHANGED), "output": messages.Output(id=1, stream="stdout", data="x"),
    "need": messages.Need(id=1, index=0), "rows": messages.Rows(id=1), "bye": messages.Bye(),
    "replica": messages.ReplicaPage(rows=[{}]),
})  # fmt: skip


@attack()
def frames_drip(peer: Peer) -> None:
    peer.start()
    drip(peer, wire.pack(messages.Ready(v=messages.VERSION)) * 3)


# Ready

enter_all("version", lambda v: _after_ok(_frame(wire._encode({"t": "ready", "v": v}).encode())), {
    "1": 1, "3": 3, "0": 0, "-1": -1, "text": "2", "float": 2.0, "true": True, "null": None, "big": 2**62,
})  # fmt: skip

REPORT = {"run": "r", "task": "t", "why": "w", "at": 1, "error": "", "rows": []}
READY = {"t": "ready", "v": messages.VERSION}
enter_all("reverted", lambda found: _after_ok(_frame(wire._encode({**READY, "reverted": found}).encode())), {
    "empty": [{}], "run-number": [{**REPORT, "run": 7}], "rows-text": [{**REPORT, "rows": "x"}],
    "rows-of-numbers": [{**REPORT, "rows": [1, 2]}], "row-empty": [{**REPORT, "rows": [{}]}],
    "row-status": [{**REPORT, "rows": [{"key": "k", "status": "gone"}]}],
    "error-list": [{**REPORT, "error": [ESCAPES]}],
})  # fmt: skip


@attack()
def never_ready_but_alive(peer: Peer) -> None:
    peer.start()
    alive(peer)


@attack()
def ready_twice(peer: Peer) -> None:
    peer.ready()
    peer.send(messages.Ready(v=messages.VERSION))
    peer.serve()


@attack()
def locked_for_ever(peer: Peer) -> None:
    peer.start()
    holder = messages.LockHolder(run=ESCAPES, who=ESCAPES, origin="o" * 10000, pid=-1, since=2**62)
    while True:
        peer.send(messages.Waiting(holder=holder))
        time.sleep(0.05)


@attack()
def locked_after_ready(peer: Peer) -> None:
    peer.ready()
    peer.send(messages.Waiting(holder=messages.LockHolder()))
    peer.serve()


@attack(harmless=True)
def ready_with_odd_words(peer: Peer) -> None:
    peer.start()
    names = [ESCAPES, *map(str, range(10_000))]
    peer.send(messages.Ready(v=2, python=ESCAPES, user=ESCAPES, home="h" * 100_000, pid=-1, handlers=names))
    peer.serve()


@attack(harmless=True)
def ready_with_more_fields(peer: Peer) -> None:
    peer.start()
    peer.plain(t="ready", v=2, more=[{}], u={"a": None}, T="bye")
    peer.serve()


# Fields: each of each message, missing, of another type

WRONG: dict[str, Any] = {"int": "1", "float": "x", "str": 7, "bool": "yes", "list": {"a": 1}, "object": ["a"]}


def _wrong(kind: str) -> Any:
    kind = kind.removesuffix(" | None")
    if kind.startswith("list["):
        return WRONG["list"]
    return WRONG.get(kind, WRONG["object"] if kind[0].isupper() and kind not in ("Status", "Reason") else "splendid")


def _stage(peer: Peer, cls: type[messages.Message]) -> dict[str, Any]:
    """Get to where a message of this class may come; return a right one as JSON."""
    if cls is messages.Ready:
        peer.start()
        return {"v": messages.VERSION}
    if cls is messages.Waiting:
        peer.start()
        return {"holder": {}}
    if cls is messages.Fail:
        peer.call()
        return {"kind": "crash", "error": "e"}
    if cls in (messages.ReplicaPage, messages.Bye):
        peer.close()
        return {"rows": []} if cls is messages.ReplicaPage else {}
    if cls is messages.Rows:
        peer.ready()
        return {"id": peer.serve(messages.StateQuery).id}
    number = peer.call().id
    return {
        messages.Reply: {"id": number, "status": "changed"},
        messages.Need: {"id": number, "index": 0},
        messages.Output: {"id": number, "stream": "stdout", "data": "x"},
    }[cls]


def _field(cls: type[messages.Message], name: str, value: Any, is_missing: bool) -> Attack:
    def do(peer: Peer) -> None:
        fields = {**_stage(peer, cls), "t": cls.TYPE, name: value}
        if is_missing:
            del fields[name]
        peer.plain(**fields)
        peer.serve()

    return do


def _fields() -> Iterator[tuple[str, Attack]]:
    for cls in messages.FROM_PAYLOAD.values():
        for name, (kind, default) in cls.fields.items():
            yield f"{cls.TYPE}-{name}-wrong", _field(cls, name, _wrong(kind), False)
            if type(default) is object:
                yield f"{cls.TYPE}-{name}-missing", _field(cls, name, None, True)


for _name, _attack in _fields():
    ATTACKS[_name] = (_attack, False)


# Replies


def _reply(**fields: Any) -> Attack:
    def do(peer: Peer) -> None:
        call = peer.call()
        peer.plain(**{"t": "reply", "id": call.id, "status": "changed", "key": "exec:run:x", **fields})
        peer.serve()

    return do


DEEP: Any = 1
for _ in range(95):
    DEEP = {"a": DEEP}
enter_all("reply", lambda fields: _reply(**fields), {
    "status-unreachable": {"status": "unreachable"},
    "status-unknown": {"status": "unknown"},
    "status-list": {"status": ["changed"]},
    "of-no-call": {"id": 999},
    "of-a-negative-call": {"id": -1},
    "of-a-call-with-a-fraction": {"id": 1.5},
    "failed-without-a-word": {"status": "failed"},
    "failed-with-odd-words": {"status": "failed", "error": ESCAPES, "hint": ESCAPES, "detail": ESCAPES * 5000},
    "failed-at-length": {"status": "failed", "error": "x" * 5_000_000},
    "skipped-for-no-reason": {"status": "skipped"},
    "diff-of-texts": {"diff": {"content": "changed"}},
    "diff-unified-number": {"diff": {"content": {"unified": 3}}},
    "seconds-400-digits": {"seconds": 10**399},
    "values-too-deep": {"values": {"a": [[DEEP] * 2] * 2, "b": [[[[[[[[DEEP]]]]]]]]}},
})  # fmt: skip
enter_all("reply", lambda fields: _reply(**fields), {
    "with-odd-words": {
        "key": f"exec:run:{ESCAPES}", "msg": ESCAPES, "warnings": [ESCAPES] * 3,
        "values": {ESCAPES: ESCAPES, "stdout": ESCAPES},
        "before": {ESCAPES: ESCAPES}, "after": {},
        "diff": {ESCAPES: {"before": ESCAPES, "after": 1, "unified": ESCAPES}},
        "reason": "drift", "seconds": -1e300,
    },
    "with-deep-values": {"values": {"stdout": "", "a": DEEP}, "before": DEEP, "diff": {"a": {"before": DEEP}}},
    "with-more-fields": {"more": 1, "Id": 4},
    "with-many-warnings": {"warnings": ["w"] * 2000},
    "with-large-values": {"values": {"stdout": "x" * 2_000_000}},
}, harmless=True)  # fmt: skip


@attack()
def reply_twice(peer: Peer) -> None:
    reply = answer(peer.call())
    peer.send(reply)
    peer.send(reply)
    peer.serve()


@attack()
def reply_to_a_call_to_come(peer: Peer) -> None:
    call = peer.call()
    peer.send(messages.Reply(id=call.id + 1, status=Status.CHANGED))
    peer.serve()


@attack()
def reply_with_an_unknown_status_after_a_good_one(peer: Peer) -> None:
    peer.send(answer(peer.call()))
    peer.plain(t="reply", id=peer.serve(messages.Call).id, status="splendid")
    peer.serve()


@attack()
def no_reply(peer: Peer) -> None:
    peer.call()
    quiet()


@attack()
def no_reply_but_alive(peer: Peer) -> None:
    peer.call()
    alive(peer)


@attack()
def stopped_in_a_call(peer: Peer) -> None:
    peer.call()
    os.kill(os.getpid(), signal.SIGSTOP)


@attack()
def stopped_in_a_large_copy(peer: Peer) -> None:
    call = peer.call("file.copy")
    peer.send(messages.Need(id=call.id, index=0))
    peer.receive()
    os.kill(os.getpid(), signal.SIGSTOP)


@attack()
def end_in_a_call(peer: Peer) -> None:
    peer.call()
    os._exit(0)


@attack()
def die_in_a_call(peer: Peer) -> None:
    peer.call()
    os.kill(os.getpid(), signal.SIGSEGV)


@attack()
def mute_in_a_call(peer: Peer) -> None:
    peer.call()
    os.close(1)
    quiet()


@attack()
def deaf_in_a_call(peer: Peer) -> None:
    peer.call()
    os.close(0)
    alive(peer)


@attack()
def half_a_reply(peer: Peer) -> None:
    data = wire.pack(answer(peer.call()))
    peer.raw(data[: len(data) // 2])
    quiet()


@attack()
def garbage_in_a_call(peer: Peer) -> None:
    peer.call()
    peer.raw(b"Segmentation fault\n" * 10)
    peer.serve()


@attack()
def end_of_the_file_without_its_bytes(peer: Peer) -> None:
    call = peer.call("file.copy")
    peer.send(messages.Need(id=call.id, index=0))
    os._exit(1)


# Files


def _need(count: int, number: int | None = None, index: int = 0) -> Attack:
    def do(peer: Peer) -> None:
        call = peer.call("file.copy")
        for _ in range(count):
            peer.send(messages.Need(id=call.id if number is None else number, index=index))
        peer.serve()

    return do


enter_all("need", lambda given: _need(*given), {
    "again-and-again": (1000,), "of-no-call": (1, 999), "of-index-1": (1, None, 1),
    "of-a-negative-index": (1, None, -1),
    "of-a-great-index": (1, None, 2**40),
})  # fmt: skip


@attack()
def need_endlessly(peer: Peer) -> None:
    call = peer.call("file.copy")
    endlessly(lambda: peer.send(messages.Need(id=call.id, index=0)))


@attack()
def file_that_nobody_wants(peer: Peer) -> None:
    peer.raw(wire.Blob(peer.call().id, 0, b"x").pack())
    peer.serve()


@attack()
def file_of_no_call(peer: Peer) -> None:
    peer.call()
    peer.raw(wire.Blob(2**32 - 1, 65535, b"x").pack())
    peer.serve()


# Output


@attack(harmless=True)
def output_with_odd_words(peer: Peer) -> None:
    call = peer.call()
    peer.send(messages.Output(id=call.id, stream=ESCAPES, data=ESCAPES))
    peer.send(messages.Output(id=call.id, stream="stdout", data="x" * 1_000_000))
    peer.send(messages.Output(id=12345, stream="stdout", data="of no call"))
    peer.send(answer(call))
    peer.serve()


@attack()
def output_endlessly(peer: Peer) -> None:
    call = peer.call()
    endlessly(lambda: peer.send(messages.Output(id=call.id, stream="stdout", data="x" * 1000)))


@attack()
def errors_endlessly(peer: Peer) -> None:
    peer.call()
    endlessly(lambda: _write(2, b"error\n" * 10000))


@attack()
def alive_endlessly(peer: Peer) -> None:
    peer.call()
    endlessly(lambda: peer.send(messages.Alive()))


# Queries and the end


@attack()
def rows_of_no_query(peer: Peer) -> None:
    peer.call()
    peer.send(messages.Rows(id=999))
    peer.serve()


def _answering(rows: dict[str, Any]) -> Attack:
    def do(peer: Peer) -> None:
        peer.rows = rows
        peer.close()
        peer.send(bye())

    return do


enter_all("query", _answering, {
    "boot-none": {}, "boot-without": {"boot": [{}]}, "boot-empty": {"boot": [{"boot": ""}]},
    "boot-unknown": {"boot": [{"boot": "/"}]}, "boot-list": {"boot": [{"boot": [ESCAPES]}]},
    "boot-the-same": {"boot": [{"boot": "b/1"}]},
    "named-without": {"named": [{}], "boot": [{"boot": "b/1"}]},
}, harmless=True)  # fmt: skip


@attack()
def answer_never_but_alive(peer: Peer) -> None:
    peer.ready()
    peer.serve(messages.StateQuery)
    alive(peer)


@attack(harmless=True)
def drift_never_but_alive(peer: Peer) -> None:
    peer.ready()
    while True:
        query = peer.serve(messages.StateQuery)
        if query.op == "drift":
            alive(peer)
        peer.send(messages.Rows(id=query.id))


@attack()
def answer_of_pages_without_end(peer: Peer) -> None:
    peer.ready()
    query = peer.serve(messages.StateQuery)
    while True:
        peer.send(messages.Rows(id=query.id, rows=[{"key": "x"}], more=True))
        time.sleep(0.5)


@attack()
def rows_endlessly(peer: Peer) -> None:
    peer.ready()
    query = peer.serve(messages.StateQuery)
    rows: Any = [{"key": "x" * 1000}] * 100
    endlessly(lambda: peer.send(messages.Rows(id=query.id, rows=rows, more=True)))


@attack()
def bye_before_close(peer: Peer) -> None:
    peer.call()
    peer.send(bye())
    peer.serve()


@attack()
def replica_before_close(peer: Peer) -> None:
    peer.call()
    peer.send(messages.ReplicaPage(rows=[{}]))
    peer.serve()


def _at_the_end(*given: messages.Message | dict[str, Any]) -> Attack:
    def do(peer: Peer) -> None:
        peer.close()
        for message in given:
            if isinstance(message, dict):
                peer.plain(**message)
            else:
                peer.send(message)
        with contextlib.suppress(Ended):
            while True:
                peer.receive()

    return do


enter_all("end", lambda given: _at_the_end(*given), {
    "without-bye": (),
    "replica-not-objects": ({"t": "replica", "rows": [1, 2]},),
    "bye-replica-text": ({"t": "bye", "replica": "x"},),
    "bye-seq-text": ({"t": "bye", "replica": {"id": "x", "seq": "y"}},),
    "bye-removed-numbers": ({"t": "bye", "replica": {"id": "x", "seq": 1, "removed": [1]}},),
    "bye-orphans-odd": ({"t": "bye", "orphans": [{"key": 1, "status": "done"}]},),
    "bye-orphan-status": ({"t": "bye", "orphans": [{"key": "k", "status": "gone"}]},),
    "bye-too-deep": ({"t": "bye", "orphans": [{"key": "k", "status": "done", "diff": {"a": {"b": [[[[DEEP]]]]}}}]},),
    "locked": (messages.Fail(kind=FailureKind.LOCKED, error=ESCAPES, holder=messages.LockHolder(since=-(2**62))),),
    "crash": (messages.Fail(kind=FailureKind.CRASH, error=ESCAPES, hint=ESCAPES, detail=ESCAPES * 1000),),
    "fail-without-holder": (messages.Fail(kind=FailureKind.LOCKED, error="e"),),
    "reply": (messages.Reply(id=1, status=Status.CHANGED),),
})  # fmt: skip
enter_all("end", lambda given: _at_the_end(*given), {
    "bye-twice": (bye(), bye()),
    "replica-odd-rows": (messages.ReplicaPage(rows=[{"key": 1}, {}]), bye()),
    "replica-row-of-odd-values": (messages.ReplicaPage(rows=[dict.fromkeys(COLUMNS, ESCAPES)]), bye()),
    "bye-with-odd-words": (messages.Bye(replica=messages.ReplicaChange(id=ESCAPES, seq=-(2**63), removed=[ESCAPES])),),
    "bye-and-garbage": (bye(), {"t": "what"}),
}, harmless=True)  # fmt: skip


@attack()
def bye_never_but_alive(peer: Peer) -> None:
    peer.close()
    alive(peer)


@attack()
def replica_endlessly(peer: Peer) -> None:
    peer.close()
    data = wire.pack(messages.ReplicaPage(rows=[{"key": os.urandom(500).hex()} for _ in range(400)]))
    endlessly(lambda: peer.raw(data))


@attack()
def stopped_at_the_end(peer: Peer) -> None:
    peer.close()
    os.kill(os.getpid(), signal.SIGSTOP)


def main() -> None:
    """Do the attack whose name is the last word of the path that we were started as."""
    with open(os.path.join(os.environ["HOSTILE_PIDS"], str(os.getpid())), "w"):
        pass  # so that the test can end those that have stopped themselves
    signal.alarm(LIFETIME)
    name = os.path.basename(sys.argv[1])
    with contextlib.suppress(Ended, BrokenPipeError, ConnectionResetError):
        ATTACKS[name][0](Peer())
    os._exit(0)


if __name__ == "__main__":
    main()
