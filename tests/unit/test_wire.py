"""The wire: what is written is read, however it is cut; what is hostile is refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.payload.session import wire

_text = (
    st.text(st.characters(codec="utf-8"))
    .map(lambda text: text.encode())
    .map(lambda data: (data + b"\xff").decode("utf-8", "surrogateescape"))
)
_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_frame = st.one_of(
    st.dictionaries(_text, _plain, max_size=3).map(lambda extra: {**extra, "t": "x"}),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.binary(max_size=50)),
)


@given(st.lists(_frame, max_size=6), st.integers(1, 17))
def test_frames_survive_any_cut(frames: list[Any], step: int) -> None:
    data = b"".join(wire.pack(frame) if isinstance(frame, dict) else wire.pack_blob(*frame) for frame in frames)
    decoder = wire.Decoder()
    seen: list[Any] = []
    for start in range(0, len(data), step):
        seen += decoder.feed(data[start : start + step])
    assert seen == frames
    assert decoder.pending == 0


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">IB", 5, 9) + b"hello",
        struct.pack(">IB", wire.MAX_BODY + 1, 0),
        struct.pack(">IB", 2, 0) + b"[]",
        struct.pack(">IB", 2, 0) + b"{}",
        struct.pack(">IB", 9, 0) + b'{"t":NaN}',
        struct.pack(">IB", 2, 1) + b"xx",
        struct.pack(">IB", 100_000, 0) + b"[" * 100_000,
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
