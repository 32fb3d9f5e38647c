"""The SQLite file below a Store: opened safely, migrated, committed durably, set aside when it is damaged."""

# Without the package, whose dates no state has: that is a millisecond of every start.
import _sqlite3 as sqlite3
import errno
import os
import stat
import time

from sloth.payload.kernel.errors import StoreError
from sloth.payload.kernel.hashing import as_utf8
from sloth.payload.state.migrations import MIGRATIONS, SCHEMA, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable, Sequence, TypeVar

    from sloth.payload.kernel.values import Column

    T = TypeVar("T")

BUSY_SECONDS = 30
SMALLEST = 65536  # bytes; with less, SQLite cannot begin its log


class Database(object):
    """One state file. Nothing is durable before commit()."""

    def __init__(self, path: "str | None", readonly: "bool" = False) -> "None":
        """Open (and create, unless `readonly`) the file at `path`; None: in memory. Raises StoreError.

        A damaged file that is to be written is set aside, and a new one begun; `aside` is then its new path.
        """
        self.path = path
        self.readonly = readonly
        self.aside: "str | None" = None
        self.before_commit: "Callable[[], None]" = _nothing  # makes durable what records speak of, before they are
        self._dirty = False
        self._changed = False
        self._logged = False  # whether the log's own name is durable
        self._db: "sqlite3.Connection"
        try:
            self._open(path, readonly)
        except StoreError as error:
            if path is None or not error.damaged or readonly:
                raise
            self.aside = set_aside(path)
            self._open(path, readonly)

    def _open(self, path: "str | None", readonly: "bool") -> "None":
        try:
            self._db = _patiently(lambda: self._connect(path, readonly))
        except sqlite3.Error as error:
            raise self._explain(error)
        try:
            _patiently(self._migrate)
        except sqlite3.Error as error:
            self._db.close()
            explained = self._explain(error)
            db = _open_as_it_is(path) if path is not None and readonly and explained.unwritable else None
            if db is None:
                raise explained
            self._db = db
            try:
                self._migrate()
            except sqlite3.Error:
                raise explained

    def _connect(self, path: "str | None", readonly: "bool") -> "sqlite3.Connection":
        if path is None or (readonly and not os.path.exists(path)):
            self.path = None
            return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if not readonly:
            _create(path)
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            if readonly:
                db.execute("PRAGMA query_only=1")
            else:
                # It answers another mode where WAL cannot work (network file systems).
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _migrate(self) -> "None":
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            self._db.close()
            raise StoreError(
                "the state file %s has format %d, and this sloth-runner knows up to %d" % (self.path, version, VERSION),
                hint="upgrade sloth-runner on the controller",
            )
        if version == VERSION:
            self._db.execute("SELECT count(*) FROM meta").fetchone()  # a file with a sound header may lack all else
            return
        if self.readonly and self.path is not None:  # an old or empty file: look at it through a migrated copy
            copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            if version:
                copy.executescript("\n".join(self._db.iterdump()))
                copy.execute("PRAGMA user_version=%d" % version)
            self._db.close()
            self._db = copy
        self._db.execute("BEGIN IMMEDIATE")
        try:
            version = self._db.execute("PRAGMA user_version").fetchone()[0]  # another process may have been faster
            steps = [MIGRATIONS[number] for number in range(version, VERSION)] if version else [SCHEMA]
            for statement in [statement for statements in steps for statement in statements]:
                self._db.execute(statement)
            if version == 0:
                for name, value in (("id", _random()), ("secret_key", _random()), ("seq", "0")):
                    self._db.execute("INSERT INTO meta VALUES (?, ?)", (name, value))
            self._db.execute("PRAGMA user_version=%d" % VERSION)
            self._db.execute("COMMIT")
        except Exception:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _explain(self, error: "Exception") -> "StoreError":
        return _explained(error, self.path)

    def execute(self, statement: "str", values: "Sequence[Column]" = ()) -> "sqlite3.Cursor":
        """Run a statement that reads. Raises StoreError."""
        try:
            return _patiently(lambda: self._db.execute(statement, values))
        except UnicodeEncodeError:  # such as a task's name with a byte that is not UTF-8
            return self.execute(statement, [as_utf8(value) if isinstance(value, str) else value for value in values])
        except sqlite3.Error as error:
            raise self._explain(error)

    def write(self, statement: "str", values: "Sequence[Column]" = (), changed: "bool" = True) -> "sqlite3.Cursor":
        """Run a statement that writes, in the open transaction. changed: commit() must survive a power cut."""
        self._begin()
        self._changed = self._changed or changed
        return self.execute(statement, values)

    def _begin(self) -> "None":
        """Begin a transaction, if none is open: from here on no other session of the run writes."""
        if not self._dirty:
            self.execute("BEGIN IMMEDIATE")
            self._dirty = True

    def meta(self, name: "str") -> "str | None":
        """Return a value of the file itself: its "id", its "secret_key", the "seq" of its newest record."""
        row = self.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return row[0] if row else None

    def set_meta(self, name: "str", value: "str") -> "None":
        self.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def next_seq(self) -> "int":
        """Return a new number for a changed record: replicas ask for what is newer than theirs."""
        self._begin()  # or another session takes the same number
        seq = int(self.meta("seq") or 0) + 1
        self.set_meta("seq", str(seq))
        return seq

    def count(self, table: "str") -> "int":
        """Return how many rows a table has."""
        return int(self.execute("SELECT count(*) FROM %s" % table).fetchone()[0])

    @staticmethod
    def where(conditions: "Iterable[tuple[str, Column]]") -> "tuple[str, list[Column]]":
        """Return the WHERE clause of those (condition, value) that have a value, and the values."""
        given = [(condition, value) for condition, value in conditions if value]
        clause = " WHERE " + " AND ".join(condition for condition, _ in given) if given else ""
        return clause, [value for _, value in given]

    def commit(self) -> "None":
        """Make what was written durable: against a kill always, against a power cut when something changed."""
        if not self._dirty:
            return
        self.before_commit()
        self.execute("COMMIT")
        self._dirty = False
        if self._changed and self.path is not None and not (self._logged and _sync_log(self.path + "-wal")):
            self.execute("PRAGMA synchronous=FULL")  # a checkpoint in FULL mode syncs the log, then the file
            self.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self.execute("PRAGMA synchronous=NORMAL")
            self._logged = True
        self._changed = False

    def abandon(self) -> "None":
        """Undo what was written since the last commit()."""
        if self._db.in_transaction:
            self.execute("ROLLBACK")
        self._dirty = self._changed = False

    def close(self) -> "None":
        try:
            self.commit()
        finally:
            self._db.close()

    def integrity(self) -> "list[str]":
        """Return what SQLite finds wrong with the file, a list of str; [] when it is sound."""
        found = [row[0] for row in self.execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def vacuum(self) -> "int":
        """Give unused space back to the file system; return the bytes that were freed."""
        self.commit()
        before = self.size()
        self.execute("VACUUM")
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return max(0, before - self.size())

    def size(self) -> "int":
        """Bytes of the file and its log."""
        names = [self.path, self.path + "-wal"] if self.path else []
        return sum(os.path.getsize(name) for name in names if os.path.exists(name))


def _patiently(work: "Callable[[], T]") -> "T":
    """Return what work() returns, trying again while another process has the file.

    SQLite itself does not wait when that opens or closes it at this moment, as the sessions of a run on one host may.
    """
    try:
        return work()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.02)


def _create(path: "str") -> "None":
    """Create the file where there is none. Raises StoreError.

    One that is there is not opened: to close it would give up the locks of this process's other connections (POSIX).
    """
    make_private_directory(os.path.dirname(path))
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        try:
            os.close(os.open(path, flags | os.O_EXCL, 0o600))
        except FileExistsError:
            if not os.path.islink(path) and not stat.S_ISREG(os.lstat(path).st_mode):
                raise OSError(errno.ENXIO, "it is not a regular file")
            if os.path.islink(path) or not os.access(path, os.R_OK | os.W_OK):  # the error of opening it says why
                os.close(os.open(path, flags, 0o600))
    except OSError as error:
        raise unusable("the state file %s cannot be opened" % path, error)


def _open_as_it_is(path: "str") -> "sqlite3.Connection | None":
    """Open a file without the index of its log, for which a full disk has no space; None if it has a log."""
    if os.path.exists(path + "-wal") and os.path.getsize(path + "-wal"):
        return None
    name = "".join("%%%02x" % byte if byte in b"%?#" or byte > 126 else chr(byte) for byte in os.fsencode(path))
    return sqlite3.connect("file:%s?immutable=1" % name, uri=True, isolation_level=None, check_same_thread=False)


def _explained(error: "Exception", path: "str | None") -> "StoreError":
    text = str(error)
    if "malformed" in text or "not a database" in text or "no such table" in text or "no such column" in text:
        return StoreError(
            "the state file %s is damaged (%s)" % (path, text),
            hint="the next run sets it aside and adopts what it finds; or bring back an export",
            damaged=True,
        )
    # Of a full disk SQLite reports many things: its log cannot be created, or cannot be mapped.
    if "full" in text or (path and ("I/O" in text or "unable to open" in text) and _is_full(path)):
        what = "no space left for the state file %s" % path
        return StoreError(what, hint="free some space on the host", unwritable=True)
    if "readonly" in text:
        return StoreError("the state file %s may not be written" % path, hint="look at its owner and mode")
    return StoreError("the state file %s cannot be used: %s" % (path, text))


def _sync_log(path: "str") -> "bool":
    """Sync the log, as a commit in FULL mode would; return whether there is one. SQLite locks other files than this."""
    try:
        log = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.fsync(log)
    except OSError as error:
        raise unusable("the state's log %s cannot be written" % path, error)
    finally:
        os.close(log)
    return True


def _nothing() -> "None":
    pass


def set_aside(path: "str") -> "str":
    """Rename a damaged state file (and its log) out of the way, never delete it; return its new path."""
    new = "%s.damaged-%s" % (path, time.strftime("%Y%m%d-%H%M%S"))
    number = 1
    while os.path.lexists(new):
        number += 1
        new = "%s.damaged-%s-%d" % (path, time.strftime("%Y%m%d-%H%M%S"), number)
    try:
        os.rename(path, new)
        for end in ("-wal", "-shm"):
            if os.path.lexists(path + end):
                os.rename(path + end, new + end)
    except OSError as error:
        raise StoreError("the damaged state file %s cannot be set aside: %s" % (path, error.strerror))
    return new


def make_private_directory(path: "str") -> "None":
    """Create `path` and its missing parents with mode 0700; raise StoreError when that cannot be."""
    try:
        os.makedirs(path, mode=0o700)
    except OSError as error:
        if not os.path.isdir(path):
            raise unusable("the directory %s cannot be made" % path, error)


def unusable(what: "str", error: "OSError") -> "StoreError":
    """Return the error that `what` failed because of an OSError, and what helps."""
    hint = ""
    is_unwritable = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    if is_unwritable:
        hint = "free some space on the host" if error.errno != errno.EROFS else "its file system is read-only"
    elif error.errno in (errno.EACCES, errno.EPERM):
        hint = "look at its owner and mode"
    elif error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENOTDIR):
        hint = "look at what it is, and remove it on the host"
    return StoreError("%s: %s" % (what, error.strerror or error), hint=hint, unwritable=is_unwritable)


def _is_full(path: "str") -> "bool":
    """Return whether the file system of a file has no blocks or no inodes left."""
    try:
        info = os.statvfs(os.path.dirname(path))
    except OSError:
        return False
    free = info.f_bfree if os.geteuid() == 0 else info.f_bavail
    return free * info.f_frsize < SMALLEST or (info.f_files > 0 and info.f_ffree == 0)


def _random() -> "str":
    return os.urandom(16).hex()
