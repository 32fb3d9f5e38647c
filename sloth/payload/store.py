"""The host's memory: one SQLite file per agent that knows what we applied, when, and why it changed.

Only SQL of SQLite 3.7 is used (old hosts). Times are epoch integers (seconds). The controller reads the same file
format for the agent `local`, and keeps its replicas in it.
"""

import hashlib
import hmac
import json
import os
import sqlite3
import time

VERSION = 1  # PRAGMA user_version; MIGRATIONS[n] leads from version n to n + 1
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
)
COLUMNS = (
    "key", "module", "type", "id", "checksum", "desired", "observed", "site", "task", "place",
    "created_at", "changed_at", "checked_at", "run", "seq",
)  # fmt: skip
BUSY_SECONDS = 30
SETTLED_NS = 50 * 1000 * 1000  # a file younger than this may change again without a new timestamp


class StoreError(Exception):
    """The state file cannot be used; `hint` says what to do."""

    def __init__(self, message, hint=""):
        Exception.__init__(self, message)
        self.message = message
        self.hint = hint


def canonical(value):
    """Return the canonical JSON text of plain data: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


class Store(object):
    """One agent's state file. Nothing is durable before commit()."""

    def __init__(self, path, readonly=False):
        """Open (and create, unless `readonly`) the file at `path`; None: in memory. Raises StoreError."""
        self.path = path
        self.readonly = readonly
        self.merged = {}  # the kernel's: key -> what calls of this run have asked of one resource together
        self._dirty = False
        self._changed = False
        try:
            self._db = self._connect(path, readonly)
            self._migrate()
        except sqlite3.Error as error:
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
        if readonly:
            db.execute("PRAGMA query_only=1")
        else:
            db.execute("PRAGMA journal_mode=WAL")  # answers another mode where WAL cannot work (network file systems)
            db.execute("PRAGMA synchronous=NORMAL")
        return db

    def _migrate(self):
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StoreError(
                "the state file %s has format %d, and this sloth-runner knows up to %d" % (self.path, version, VERSION),
                hint="upgrade sloth-runner on the controller",
            )
        if version == VERSION:
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
            self._db.execute("ROLLBACK")
            raise

    def _explain(self, error):
        text = str(error)
        if "malformed" in text or "not a database" in text:
            return StoreError(
                "the state file %s is damaged (%s)" % (self.path, text),
                hint="move it away: the next run adopts what it finds",
            )
        if "full" in text:
            return StoreError("no space left for the state file %s" % self.path, hint="free some space on the host")
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
        self._execute("COMMIT")
        self._dirty = False
        if self._changed and self.path is not None:
            self._execute("PRAGMA synchronous=FULL")  # a checkpoint in FULL mode syncs the log, then the file
            self._execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._execute("PRAGMA synchronous=NORMAL")
        self._changed = False

    def close(self):
        self.commit()
        self._db.close()

    # Resources

    def get(self, key):
        """Return the record of `key` as a dict of COLUMNS (desired, observed decoded), or None."""
        row = self._execute("SELECT %s FROM resources WHERE key=?" % ",".join(COLUMNS), (key,)).fetchone()
        return _row(row) if row else None

    def _next_seq(self):
        seq = int(self.meta("seq")) + 1
        self.set_meta("seq", str(seq))
        return seq

    def record(self, key, checksum, desired, observed, changed, run="", site="", task="", place=""):
        """Remember that `key` is as desired. A record that stays the same gets a new checked_at only."""
        now = int(time.time())
        old = self.get(key)
        if (
            old
            and not changed
            and old["checksum"] == checksum
            and old["observed"] == observed
            and old["desired"] == desired
            and (old["site"], old["task"]) == (site, task)
        ):
            self._write("UPDATE resources SET checked_at=?, place=? WHERE key=?", (now, place, key), changed=False)
            return
        module, _, rest = key.partition(":")
        kind, _, name = rest.partition(":")
        self._write(
            "INSERT OR REPLACE INTO resources (%s) VALUES (%s)" % (",".join(COLUMNS), ",".join("?" * len(COLUMNS))),
            (
                key, module, kind, name, checksum, canonical(desired), canonical(observed), site, task, place,
                old["created_at"] if old else now,
                now if changed or not old else old["changed_at"],
                now, run, self._next_seq(),
            ),
        )  # fmt: skip
        self._write("DELETE FROM gone WHERE key=?", (key,))

    def remember(self, key, reason, before, after, diff, run="", site="", task="", who="", origin=""):
        """Add a row of history: `key` changed from `before` to `after` (plain data)."""
        self._write(
            "INSERT INTO history (key, at, run, reason, before, after, diff, site, task, who, origin)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key, int(time.time()), run, reason, canonical(before), canonical(after), canonical(diff),
                site, task, who, origin,
            ),
        )  # fmt: skip

    def forget(self, key):
        """Delete the record of `key`; return whether there was one."""
        if self._write("DELETE FROM resources WHERE key=?", (key,)).rowcount == 0:
            return False
        self._write("INSERT OR REPLACE INTO gone VALUES (?, ?)", (key, self._next_seq()))
        return True

    def clear(self):
        """Delete every record; return how many there were. History stays."""
        count = self._execute("SELECT count(*) FROM resources").fetchone()[0]
        seq = self._next_seq()
        self._write("INSERT OR REPLACE INTO gone SELECT key, ? FROM resources", (seq,))
        self._write("DELETE FROM resources")
        self._write("DELETE FROM signatures")
        return count

    def list(self, module=None, type=None):
        """Return records as dicts, sorted by key; `module` and `type` narrow them."""
        where, values = [], []
        for column, value in (("module", module), ("type", type)):
            if value:
                where.append("%s=?" % column)
                values.append(value)
        statement = "SELECT %s FROM resources%s ORDER BY key" % (
            ",".join(COLUMNS),
            " WHERE " + " AND ".join(where) if where else "",
        )
        return [_row(row) for row in self._execute(statement, values)]

    def match(self, spec):
        """Return the keys that `spec` may mean: the exact key, else all of the same module and id (user:john)."""
        if self.get(spec):
            return [spec]
        module, _, name = spec.partition(":")
        rows = self._execute("SELECT key FROM resources WHERE module=? AND id=? ORDER BY key", (module, name))
        return [row[0] for row in rows]

    def history(self, key=None, limit=100, run=None):
        """Return the newest `limit` rows of history (of `key`, of `run`) as dicts, newest first."""
        names = ("id", "key", "at", "run", "reason", "before", "after", "diff", "site", "task", "who", "origin")
        where, values = [], []
        for column, value in (("key", key), ("run", run)):
            if value:
                where.append("%s=?" % column)
                values.append(value)
        statement = "SELECT %s FROM history%s ORDER BY id DESC LIMIT ?" % (
            ",".join(names),
            " WHERE " + " AND ".join(where) if where else "",
        )
        rows = self._execute(statement, values + [limit])
        return [
            dict((name, json.loads(value) if name in _JSON and value else value) for name, value in zip(names, row))
            for row in rows
        ]

    def stats(self):
        """Return counts (resources, by module and type, history, runs), times and the file's size in bytes."""
        types = self._execute("SELECT module || ':' || type, count(*) FROM resources GROUP BY 1 ORDER BY 1")
        first, last, checked = self._execute(
            "SELECT min(created_at), max(changed_at), max(checked_at) FROM resources"
        ).fetchone()
        return {
            "path": self.path or "",
            "size": os.path.getsize(self.path) if self.path else 0,
            "version": VERSION,
            "resources": self._execute("SELECT count(*) FROM resources").fetchone()[0],
            "types": dict(types.fetchall()),
            "history": self._execute("SELECT count(*) FROM history").fetchone()[0],
            "runs": self._execute("SELECT count(*) FROM runs").fetchone()[0],
            "first_created_at": first,
            "last_changed_at": last,
            "last_checked_at": checked,
        }

    # Runs

    def begin_run(self, run, site, who, origin):
        self._write(
            "INSERT OR REPLACE INTO runs (run, site, who, origin, started) VALUES (?, ?, ?, ?, ?)",
            (run, site, who, origin, int(time.time())),
            changed=False,
        )

    def end_run(self, run):
        self._write("UPDATE runs SET finished=? WHERE run=?", (int(time.time()), run), changed=False)

    # Secrets

    def keyed_hash(self, value):
        """Return what stands for a secret value: an HMAC with a key that never leaves this file."""
        key = bytes.fromhex(self.meta("secret_key"))
        return {"secret": hmac.new(key, canonical(value).encode("ascii"), hashlib.sha256).hexdigest()}

    # Replica

    def changes_since(self, replica):
        """Return {"id", "seq", "rows", "gone", "whole"}: what a replica {"id", "seq"} (or None) lacks."""
        mine, seq = self.meta("id"), int(self.meta("seq"))
        since = (replica or {}).get("seq", 0)
        whole = not replica or replica.get("id") != mine or since > seq
        if whole:
            since = 0
        rows = self._execute("SELECT %s FROM resources WHERE seq>? ORDER BY seq" % ",".join(COLUMNS), (since,))
        gone = [] if whole else self._execute("SELECT key FROM gone WHERE seq>?", (since,)).fetchall()
        return {
            "id": mine,
            "seq": seq,
            "rows": [_row(row) for row in rows],
            "gone": [row[0] for row in gone],
            "whole": whole,
        }

    def absorb(self, changes):
        """Bring this replica up to what changes_since() of the original said; commits."""
        if changes["whole"]:
            self._write("DELETE FROM resources")
        for row in changes["rows"]:
            values = [canonical(row[name]) if name in _JSON else row[name] for name in COLUMNS]
            self._write(
                "INSERT OR REPLACE INTO resources (%s) VALUES (%s)" % (",".join(COLUMNS), ",".join("?" * len(COLUMNS))),
                values,
            )
        for key in changes["gone"]:
            self._write("DELETE FROM resources WHERE key=?", (key,))
        self.set_meta("id", changes["id"])
        self.set_meta("seq", str(changes["seq"]))
        self.commit()


class Signatures(object):
    """Hashes of files by (device, inode, size, mtime, ctime): a file that did not change is not read again."""

    def __init__(self, store):
        self._store = store

    def get(self, path, info):
        """Return the SHA-256 that `path`, whose os.stat() is `info`, had when it was last hashed, or None."""
        row = self._store._execute(
            "SELECT sha256, device, inode, size, mtime_ns, ctime_ns FROM signatures WHERE path=?", (path,)
        ).fetchone()
        return row[0] if row and tuple(row[1:]) == _signature(info) else None

    def put(self, path, info, sha256, ours=False):
        """Remember a hash. `info` was taken before the file was read (or, for our own write, after the rename).

        A file changed so lately that a second change could carry the same time stamp is not remembered, unless it is
        our own and large: then the next run would pay for reading it.
        """
        fresh = time.time() * 1e9 - info.st_ctime_ns < SETTLED_NS
        if self._store.readonly or (fresh and not (ours and info.st_size > 1024 * 1024)):
            return
        self._store._write(
            "INSERT OR REPLACE INTO signatures VALUES (?, ?, ?, ?, ?, ?, ?)",
            (path,) + _signature(info) + (sha256,),
            changed=False,
        )


def make_private_directory(path):
    """Create `path` and its missing parents with mode 0700; raise StoreError when that cannot be."""
    try:
        os.makedirs(path, mode=0o700)
    except OSError as error:
        if not os.path.isdir(path):
            raise StoreError("the directory %s cannot be made: %s" % (path, error.strerror or error))


_JSON = ("desired", "observed", "before", "after", "diff")


def _row(row):
    return dict(
        (name, json.loads(value) if name in _JSON and value is not None else value) for name, value in zip(COLUMNS, row)
    )


def _signature(info):
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _random():
    return os.urandom(16).hex()
