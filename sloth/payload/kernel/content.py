"""A file's content as an attribute: compared by hash, read only when somebody must."""

from sloth.payload.kernel.hashing import sha256

TEXT_LIMIT = 512 * 1024  # bytes; a longer content is never shown as text


class Content(object):
    """Immutable bytes of known SHA-256 and size. Two are equal when their hashes are."""

    def __init__(self, sha256, size, chunks):
        """sha256: hex str; size: bytes; chunks: a callable that returns an iterator of bytes."""
        self.sha256 = sha256
        self.size = size
        self._chunks = chunks
        self._data = None

    @classmethod
    def of_bytes(cls, data):
        return cls(sha256(data).hexdigest(), len(data), lambda: iter((data,)))

    def chunks(self):
        """An iterator of bytes. What comes from the controller comes once, unless it was short enough for data()."""
        return self._chunks() if self._data is None else iter((self._data,))

    def data(self):
        """The whole content as bytes; kept when it is at most TEXT_LIMIT long."""
        data = b"".join(self.chunks())
        if len(data) <= TEXT_LIMIT:
            self._data = data
        return data

    def __eq__(self, other):
        return isinstance(other, Content) and self.sha256 == other.sha256

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return hash(self.sha256)

    def __repr__(self):
        return "Content(%s, %d bytes)" % (self.sha256[:12], self.size)


def plain(value):
    """Return `value` with every Content in it as {"sha256", "size"}: what is stored and what checksums cover."""
    if isinstance(value, Content):
        return {"sha256": value.sha256, "size": value.size}
    if isinstance(value, dict):
        return dict((str(key), plain(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
