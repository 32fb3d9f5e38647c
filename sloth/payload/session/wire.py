"""The frames that controller and payload exchange, read and written by both ends with this one file.

A frame is a 5-byte header (`>IB`: body length in bytes, kind) and its body:

    JSON (0)   one object, UTF-8 bytes that are ASCII: a lone surrogate \\udc80-\\udcff stands for a raw byte
    BLOB (1)   `>IH` call id and asset index, then raw bytes of that asset; an empty piece ends it

Before its first frame the payload writes MARK, so that whatever a login shell prints first can be told apart.
"""

import json
import struct

VERSION = 1
MARK = b"\x00sloth-wire-1\n"
JSON = 0
BLOB = 1
HEADER = struct.Struct(">IB")
BLOB_HEADER = struct.Struct(">IH")
MAX_BODY = 16 * 1024 * 1024
CHUNK = 64 * 1024  # bytes of a file in one BLOB


class WireError(Exception):
    """The other end sent what the protocol does not allow."""


def pack(message):
    """Return the bytes of a JSON frame for the dict `message`; raise WireError when it is over MAX_BODY."""
    body = json.dumps(message, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
    if len(body) > MAX_BODY:
        raise WireError("a message of %d bytes is over the limit of %d" % (len(body), MAX_BODY))
    return HEADER.pack(len(body), JSON) + body


def pack_blob(call, index, data):
    """Return the bytes of a BLOB frame: `data` (bytes, at most CHUNK) of asset `index` of call `call`."""
    return HEADER.pack(BLOB_HEADER.size + len(data), BLOB) + BLOB_HEADER.pack(call, index) + data


class Decoder(object):
    """Turns a stream of bytes, fed as it comes, into frames; holds at most one frame's bytes."""

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, data):
        """Take `data` and return the list of whole frames: dicts, or (call, index, bytes) tuples for blobs.

        Raises WireError on a frame that is too long, of unknown kind, or not a JSON object.
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
    def pending(self):
        """Bytes of an unfinished frame; not 0 at the end of a stream means that it was cut."""
        return len(self._buffer)


def _decode(kind, body):
    if kind == BLOB:
        if len(body) < BLOB_HEADER.size:
            raise WireError("a blob frame without its header")
        call, index = BLOB_HEADER.unpack_from(body)
        return call, index, body[BLOB_HEADER.size :]
    try:
        message = json.loads(body.decode("ascii"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WireError("not a JSON frame: %s" % error)
    if not isinstance(message, dict) or not isinstance(message.get("t"), str):
        raise WireError("a frame without a type")
    return message


def _no_constant(name):
    raise ValueError("%s is not JSON" % name)
