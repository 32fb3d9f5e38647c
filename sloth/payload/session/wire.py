"""The frames that controller and payload exchange, read and written by both ends with this one file.

A frame is a 5-byte header (`>IB`: body length in bytes, kind) and its body:

    JSON (0)   one message (session/messages.py) as an object, UTF-8 bytes that are ASCII: a lone surrogate
               \\udc80-\\udcff stands for a raw byte
    BLOB (1)   `>IH` call id and asset index, then raw bytes of that asset; an empty piece ends it

Before its first frame the payload writes MARK, so that it can be told from whatever a login shell prints first.
"""

import json
import struct

from sloth.payload.kernel.errors import PayloadError
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.session import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from sloth.payload.kernel.values import Json
    from sloth.payload.session.messages import Message

VERSION = messages.VERSION
MARK = b"\x00sloth-wire-2\n"
JSON = 0
BLOB = 1
HEADER = struct.Struct(">IB")
BLOB_HEADER = struct.Struct(">IH")
MAX_BODY = 16 * 1024 * 1024
CHUNK = 64 * 1024  # bytes of a file in one BLOB


class WireError(PayloadError):
    """The other end sent what the protocol does not allow."""


class Blob(object):
    """A piece of an asset's bytes; an empty one ends the asset."""

    __slots__ = ("call", "data", "index")

    def __init__(self, call: "int", index: "int", data: "bytes") -> "None":
        self.call = call
        self.index = index
        self.data = data

    def pack(self) -> "bytes":
        """Return the bytes of its frame; `data` is at most CHUNK long."""
        header = HEADER.pack(BLOB_HEADER.size + len(self.data), BLOB)
        return header + BLOB_HEADER.pack(self.call, self.index) + self.data


def pack(message: "Message") -> "bytes":
    """Return the bytes of a message's frame; raise WireError when it is over MAX_BODY."""
    data = dict(message.plain(), t=message.TYPE)
    body = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
    if len(body) > MAX_BODY:
        raise WireError("a message of %d bytes is over the limit of %d" % (len(body), MAX_BODY))
    return HEADER.pack(len(body), JSON) + body


class Decoder(object):
    """Turns a stream of bytes, fed as it comes, into frames; holds at most one frame's bytes."""

    def __init__(self) -> "None":
        self._buffer = bytearray()

    def feed(self, data: "bytes") -> "list[Message | Blob]":
        """Take `data` and return the whole frames that it completes.

        Raises WireError on a frame that is too long, of unknown kind, or not a message.
        """
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= HEADER.size:
            length, kind = HEADER.unpack_from(buffer, start)
            if kind not in (JSON, BLOB):
                raise WireError("unknown frame kind %d" % kind)
            if length > MAX_BODY:
                raise WireError("a frame of %d bytes is over the limit of %d" % (length, MAX_BODY))
            end = start + HEADER.size + length
            if len(buffer) < end:
                break
            frames.append(_decode(kind, bytes(buffer[start + HEADER.size : end])))
            start = end
        if start:
            del buffer[:start]
        return frames

    @property
    def pending(self) -> "int":
        """Bytes of an unfinished frame; not 0 at the end of a stream means that it was cut."""
        return len(self._buffer)


def _decode(kind: "int", body: "bytes") -> "Message | Blob":
    if kind == BLOB:
        if len(body) < BLOB_HEADER.size:
            raise WireError("a blob frame without its header")
        call, index = BLOB_HEADER.unpack_from(body)
        return Blob(call, index, body[BLOB_HEADER.size :])
    try:
        data: "Json" = json.loads(body.decode("ascii"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WireError("not a JSON frame: %s" % error)
    try:
        return messages.read(data)
    except InvalidValue as error:
        raise WireError(error.message)


def _no_constant(name: "str") -> "NoReturn":
    raise ValueError("%s is not JSON" % name)
