"""Framing: how messages and pieces of files become bytes and back, for both ends.

A frame is a 5-byte header (`>IB`: body length in bytes, kind) and its body:

    JSON (0)   one message as an object, {"t": its type, ...}, in ASCII: a lone surrogate \\udc80-\\udcff stands for a
               byte that is not UTF-8
    BLOB (1)   `>IH` call id and asset index, then bytes of that asset; an empty piece ends it

Before its first frame the payload writes MARK, so that whatever a login shell prints before it can be told apart.
"""

import struct

from sloth.payload.kernel import plain_json
from sloth.payload.kernel.errors import PayloadError
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.session import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, Mapping, Match

    from sloth.payload.kernel.values import Json
    from sloth.payload.session.messages import Message

VERSION = messages.VERSION
MARK = b"\x00sloth-wire-2\n"
SILENCE = 60.0  # seconds without a byte from the controller, which pings every 15, until a host takes it for lost
JSON = 0
BLOB = 1
HEADER = struct.Struct(">IB")
BLOB_HEADER = struct.Struct(">IH")
MAX_BODY = 16 * 1024 * 1024
CHUNK = 64 * 1024 - HEADER.size - BLOB_HEADER.size  # bytes of a file in one BLOB: the frame fills two packets of SSH
DIGITS = 20  # of an integer: those of 64 bits and a sign
DEPTH = 100  # lists and objects in one another; whatever walks through a message must not run out of stack
PARTS = 1000 * 1000  # lists, objects and their elements in one message: of each byte of one come up to thirty in memory


class WireError(PayloadError):
    """The other end sent what the protocol does not allow, or a message is too long to be sent."""


class Blob(object):
    """A piece of asset `index` of call `call`; an empty one ends the asset."""

    __slots__ = ("call", "data", "index")

    def __init__(self, call: "int", index: "int", data: "bytes") -> "None":
        self.call = call
        self.index = index
        self.data = data

    def pack(self) -> "bytes":
        """Return its frame; `data` is at most CHUNK long."""
        return _pack_piece(self.call, self.index, self.data)


def pack_pieces(call: "int", index: "int", data: "bytes") -> "Iterator[bytes]":
    """Yield the frames of some bytes of an asset; the one that ends the asset is not among them."""
    with memoryview(data) as view:
        for start in range(0, len(data), CHUNK):
            yield _pack_piece(call, index, view[start : start + CHUNK])


def _pack_piece(call: "int", index: "int", data: "bytes | memoryview") -> "bytes":
    header = HEADER.pack(BLOB_HEADER.size + len(data), BLOB) + BLOB_HEADER.pack(call, index)
    return b"".join((header, data))


def pack(message: "Message") -> "bytes":
    """Return the frame of a message. Raises WireError when read() would refuse it: it is too long or too deep, ..."""
    plain = dict(message.plain(), t=message.TYPE)
    try:
        body = _encode(plain).encode("ascii")
    except (ValueError, RecursionError) as error:
        raise WireError(str(error))
    if len(body) > MAX_BODY:
        raise WireError("a message of %d bytes exceeds the limit of %d" % (len(body), MAX_BODY))
    if body.count(b"{") + body.count(b"[") > DEPTH:
        _check_shape(body, plain)
    return HEADER.pack(len(body), JSON) + body


def _check_shape(body: "bytes", plain: "Json") -> "None":
    """Raise WireError for a message that is nested too deep. What is called for each message counts brackets first."""
    _check_parts(body)
    if is_deeper(plain, DEPTH):
        raise WireError("a message nested more than %d deep" % DEPTH)


def _check_parts(body: "bytes") -> "None":
    """Raise WireError for a message of too many parts, before they are made."""
    if len(body) < PARTS or _count_parts(body) <= PARTS:
        return
    import re  # rarely needed, and slow to load on a host

    if _count_parts(re.sub(rb'"(?:[^"\\]|\\.)*"', b"", body)) > PARTS:  # without those in texts
        raise WireError("a message of more than %d parts" % PARTS)


def _without_halves(body: "bytes") -> "bytes":
    """Return JSON in which halves of characters are replaced, but for those that stand for bytes.

    Whatever encodes a text gives these their bytes back, and would fail of the others.
    """
    import re

    def replace(match: "Match[bytes]") -> "bytes":
        high, low, alone = match.groups()
        if (high and not low) or (alone and not 0xDC80 <= int(alone, 16) <= 0xDCFF):
            return b"\\ufffd"
        return match.group()

    first, second = b"u([dD][89abAB]..)", b"u([dD][c-fC-F]..)"
    return re.sub(rb"\\(?:%s(?:\\%s)?|%s|.)" % (first, second, second), replace, body, flags=re.DOTALL)


def _count_parts(body: "bytes") -> "int":
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def is_deeper(plain: "Json", depth: "int") -> "bool":
    """Return whether lists and objects are nested deeper than this in one another, without nesting calls itself."""
    level = [plain]
    for _ in range(depth):
        level = [
            item
            for part in level
            for item in (part.values() if isinstance(part, dict) else part)
            if isinstance(item, (dict, list, tuple))
        ]
        if not level:
            return False
    return True


class Decoder(object):
    """Turns a stream of bytes into messages and blobs. It holds at most one frame, besides what it was just fed."""

    def __init__(self, types: "Mapping[str, type[Message]]") -> "None":
        """types: the messages that the other end may send, messages.FROM_CONTROLLER or FROM_PAYLOAD."""
        self._types = types
        self._buffer = bytearray()
        self.size = 0  # bytes of the body of the frame that was yielded last

    def feed(self, data: "bytes") -> "Iterator[Message | Blob]":
        """Take the next bytes of the stream and yield what they complete.

        Raises WireError on a frame that is too long or of unknown kind, or is no valid message. What came before it
        has been yielded then.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= HEADER.size:
            length, kind = HEADER.unpack_from(buffer, start)
            # Checked before the body is here: nobody can make us wait for, or keep, 4 GB.
            if kind not in (JSON, BLOB):
                raise WireError("unknown frame kind %d" % kind)
            if length > _LIMITS[kind]:
                raise WireError("a frame of %d bytes exceeds the limit of %d" % (length, _LIMITS[kind]))
            end = start + HEADER.size + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as whole:  # a slice of the buffer itself would be one more copy
                body = bytes(whole[start + HEADER.size + (BLOB_HEADER.size if kind == BLOB else 0) : end])
            self.size = length
            if kind == JSON:
                yield self._read_message(body)
            elif length < BLOB_HEADER.size:
                raise WireError("a blob without its header")
            else:
                call, index = BLOB_HEADER.unpack_from(buffer, start + HEADER.size)
                yield Blob(call, index, body)
            start = end
        if start:
            del buffer[:start]

    def _read_message(self, body: "bytes") -> "Message":
        _check_parts(body)
        if b"\\ud" in body or b"\\uD" in body:
            body = _without_halves(body)
        try:
            plain = _decode(body.decode("ascii"))
            if body.count(b"{") + body.count(b"[") > DEPTH:
                _check_shape(body, plain)
            return messages.read(plain, self._types)
        except InvalidValue as error:
            raise WireError(error.message)
        except (ValueError, RecursionError) as error:
            raise WireError("not a JSON frame: %s" % error)

    @property
    def pending(self) -> "int":
        """Bytes of an unfinished frame; if it is not 0 at the end of a stream, the stream was cut."""
        return len(self._buffer)


def _no_constant(name: "str") -> "Json":
    raise ValueError("%s is not JSON" % name)


def _read_int(text: "str") -> "int":
    # Longer ones take quadratic time to read, and neither Lua nor SQLite can hold them.
    if len(text) > DIGITS:
        raise ValueError("a number of %d digits" % len(text))
    return int(text)


def _read_float(text: "str") -> "float":
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number out of range")
    return number


_LIMITS = {JSON: MAX_BODY, BLOB: BLOB_HEADER.size + CHUNK}
_encode = plain_json.encoder((",", ":"), allow_nan=False)
_decode = plain_json.decoder(_read_int, _read_float, _no_constant)
