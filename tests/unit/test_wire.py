"""The wire: what is written is read, however it is cut; what is hostile is refused, and names what is wrong."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.payload.kernel import findings  # noqa: F401  messages hold some
from sloth.payload.kernel import value as values
from sloth.payload.session import messages, wire

_text = (
    st.text(st.characters(codec="utf-8"))
    .map(lambda text: text.encode())
    .map(lambda data: (data + b"\xff").decode("utf-8", "surrogateescape"))
)
_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _text | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_objects = st.dictionaries(_text, _plain, max_size=3)


def _of_kind(kind: str) -> st.SearchStrategy[Any]:
    """Values of a field, by what its annotation says."""
    if kind.endswith(" | None"):
        return st.none() | _of_kind(kind.removesuffix(" | None"))
    if kind.startswith("list["):
        return st.lists(_of_kind(kind.removeprefix("list[").removesuffix("]")), max_size=3)
    simple: dict[str, st.SearchStrategy[Any]] = {
        "int": st.integers(-(2**63), 2**63 - 1),
        "float": st.floats(allow_nan=False, allow_infinity=False),
        "str": _text,
        "bool": st.booleans(),
        "Json": _plain,
        "Diff": st.dictionaries(_text, _objects, max_size=3),
    }
    if kind in ("JsonObject", "Attributes", "Arguments"):
        return _objects
    if kind in simple:
        return simple[kind]
    if kind in values._words:
        return st.sampled_from(list(values._words[kind]))
    return _instances(values._classes[kind])


def _instances(cls: Any) -> st.SearchStrategy[Any]:
    return st.builds(cls, **{name: _of_kind(kind) for name, (kind, _) in cls.fields.items()})


_message = st.one_of([_instances(cls) for cls in messages.MESSAGES.values()])
_blob = st.builds(wire.Blob, st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.binary(max_size=50))


def _comparable(frame: Any) -> Any:
    return (frame.call, frame.index, frame.data) if isinstance(frame, wire.Blob) else frame


@given(st.lists(_message | _blob, max_size=4), st.integers(1, 17))
def test_frames_survive_any_cut(frames: list[Any], step: int) -> None:
    data = b"".join(frame.pack() if isinstance(frame, wire.Blob) else wire.pack(frame) for frame in frames)
    decoder = wire.Decoder()
    seen: list[Any] = []
    for start in range(0, len(data), step):
        seen += decoder.feed(data[start : start + step])
    assert [_comparable(frame) for frame in seen] == [_comparable(frame) for frame in frames]
    assert decoder.pending == 0


@given(st.sampled_from(sorted(messages.MESSAGES)), st.data())
def test_any_field_may_hold_anything_and_gets_a_clear_answer(kind: str, data: st.DataObject) -> None:
    """Whatever a peer sends in a field, it is either what the field declares or an error that names it."""
    cls = messages.MESSAGES[kind]
    frame = {"t": kind, **data.draw(_instances(cls)).plain()}
    field = data.draw(st.sampled_from([*cls.fields, "of a later version"]))
    frame[field] = data.draw(_plain | st.just(10**400) | st.just({}) | st.just([{}]))
    body = json.dumps(frame, ensure_ascii=True).encode("ascii")
    try:
        (message,) = wire.Decoder().feed(wire.HEADER.pack(len(body), wire.JSON) + body)
    except wire.WireError as error:
        assert field in str(error)  # noqa: PT017  an error is one of two right answers
    else:
        assert isinstance(message, cls)


@given(st.sampled_from(sorted(messages.MESSAGES)), st.data())
def test_a_missing_field_is_named_and_an_unknown_one_ignored(kind: str, data: st.DataObject) -> None:
    cls = messages.MESSAGES[kind]
    required = [name for name, (_, default) in cls.fields.items() if default is values._REQUIRED]
    whole = {"t": kind, **data.draw(_instances(cls)).plain(), "of a later version": 1}
    assert isinstance(messages.read(whole), cls)
    for name in required:
        with pytest.raises(values.InvalidValue, match=rf"\.{name} is missing"):
            messages.read({key: value for key, value in whole.items() if key != name})


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">IB", 5, 9) + b"hello",
        struct.pack(">IB", wire.MAX_BODY + 1, 0),
        struct.pack(">IB", 2, 0) + b"[]",
        struct.pack(">IB", 2, 0) + b"{}",
        struct.pack(">IB", 9, 0) + b'{"t":NaN}',
        struct.pack(">IB", 11, 0) + b'{"t":"what"}'[:11],
        struct.pack(">IB", 2, 1) + b"xx",
        struct.pack(">IB", 100_000, 0) + b"[" * 100_000,
        struct.pack(">IB", 500 + 9, 0) + b'{"t":"x",' + b"9" * 500,
    ],
)
def test_hostile_frames_are_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.Decoder().feed(data)


@given(st.binary(max_size=200))
def test_no_garbage_raises_anything_else(data: bytes) -> None:
    try:
        wire.Decoder().feed(data)
    except wire.WireError:
        pass
