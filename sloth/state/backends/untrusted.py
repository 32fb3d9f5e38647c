"""What a backend sends is read as data of a stranger: whoever can write there may have put anything in its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sloth.payload.session.wire import is_deeper

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

# What reading a value raises that is not as we write it: another type, a part that is missing, a number out of range.
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
DEPTH = 200  # lists and objects in one another; what sites share has at most 60
LARGEST = 1024 * 1024 * 1024  # bytes of what is decompressed: as much as one session may bring
MOST_NAMES = 1_000_000  # of entries in one list
LATEST = 1e11  # epoch seconds; later dates cannot be shown everywhere


def parse(data: bytes | str) -> Json:
    """Return the value of JSON, which is not nested too deeply to be walked through. Raises ValueError."""
    try:
        found: Json = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    text = data if isinstance(data, str) else data.decode("latin-1")
    if text.count("{") + text.count("[") > DEPTH and is_deeper(found, DEPTH):
        raise ValueError("it is nested too deeply")
    return found


def decompress(data: bytes) -> bytes:
    """Return what zlib has compressed, unless it is too much. Raises ValueError."""
    import zlib  # a run without a backend needs neither

    try:
        stream = zlib.decompressobj()
        found = stream.decompress(data, LARGEST)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof:
        raise ValueError("it is cut off, or too large")
    return found


def moment(value: Json) -> float:
    """Return an epoch time. Raises TypeError, ValueError, OverflowError for what is none."""
    found = float(value)
    if not 0 <= found <= LATEST:
        raise ValueError(f"{found} is no time")
    return found


def whole(value: Json) -> int:
    """Return a number that counts something. Raises TypeError, ValueError for what is none, or does not fit 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("no whole number")
    if not 0 <= value < 2**63:
        raise ValueError("a number out of range")
    return value
