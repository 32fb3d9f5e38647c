"""A file's content as an attribute: compared by hash, read only when somebody must."""

from sloth.payload.kernel.hashing import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from sloth.payload.kernel.values import Chunks, Json

TEXT_LIMIT = 512 * 1024  # bytes; a longer content is never shown as text


class Content(object):
    """Immutable bytes of known SHA-256 and size. Two are equal when their hashes are."""

    __slots__ = ("_chunks", "_data", "sha256", "size")

    def __init__(self, sha256: "str", size: "int", chunks: "Chunks") -> "None":
        """sha256: hex; size: bytes; chunks: a callable that returns an iterator of bytes."""
        self.sha256 = sha256
        self.size = size
        self._chunks = chunks
        self._data: "bytes | None" = None

    @classmethod
    def of_bytes(cls, data: "bytes") -> "Content":
        """Return the content `data`."""
        return cls(sha256(data).hexdigest(), len(data), lambda: iter((data,)))

    def chunks(self) -> "Iterator[bytes]":
        """Iterate over the bytes. What the controller sends comes once, unless it was short enough for data()."""
        return self._chunks() if self._data is None else iter((self._data,))

    def data(self) -> "bytes":
        """Return the whole content; it is kept when it is at most TEXT_LIMIT long."""
        data = b"".join(self.chunks())
        if len(data) <= TEXT_LIMIT:
            self._data = data
        return data

    def __eq__(self, other: "object") -> "bool":
        return isinstance(other, Content) and self.sha256 == other.sha256

    def __hash__(self) -> "int":
        return hash(self.sha256)

    def __repr__(self) -> "str":
        return "Content(%s, %d bytes)" % (self.sha256[:12], self.size)


def plain(value: "object") -> "Json":
    """Return `value` with every Content in it as {"sha256", "size"}: what is stored and what checksums cover."""
    if isinstance(value, Content):
        return {"sha256": value.sha256, "size": value.size}
    if isinstance(value, dict):
        return dict((str(key), plain(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
