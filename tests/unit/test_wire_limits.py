"""The limits of frames: what is just within them is read and written, what is beyond them is refused by both ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sloth.payload.kernel.paging import pages
from sloth.payload.session import messages, wire
from sloth.payload.session.wire import WireError

DEPTH = "nested more than 100 deep"


def nested(depth: int, brackets: str = "[]") -> str:
    """Return JSON of so many levels."""
    opening = {"[]": "[", "{}": '{"a":'}[brackets]
    return opening * depth + "1" + brackets[1] * depth


def with_x(text: str) -> str:
    """Return a message with this JSON in a field that nobody knows."""
    return f'{{"t":"rows","id":1,"x":{text}}}'


def read(text: str) -> messages.Message:
    """Return the message of JSON text, as a controller reads it."""
    body = text.encode("ascii")
    (message,) = wire.Decoder(messages.FROM_PAYLOAD).feed(wire.HEADER.pack(len(body), wire.JSON) + body)
    assert isinstance(message, messages.Message)
    return message


def row(value: object) -> messages.Rows:
    return messages.Rows(id=1, rows=[{"a": value}])


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_depth(brackets: str) -> None:
    assert read(with_x(nested(99, brackets))).TYPE == "rows"
    with pytest.raises(WireError, match=DEPTH):
        read(with_x(nested(100, brackets)))
    within, beyond = json.loads(nested(97, brackets)), json.loads(nested(98, brackets))
    assert wire.pack(row(within))
    with pytest.raises(WireError, match=DEPTH):
        wire.pack(row(beyond))


def test_many_brackets_beside_each_other_are_not_deep() -> None:
    assert wire.pack(row([[] for _ in range(1000)]))
    assert read(with_x("[" + "[]," * 1000 + "1]")).TYPE == "rows"
    assert read(with_x('"' + "[" * 1000 + '"')).TYPE == "rows"


def test_parts() -> None:
    assert read(with_x("[" + "1," * (wire.PARTS - 4) + "1]")).TYPE == "rows"
    with pytest.raises(WireError, match="more than 1000000 parts"):
        read(with_x("[" + "1," * (wire.PARTS - 3) + "1]"))
    with pytest.raises(WireError, match="parts"):
        wire.pack(row([[1]] * wire.PARTS))
    text = '\\",[{' * 500_000  # in a text they are no parts, also behind a quote in it
    assert read(with_x('"' + text + '"')).TYPE == "rows"


def test_sizes() -> None:
    decoder = wire.Decoder(messages.FROM_PAYLOAD)
    assert list(decoder.feed(wire.HEADER.pack(wire.MAX_BODY, wire.JSON))) == []
    assert decoder.pending == wire.HEADER.size
    with pytest.raises(WireError, match="16777217 bytes exceeds"):
        list(wire.Decoder({}).feed(wire.HEADER.pack(wire.MAX_BODY + 1, wire.JSON)))
    (piece,) = decoder_of(wire.Blob(1, 2, b"x" * wire.CHUNK).pack())
    assert isinstance(piece, wire.Blob)
    assert (piece.call, piece.index, len(piece.data)) == (1, 2, wire.CHUNK)
    with pytest.raises(WireError, match="65532 bytes exceeds"):
        decoder_of(wire.Blob(1, 2, b"x" * (wire.CHUNK + 1)).pack())
    rest = wire.MAX_BODY - len(wire.pack(messages.Output(id=1, stream="", data=""))) + wire.HEADER.size
    assert wire.pack(messages.Output(id=1, stream="", data="x" * rest))
    with pytest.raises(WireError, match="exceeds the limit of 16777216"):
        wire.pack(messages.Output(id=1, stream="", data="x" * (rest + 1)))


def decoder_of(data: bytes) -> list[messages.Message | wire.Blob]:
    return list(wire.Decoder(messages.FROM_PAYLOAD).feed(data))


def test_the_size_of_what_was_read_last() -> None:
    decoder = wire.Decoder(messages.FROM_PAYLOAD)
    frames = [wire.pack(messages.Alive()), wire.Blob(1, 0, b"xyz").pack()]
    sizes = [decoder.size for _ in decoder.feed(b"".join(frames))]
    assert sizes == [len(frame) - wire.HEADER.size for frame in frames]


@pytest.mark.parametrize("digits", ["-9223372036854775808", "9" * 19])
def test_numbers(digits: str) -> None:
    assert read(with_x(digits)).TYPE == "rows"
    with pytest.raises(WireError, match="a number of 21 digits"):
        read(with_x(digits.ljust(21, "0")))
    for number in ("1e999", "-1e999", "NaN", "Infinity", "-Infinity"):
        with pytest.raises(WireError):
            read(with_x(number))
    for value in (float("nan"), float("inf")):
        with pytest.raises(WireError):
            wire.pack(row(value))


@pytest.mark.parametrize(
    ("sent", "read_as"),
    [
        (r"\udc80\udcff", "\udc80\udcff"),
        (r"\uDC80\uDcFf", "\udc80\udcff"),
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\ud83d", "\ufffd"),
        (r"\udbff!", "\ufffd!"),
        (r"\udc7f", "\ufffd"),
        (r"\udd00", "\ufffd"),
        (r"\uD800\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\\ud800", r"\ud800"),
        (r"\\\ud800", "\\\ufffd"),
        (r"\ud55c\u00fc", "\ud55c\xfc"),
        (r"\"\n\ud800\u000a", '"\n\ufffd\n'),
    ],
)
def test_halves_of_characters(sent: str, read_as: str) -> None:
    message = read('{"t":"fail","kind":"crash","error":"' + sent + '"}')
    assert isinstance(message, messages.Fail)
    assert message.error == read_as
    assert message.error.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("rows", "lengths"),
    [
        ([], []),
        ([{"a": 1}] * 1001, [500, 500, 1]),
        ([{"a": "x" * 700_000}] * 5, [2, 2, 1]),
        ([{"a": ["x" * 700_000], "b": 1}] * 5, [2, 2, 1]),
        ([{"a": "x" * 3_000_000}, {"a": 1}], [1, 1]),
    ],
    ids=["none", "many", "long", "nested", "a single one"],
)
def test_rows_come_in_pages_of_which_each_fits_into_a_frame(rows: list[dict[str, Any]], lengths: list[int]) -> None:
    found = list(pages(rows))
    assert [len(page) for page in found] == lengths
    assert [row for page in found for row in page] == rows
