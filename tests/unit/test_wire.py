"""The wire: what is written is read, however it is cut; what is invalid is refused, with the name of the field."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sloth.engine.reverted import Reverted
from sloth.payload.kernel import value
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.session import confirmation, messages, wire
from sloth.payload.session.wire import WireError
from sloth.state import queries
from tests.support.messages import MESSAGES, json_values, message_of, types_of
from tests.support.paths import ROOT

_blobs = st.builds(wire.Blob, st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.binary(max_size=50))


def _packed(item: messages.Message | wire.Blob) -> bytes:
    return item.pack() if isinstance(item, wire.Blob) else wire.pack(item)


def _plain(item: messages.Message | wire.Blob) -> object:
    return (item.call, item.index, item.data) if isinstance(item, wire.Blob) else item


@pytest.mark.parametrize("types", [messages.FROM_CONTROLLER, messages.FROM_PAYLOAD], ids=["controller", "payload"])
@settings(max_examples=60)
@given(data=st.data(), step=st.integers(1, 17))
def test_frames_survive_any_cut(types: dict[str, type[messages.Message]], data: st.DataObject, step: int) -> None:
    one = st.one_of(_blobs, *(message_of(cls) for cls in types.values()))
    sent = data.draw(st.lists(one, max_size=6))
    stream = b"".join(map(_packed, sent))
    decoder = wire.Decoder(types)
    seen = [item for start in range(0, len(stream), step) for item in decoder.feed(stream[start : start + step])]
    assert list(map(_plain, seen)) == list(map(_plain, sent))
    assert decoder.pending == 0


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.TYPE)
@settings(max_examples=40)
@given(data=st.data())
def test_every_message_survives_the_round_trip(cls: type[messages.Message], data: st.DataObject) -> None:
    message = data.draw(message_of(cls))
    (read,) = wire.Decoder(types_of(cls)).feed(wire.pack(message))
    assert read == message


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.TYPE)
@settings(max_examples=40)
@given(data=st.data())
def test_any_value_in_any_field_is_read_or_refused_by_name(cls: type[messages.Message], data: st.DataObject) -> None:
    frame = json.loads(json.dumps(data.draw(message_of(cls)).plain()))
    name = data.draw(st.sampled_from(sorted(cls.fields) or ["t"]))
    frame.update({"t": cls.TYPE, "no such field": 1, name: data.draw(json_values)})
    if name != "t" and data.draw(st.booleans()):
        del frame[name]
    body = json.dumps(frame).encode("ascii")
    problem = ""
    try:
        (message,) = wire.Decoder(types_of(cls)).feed(struct.pack(">IB", len(body), wire.JSON) + body)
        assert wire.pack(message)
    except WireError as error:
        problem = error.message
    assert not problem or name == "t" or f"{cls.__name__}.{name}" in problem


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ({"t": "reply", "id": 1}, "Reply.status is missing"),
        ({"t": "reply", "id": 1, "status": "splendid"}, "Reply.status is unknown: 'splendid'"),
        ({"t": "reply", "id": "1", "status": "changed"}, "Reply.id must be int, not str"),
        ({"t": "reply", "id": True, "status": "changed"}, "Reply.id must be int, not bool"),
        ({"t": "reply", "id": 1, "status": "changed", "values": []}, "Reply.values must be Attributes, not list"),
        ({"t": "reply", "id": 1, "status": "changed", "warnings": [1]}, "Reply.warnings must be str, not int"),
        ({"t": "reply", "id": 1, "status": "changed", "diff": {"a": 1}}, "Reply.diff must be Diff"),
        ({"t": "bye", "orphans": [{"key": "a"}]}, "Bye.orphans: Restored.status is missing"),
        ({"t": "hello"}, "unknown message type 'hello'"),
        ({"t": ["reply"]}, "without a type"),
    ],
)
def test_an_invalid_field_is_named(frame: dict[str, Any], problem: str) -> None:
    body = json.dumps(frame).encode("ascii")
    with pytest.raises(WireError) as caught:
        list(wire.Decoder(messages.FROM_PAYLOAD).feed(struct.pack(">IB", len(body), wire.JSON) + body))
    assert problem in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">IB", 5, 9) + b"hello",
        struct.pack(">IB", wire.MAX_BODY + 1, 0),
        struct.pack(">IB", 2, 0) + b"[]",
        struct.pack(">IB", 2, 0) + b"{}",
        struct.pack(">IB", 9, 0) + b'{"t":NaN}',
        struct.pack(">IB", 22, 0) + b'{"t":"ping","a":1e999}',
        struct.pack(">IB", 418, 0) + b'{"t":"ping","a":' + b"9" * 401 + b"}",
        struct.pack(">IB", 2, 1) + b"xx",
        struct.pack(">IB", 100_000, 0) + b"[" * 100_000,
    ],
)
def test_hostile_frames_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        list(wire.Decoder(messages.FROM_CONTROLLER).feed(data))


def test_what_came_before_a_hostile_frame_is_read() -> None:
    stream = wire.Decoder(messages.FROM_CONTROLLER).feed(wire.pack(messages.Ping()) + struct.pack(">IB", 0, 9))
    assert next(stream) == messages.Ping()
    with pytest.raises(WireError):
        next(stream)


@given(st.binary(max_size=200))
def test_no_garbage_raises_anything_else(data: bytes) -> None:
    try:
        list(wire.Decoder(messages.FROM_CONTROLLER).feed(data))
    except WireError:
        pass


def test_every_message_is_in_the_table_of_the_documentation() -> None:
    """The tables in docs/architecture.md name each message, its type and its fields, and no others."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    for cls in MESSAGES:
        (row,) = re.findall(rf"^\| `{cls.__name__}` \| `{cls.TYPE}` \|(.*)\|$", text, re.M)
        for name in cls.fields:
            assert f"`{name}`" in row, (cls.__name__, name)
    assert len(re.findall(r"^\| `[A-Z]\w+` \| `[a-z]+` \|", text, re.M)) == len(MESSAGES)


def declared() -> list[value.ValueType]:
    """Return messages and all other typed values, which are stored or are parts of messages."""
    assert Reverted.fields
    assert confirmation.PlannedCall.fields
    assert queries.StateRecord.fields
    return [cls for cls in value._classes.values() if cls.__module__.startswith("sloth.")]


def test_every_type_of_a_field_can_be_read() -> None:
    for cls in declared():
        for name, (kind, _) in cls.fields.items():
            try:
                value._read(object(), kind, cls.__name__, name)  # type: ignore[arg-type]  # nothing of any kind
            except InvalidValue:
                pass  # it knows the type, and that this is none of it
    read = messages.Call.read({"id": 1, "epoch": 0, "name": "exec.run", "args": {}, "environment": {"A": "b"}})
    assert read.environment == {"A": "b"}
    with pytest.raises(InvalidValue, match="environment"):
        messages.Call.read({"id": 1, "epoch": 0, "name": "exec.run", "args": {}, "environment": {"A": 1}})


def test_what_a_value_leaves_out_is_empty_and_off() -> None:
    """A default is part of the protocol: what one end leaves out, the other one must read as the same."""
    on = [("Close", "replica"), ("Pending", "phase")]
    defaults = [(cls.__name__, name, default) for cls in declared() for name, (_, default) in cls.fields.items()]
    assert [(cls, name) for cls, name, default in defaults if default is not value._REQUIRED and default] == on


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400, True, 1.0, "1"])
def test_what_is_no_number_of_64_bits_is_refused(number: Any) -> None:
    with pytest.raises(InvalidValue, match=r"Cancel\.epoch must be int"):
        messages.Cancel.read({"epoch": number})


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 0])
def test_numbers_of_64_bits_are_read(number: int) -> None:
    assert messages.Cancel.read({"epoch": number}).epoch == number
