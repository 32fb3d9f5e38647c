"""Hashes of files by (device, inode, size, mtime, ctime): a file that did not change is not read again."""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from sloth.payload.kernel.redact import Redactor
    from sloth.payload.state.database import Database

SETTLED = 0.05  # seconds; a file younger than this may change again without a new timestamp
SETTLED_COARSE = 2.1  # the same, where times are whole seconds, or even ones: old ext file systems, FAT, some of NFS
SECOND = 10**9  # ns
LARGE = 1024 * 1024  # bytes


class Signatures(object):
    """The table `signatures`."""

    def __init__(self, database: "Database", redactor: "Redactor") -> "None":
        self._db = database
        self._redactor = redactor

    def get(self, path: "str", info: "os.stat_result") -> "str | None":
        """Return the SHA-256 that `path`, whose os.stat() is `info`, had when it was last hashed."""
        row = self._db.execute(
            "SELECT sha256, device, inode, size, mtime_ns, ctime_ns FROM signatures WHERE path=?",
            (self._redactor.key(path),),
        ).fetchone()
        return str(row[0]) if row and tuple(row[1:]) == _signature(info) else None

    def put(
        self, path: "str", info: "os.stat_result", sha256: "str", ours: "bool" = False, at: "float | None" = None
    ) -> "None":
        """Remember a hash. `info` was taken at the time `at` (now), before the file was read (or, for our own write,
        after the rename).

        A file changed so lately that a second change could carry the same time stamp is not remembered, unless it is
        our own and large: then the next run would pay for reading it. A second is too long for that.
        """
        age = (time.time() if at is None else at) - info.st_ctime_ns / SECOND
        coarse = info.st_ctime_ns % SECOND == 0
        fresh = age < (SETTLED_COARSE if coarse else SETTLED)
        if self._db.readonly or (fresh and (coarse or not (ours and info.st_size > LARGE))):
            return
        statement = "INSERT OR REPLACE INTO signatures VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._db.write(statement, (self._redactor.key(path), *_signature(info), sha256), changed=False)


def _signature(info: "os.stat_result") -> "tuple[int, ...]":
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
