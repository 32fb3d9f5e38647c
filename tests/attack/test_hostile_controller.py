"""A controller that sends what is wrong: the payload ends in bounded time, reports why in words, and frees the host."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sloth.payload.session import messages, wire
from tests.support.messages import json_values, message_of
from tests.support.paths import ROOT

pytestmark = pytest.mark.attack
ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "30"))
START = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); from sloth.payload.__main__ import main; os._exit(main())"
HELLO = messages.Hello(v=messages.VERSION, agent="a", run="r", site="s")


def frame(fields: Any) -> bytes:
    body = json.dumps(fields).encode("ascii")
    return wire.HEADER.pack(len(body), wire.JSON) + body


def converse(home: Path, sent: bytes) -> list[messages.Message | wire.Blob]:
    """Let a payload read `sent` and then the end; return what it sent, all of it whole frames."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", START], input=sent, capture_output=True, env=environment, timeout=60
    )
    assert done.returncode in (0, 1), done.stderr.decode()
    assert b"Traceback" not in done.stderr
    decoder = wire.Decoder(messages.FROM_PAYLOAD)
    frames = list(decoder.feed(done.stdout))
    assert decoder.pending == 0
    return frames


def check_host(home: Path) -> None:
    """The lock is free and the state file whole."""
    lock = home / ".sloth-runner" / "run.lock"
    if lock.exists():
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert file.read() == ""
    for path in (home / ".sloth-runner" / "state").glob("*.db"):
        with sqlite3.connect(path) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


WRONG = {
    "nothing": b"",
    "garbage": b"GET / HTTP/1.1\r\n\r\n",
    "half a header": b"\0\0",
    "half a frame": wire.pack(HELLO)[:-3],
    "of 4 GB": wire.HEADER.pack(2**32 - 1, 0),
    "unknown kind": wire.HEADER.pack(1, 9) + b"x",
    "too deep": wire.HEADER.pack(2001, 0) + b"[" * 1000 + b"]" * 1001,
    "a blob first": wire.Blob(1, 0, b"x").pack(),
    "no hello": wire.pack(messages.Ping()) + wire.pack(messages.Close()),
    "another version": frame({"t": "hello", "v": 3, "agent": "a"}),
    "hello twice": wire.pack(HELLO) * 2,
    "a message of the payload": wire.pack(HELLO) + frame({"t": "reply", "id": 1, "status": "changed"}),
    "a call of no module": wire.pack(HELLO) + frame({"t": "call", "id": 1, "epoch": 0, "name": "no.such", "args": {}}),
    "a call of a path": wire.pack(HELLO) + frame({"t": "call", "id": 1, "epoch": 0, "name": "../x.y", "args": {}}),
    "a call of dots": wire.pack(HELLO) + frame({"t": "call", "id": 1, "epoch": 0, "name": "....", "args": {}}),
    "odd arguments": wire.pack(HELLO)
    + frame({"t": "call", "id": 1, "epoch": 0, "name": "file.copy", "args": {"dest": [], "content": {"a": 1}}}),
    "an asset that never comes": wire.pack(HELLO)
    + frame({
        "t": "call", "id": 1, "epoch": 0, "name": "file.copy", "args": {"dest": "~/x", "content": {"asset": 0}},
        "assets": [{"name": "x", "sha256": "0" * 64, "size": 5, "pushed": True}],
    }),
    "an asset of no number": wire.pack(HELLO)
    + frame({"t": "call", "id": 1, "epoch": 0, "name": "file.copy", "args": {"dest": "~/x", "content": {"asset": 7}}}),
    "an unknown query": wire.pack(HELLO) + frame({"t": "query", "id": 1, "op": "__init__"}),
    "a query of odd arguments": wire.pack(HELLO)
    + frame({"t": "query", "id": 1, "op": "history", "args": {"limit": ""}}),
    "pieces of no call": wire.pack(HELLO) + wire.Blob(7, 7, b"x" * 99).pack() * 100 + wire.pack(messages.Close()),
    "stored for no call": wire.pack(HELLO) + wire.pack(messages.Stored(id=5)) * 100 + wire.pack(messages.Close()),
    "an agent with a path": frame({"t": "hello", "v": 2, "agent": "../../tmp/evil"}) + wire.pack(messages.Close()),
}  # fmt: skip


@pytest.mark.parametrize("sent", WRONG.values(), ids=WRONG)
def test_the_payload_stands_it(sent: bytes, tmp_path: Path) -> None:
    frames = converse(tmp_path, sent)
    if frames:
        assert isinstance(frames[-1], (messages.Bye, messages.Fail, messages.Reply, messages.Rows, messages.Ready))
    for message in frames:
        if isinstance(message, messages.Fail):
            assert message.kind != "crash", message.error
            assert message.error
    check_host(tmp_path)
    assert not (tmp_path / "x").exists()


@settings(max_examples=ROUNDS, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(set(messages.FROM_CONTROLLER) - {"hello"})), data=st.data())
def test_any_message_with_any_field(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    cls = messages.FROM_CONTROLLER[kind]
    fields = json.loads(json.dumps(data.draw(message_of(cls)).plain()))
    if cls is messages.Call:  # not any command may run here
        fields["name"] = data.draw(st.sampled_from(["file.stat", "file.copy", "facts.gather", "no.such", "exec", ""]))
        fields["args"] = data.draw(st.dictionaries(st.sampled_from(["path", "src", "content", "mode"]), json_values))
    if cls is messages.StateQuery:
        fields["op"] = data.draw(
            st.sampled_from(["list", "history", "show", "drift", "dump", "load", "orphans", "what"])
        )
    if cls.fields and data.draw(st.booleans()):
        fields[data.draw(st.sampled_from(sorted(cls.fields)))] = data.draw(json_values)
    sent = wire.pack(HELLO) + frame({**fields, "t": kind}) + wire.pack(messages.Close())
    frames = converse(tmp_path, sent)
    assert isinstance(frames[0], messages.Ready)
    assert isinstance(frames[-1], (messages.Bye, messages.Fail))
    if isinstance(frames[-1], messages.Fail):
        assert frames[-1].kind != "crash", frames[-1].error
    check_host(tmp_path)


@settings(max_examples=ROUNDS)
@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_an_error(data: bytes) -> None:
    for types in (messages.FROM_PAYLOAD, messages.FROM_CONTROLLER):
        decoder = wire.Decoder(types)
        with contextlib.suppress(wire.WireError):
            for item in decoder.feed(data):
                assert isinstance(item, (messages.Message, wire.Blob))
