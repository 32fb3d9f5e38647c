"""The contents of files that were replaced, kept by hash so that they can be compared and restored."""

import time
import zlib

from sloth.payload.kernel.content import Content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from sloth.payload.state.database import Database

LARGEST = 8 * 1024 * 1024  # bytes; a larger content is not kept
LIMIT = 256 * 1024 * 1024  # bytes that all of them may take in the state file; the oldest are dropped first
PIECE = 256 * 1024  # bytes of one row


class Blobs(object):
    """The tables `blobs` and `pieces`; what is written is durable when the database commits."""

    def __init__(self, database: "Database") -> "None":
        self._db = database
        self._size: "int | None" = None  # bytes kept, once counted, without what other sessions of the run keep

    def keep(self, content: "Content") -> "bool":
        """Keep a content; return whether it is kept. One that is large, or that changes while it is read, is not."""
        if self._db.readonly or content.size > LARGEST:
            return False
        if self._db.execute("SELECT 1 FROM blobs WHERE sha256=?", (content.sha256,)).fetchone():
            now = (int(time.time()), content.sha256)
            self._db.write("UPDATE blobs SET kept_at=? WHERE sha256=?", now, changed=False)
            return True
        data = content.data()
        if Content.of_bytes(data) != content:
            return False
        pieces = [zlib.compress(data[at : at + PIECE], 1) for at in range(0, len(data), PIECE)]
        stored = sum(len(piece) for piece in pieces)
        self._size = self._make_room(stored) + stored
        values = (content.sha256, content.size, stored, int(time.time()))
        # Another session of the run may have kept it meanwhile.
        self._db.write("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?)", values)
        for number, piece in enumerate(pieces):
            self._db.write("INSERT OR IGNORE INTO pieces VALUES (?, ?, ?)", (content.sha256, number, piece))
        return True

    def _make_room(self, more: "int") -> "int":
        """Drop the oldest until `more` bytes fit; return how many are kept then."""
        size = self._size
        if size is None:
            size = int(self._db.execute("SELECT coalesce(sum(stored), 0) FROM blobs").fetchone()[0])
        while size + more > LIMIT:
            oldest = self._db.execute("SELECT sha256, stored FROM blobs ORDER BY kept_at LIMIT 1").fetchone()
            if oldest is None:
                break
            self.drop(oldest[0])
            size -= int(oldest[1])
        return size

    def drop(self, sha256: "str") -> "None":
        """Keep a content no longer."""
        self._db.write("DELETE FROM pieces WHERE sha256=?", (sha256,))
        self._db.write("DELETE FROM blobs WHERE sha256=?", (sha256,))

    def get(self, sha256: "str") -> "Content | None":
        """Return the content of that hash, or None when it is not kept."""
        row = self._db.execute("SELECT size FROM blobs WHERE sha256=?", (sha256,)).fetchone()
        return Content(sha256, row[0], lambda: self._read(sha256)) if row else None

    def _read(self, sha256: "str") -> "Iterator[bytes]":
        rows = self._db.execute("SELECT data FROM pieces WHERE sha256=? ORDER BY number", (sha256,))
        for (piece,) in rows:
            yield zlib.decompress(bytes(piece))

    def damaged(self) -> "list[str]":
        """Return the hashes of contents that are not what they should be."""
        every = self._db.execute("SELECT sha256 FROM blobs ORDER BY sha256").fetchall()
        return [sha256 for (sha256,) in every if not self._is_sound(sha256)]

    def _is_sound(self, sha256: "str") -> "bool":
        try:
            return Content.of_bytes(b"".join(self._read(sha256))).sha256 == sha256
        except zlib.error:
            return False
