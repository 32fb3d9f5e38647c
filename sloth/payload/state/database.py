"""The SQLite file below a Store: opened safely, migrated, committed durably, set aside when it is damaged."""

# Without the package, whose dates no state has: that is a millisecond of every start.
import _sqlite3 as sqlite3
import os
import time

VERSION = 2  # PRAGMA user_version; MIGRATIONS[n] leads from version n to n + 1
MIGRATIONS = (
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        "CREATE TABLE resources (key TEXT PRIMARY KEY, module TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,"
        " checksum TEXT NOT NULL, desired TEXT, observed TEXT, site TEXT, task TEXT, place TEXT,"
        " created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, checked_at INTEGER NOT NULL,"
        " run TEXT, seq INTEGER NOT NULL)",
        "CREATE INDEX resources_by_type ON resources (module, type)",
        "CREATE INDEX resources_by_seq ON resources (seq)",
        "CREATE TABLE gone (key TEXT PRIMARY KEY, seq INTEGER NOT NULL)",
        "CREATE TABLE history (id INTEGER PRIMARY KEY, key TEXT NOT NULL, at INTEGER NOT NULL, run TEXT,"
        " reason TEXT NOT NULL, before TEXT, after TEXT, diff TEXT, site TEXT, task TEXT, who TEXT, origin TEXT)",
        "CREATE INDEX history_by_key ON history (key, at)",
        "CREATE INDEX history_by_run ON history (run)",
        "CREATE TABLE runs (run TEXT PRIMARY KEY, site TEXT, who TEXT, origin TEXT, started INTEGER NOT NULL,"
        " finished INTEGER)",
        "CREATE TABLE signatures (path TEXT PRIMARY KEY, device INTEGER, inode INTEGER, size INTEGER,"
        " mtime_ns INTEGER, ctime_ns INTEGER, sha256 TEXT NOT NULL)",
    ),
    (
        # calls: what was asked, so that it can be looked at, removed and restored without the site.
        # made: what was there before our first change, JSON; SQL NULL when we changed nothing yet.
        "ALTER TABLE resources ADD COLUMN calls TEXT",
        "ALTER TABLE resources ADD COLUMN made TEXT",
        "ALTER TABLE resources ADD COLUMN orphaned INTEGER",
        "ALTER TABLE history ADD COLUMN call TEXT",
        "ALTER TABLE history ADD COLUMN was TEXT",  # the record as it was before the change
        "CREATE TABLE handlers (site TEXT NOT NULL, name TEXT NOT NULL, since INTEGER NOT NULL, run TEXT, task TEXT,"
        " key TEXT, PRIMARY KEY (site, name))",
        "CREATE TABLE contents (sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, stored INTEGER NOT NULL,"
        " kept_at INTEGER NOT NULL)",
        "CREATE INDEX contents_by_age ON contents (kept_at)",
        "CREATE TABLE pieces (sha256 TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,"
        " PRIMARY KEY (sha256, number))",
    ),
)
BUSY_SECONDS = 30


class StoreError(Exception):
    """The state file cannot be used; `hint` says what to do, `damaged` (bool) that it is no sound database."""

    def __init__(self, message, hint="", damaged=False):
        Exception.__init__(self, message)
        self.message = message
        self.hint = hint
        self.damaged = damaged


class Database(object):
    """One state file. Nothing is durable before commit()."""

    def __init__(self, path, readonly=False):
        """Open (and create, unless `readonly`) the file at `path`; None: in memory. Raises StoreError.

        A damaged file that is to be written is set aside, and a new one begun; `aside` is then its new path.
        """
        self.path = path
        self.readonly = readonly
        self.aside = None
        self.before_commit = lambda: None  # what records tell of is made durable before they are
        self._dirty = False
        self._changed = False
        self._logged = False  # whether the log's own name is durable
        self._db = None
        try:
            self._open(path, readonly)
        except StoreError as error:
            if not error.damaged or readonly:
                raise
            self.aside = set_aside(path)
            self._open(path, readonly)

    def _open(self, path, readonly):
        try:
            self._db = self._connect(path, readonly)
            self._migrate()
        except sqlite3.Error as error:
            if self._db is not None:
                self._db.close()
            raise self._explain(error)

    def _connect(self, path, readonly):
        if path is None or (readonly and not os.path.exists(path)):
            self.path = None
            return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if not readonly:
            make_private_directory(os.path.dirname(path))
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise StoreError("the state file %s cannot be opened: %s" % (path, error.strerror))
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            if readonly:
                db.execute("PRAGMA query_only=1")
            else:
                db.execute(
                    "PRAGMA journal_mode=WAL"
                )  # answers another mode where WAL cannot work (network file systems)
                db.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _migrate(self):
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
            for statements in MIGRATIONS[version:]:
                for statement in statements:
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

    def _explain(self, error):
        text = str(error)
        if "malformed" in text or "not a database" in text or "no such table" in text:
            return StoreError(
                "the state file %s is damaged (%s)" % (self.path, text),
                hint="the next run sets it aside and adopts what it finds; or bring back an export",
                damaged=True,
            )
        if "full" in text:
            return StoreError("no space left for the state file %s" % self.path, hint="free some space on the host")
        if "readonly" in text:
            return StoreError("the state file %s may not be written" % self.path, hint="look at its owner and mode")
        return StoreError("the state file %s cannot be used: %s" % (self.path, text))

    def _execute(self, statement, values=()):
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise self._explain(error)

    def _write(self, statement, values=(), changed=True):
        if not self._dirty:
            self._execute("BEGIN IMMEDIATE")
            self._dirty = True
        self._changed = self._changed or changed
        return self._execute(statement, values)

    def meta(self, name):
        row = self._execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return row[0] if row else None

    def set_meta(self, name, value):
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def commit(self):
        """Make what was written durable: against a kill always, against a power cut when something changed."""
        if not self._dirty:
            return
        self.before_commit()
        self._execute("COMMIT")
        self._dirty = False
        if self._changed and self.path is not None and not (self._logged and self._sync_log()):
            self._execute("PRAGMA synchronous=FULL")  # a checkpoint in FULL mode syncs the log, then the file
            self._execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._execute("PRAGMA synchronous=NORMAL")
            self._logged = True
        self._changed = False

    def _sync_log(self):
        """Sync the log, as a commit in FULL mode would; whether there is one. SQLite locks other files than this."""
        try:
            log = os.open(self.path + "-wal", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.fsync(log)
        finally:
            os.close(log)
        return True

    def abandon(self):
        """Undo what was written since the last commit()."""
        if self._db.in_transaction:
            self._execute("ROLLBACK")
        self._dirty = self._changed = False

    def close(self):
        try:
            self.commit()
        finally:
            self._db.close()

    def integrity(self):
        """Return what SQLite finds wrong with the file, a list of str; [] when it is sound."""
        found = [row[0] for row in self._execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def vacuum(self):
        """Give unused space back to the file system; return the bytes that were freed."""
        self.commit()
        before = self.size()
        self._execute("VACUUM")
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return max(0, before - self.size())

    def size(self):
        """Bytes of the file and its log."""
        names = [self.path, self.path + "-wal"] if self.path else []
        return sum(os.path.getsize(name) for name in names if os.path.exists(name))


def set_aside(path):
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


def make_private_directory(path):
    """Create `path` and its missing parents with mode 0700; raise StoreError when that cannot be."""
    try:
        os.makedirs(path, mode=0o700)
    except OSError as error:
        if not os.path.isdir(path):
            raise StoreError("the directory %s cannot be made: %s" % (path, error.strerror or error))


def _random():
    return os.urandom(16).hex()
