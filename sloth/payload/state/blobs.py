"""What files held before and after we wrote them: kept by hash, within a limit, so that a run can be undone."""

import time
import zlib

from sloth.payload.kernel.content import Content

LARGEST = 8 * 1024 * 1024  # bytes; a larger content is not kept
LIMIT = 256 * 1024 * 1024  # bytes that all of them may take in the state file; the oldest go first
PIECE = 256 * 1024  # bytes of one row


class Contents(object):
    """The contents that a Store keeps; what is written is durable when the store commits."""

    def __init__(self, store):
        self._store = store
        self._size = None  # bytes kept, once it was asked for; nobody else writes while we hold the host's lock

    def keep(self, content):
        """Keep a Content; return whether it is kept. One that is large, or that changes while it is read, is not."""
        if self._store.readonly or content.size > LARGEST:
            return False
        if self._store._execute("SELECT 1 FROM contents WHERE sha256=?", (content.sha256,)).fetchone():
            now = (int(time.time()), content.sha256)
            self._store._write("UPDATE contents SET kept_at=? WHERE sha256=?", now, changed=False)
            return True
        data = content.data()
        if Content.of_bytes(data) != content:
            return False
        pieces = [zlib.compress(data[at : at + PIECE], 1) for at in range(0, len(data), PIECE)]
        stored = sum(len(piece) for piece in pieces)
        self._make_room(stored)
        values = (content.sha256, content.size, stored, int(time.time()))
        self._store._write("INSERT INTO contents VALUES (?, ?, ?, ?)", values)
        for number, piece in enumerate(pieces):
            self._store._write("INSERT INTO pieces VALUES (?, ?, ?)", (content.sha256, number, piece))
        self._size += stored
        return True

    def _make_room(self, more):
        if self._size is None:
            self._size = self._store._execute("SELECT coalesce(sum(stored), 0) FROM contents").fetchone()[0]
        while self._size + more > LIMIT:
            oldest = self._store._execute("SELECT sha256, stored FROM contents ORDER BY kept_at LIMIT 1").fetchone()
            if oldest is None:
                break
            self.drop(oldest[0])
            self._size -= oldest[1]

    def drop(self, sha256):
        """Keep it no longer."""
        self._store._write("DELETE FROM pieces WHERE sha256=?", (sha256,))
        self._store._write("DELETE FROM contents WHERE sha256=?", (sha256,))

    def get(self, sha256):
        """Return the Content of that hash, or None when it is not kept."""
        row = self._store._execute("SELECT size FROM contents WHERE sha256=?", (sha256,)).fetchone()
        return Content(sha256, row[0], lambda: self._read(sha256)) if row else None

    def _read(self, sha256):
        rows = self._store._execute("SELECT data FROM pieces WHERE sha256=? ORDER BY number", (sha256,))
        for (piece,) in rows:
            yield zlib.decompress(bytes(piece))

    def damaged(self):
        """Return the hashes of contents that are not what they should be."""
        every = self._store._execute("SELECT sha256 FROM contents ORDER BY sha256").fetchall()
        return [sha256 for (sha256,) in every if not self._is_sound(sha256)]

    def _is_sound(self, sha256):
        try:
            return Content.of_bytes(b"".join(self._read(sha256))).sha256 == sha256
        except zlib.error:
            return False
