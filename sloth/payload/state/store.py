"""The host's memory: one SQLite file per agent that knows what we applied, when, and why it changed.

All tables that one transaction touches are written here, and so is their SQL; how the file is opened is database.py's,
contents and whole exports have rooms of their own.

Only SQL of SQLite 3.7 is used (old hosts). Times are epoch integers (seconds). The controller reads the same file
format for the agent `local`, and keeps its replicas in it.
"""

import json
import time

from sloth.payload.kernel.redact import Mask
from sloth.payload.state.blobs import Contents
from sloth.payload.state.database import VERSION, Database, StoreError, make_private_directory

COLUMNS = (
    "key", "module", "type", "id", "checksum", "desired", "observed", "site", "task", "place",
    "created_at", "changed_at", "checked_at", "run", "seq", "calls", "made", "orphaned",
)  # fmt: skip
CHANGE = (
    "id", "key", "at", "run", "reason", "before", "after", "diff", "site", "task", "who", "origin", "call", "was",
)  # fmt: skip
RUN = ("run", "site", "who", "origin", "started", "finished")
HANDLER = ("site", "name", "since", "run", "task", "key")
FORMER = ("checksum", "desired", "observed", "site", "task", "place", "calls", "made", "created_at")
SETTLED_NS = 50 * 1000 * 1000  # a file younger than this may change again without a new timestamp

__all__ = ("Signatures", "Store", "StoreError", "canonical", "make_private_directory")


def canonical(value):
    """Return the canonical JSON text of plain data: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


class Store(Database):
    """One agent's state. Nothing is durable before commit()."""

    def __init__(self, path, readonly=False):
        self.merged = {}  # the kernel's: key -> what calls of this run have asked of one resource together
        self.mask = Mask()  # of the secrets that this run has told us
        Database.__init__(self, path, readonly)
        self.contents = Contents(self)

    # Resources

    def look_up(self, key):
        """Return the record of `key` as a dict of COLUMNS, JSON as text, or None."""
        row = self._execute("SELECT %s FROM resources WHERE key=?" % ",".join(COLUMNS), (key,)).fetchone()
        return dict(zip(COLUMNS, row)) if row else None

    def get(self, key):
        """Return the record of `key` as a dict of COLUMNS (those that are JSON decoded), or None."""
        record = self.look_up(key)
        return _decoded(record) if record else None

    def _next_seq(self):
        seq = int(self.meta("seq")) + 1
        self.set_meta("seq", str(seq))
        return seq

    def record(
        self, key, checksum, desired, observed, changed, run="", site="", task="", place="", calls=None, made=None
    ):
        """Remember that `key` is as desired. A record that stays the same gets a new checked_at only.

        calls: what was asked for, a list of dicts; made: (what was there before the first change,) or None.
        """
        now = int(time.time())
        old = self.look_up(key)
        texts = [canonical(self.mask.data(value)) for value in (desired, observed)]
        asked = None if calls is None else canonical(calls)
        if old and not changed:
            same = [old[name] for name in ("checksum", "desired", "observed", "site", "task", "calls", "orphaned")]
            if same == [checksum] + texts + [site, task, asked, None]:
                self._write("UPDATE resources SET checked_at=?, place=? WHERE key=?", (now, place, key), changed=False)
                return
        first = None if made is None else canonical(self.mask.data(made[0]))
        module, kind, name = _parts(key)
        self._put(
            (
                key, module, kind, name, checksum, texts[0], texts[1], site, task, place,
                old["created_at"] if old else now,
                now if changed or not old else old["changed_at"],
                now, run, self._next_seq(), asked, old["made"] if old else first, None,
            )
        )  # fmt: skip

    def _put(self, values):
        statement = "INSERT OR REPLACE INTO resources (%s) VALUES (%s)"
        self._write(statement % (",".join(COLUMNS), ",".join("?" * len(COLUMNS))), values)
        self._write("DELETE FROM gone WHERE key=?", (values[0],))

    def restore(self, key, was):
        """Make the record of `key` what it was before a change: a dict of FORMER (history's `was`), None: no record."""
        if was is None:
            self.forget(key)
            return
        now = int(time.time())
        module, kind, name = _parts(key)
        record = dict((column, was.get(column)) for column in FORMER)
        for column in ("desired", "observed", "calls"):
            record[column] = None if record[column] is None else canonical(record[column])
        if "made" in was:
            record["made"] = canonical(was["made"])
        record.update(key=key, module=module, type=kind, id=name, changed_at=now, checked_at=now, run="", orphaned=None)
        record["created_at"] = record["created_at"] or now
        record["seq"] = self._next_seq()
        self._put(tuple(record[column] for column in COLUMNS))

    def move(self, old, new):
        """Give the record and history of key `old` the key `new`; return whether there was one."""
        record = self.look_up(old)
        if record is None:
            return False
        if self.look_up(new) is not None:
            raise StoreError("there is a record of %s already" % new, hint="delete it first")
        module, kind, name = _parts(new)
        if not (module and kind and name):
            raise StoreError("a key is module:type:id, and %r is not" % new)
        # What was asked for names the old one; the next run says it anew.
        record.update(key=new, module=module, type=kind, id=name, calls=None, seq=self._next_seq())
        self.forget(old)
        self._put(tuple(record[column] for column in COLUMNS))
        self._write("UPDATE history SET key=? WHERE key=?", (new, old))
        return True

    def forget(self, key):
        """Delete the record of `key`; return whether there was one."""
        if self._write("DELETE FROM resources WHERE key=?", (key,)).rowcount == 0:
            return False
        self._write("INSERT OR REPLACE INTO gone VALUES (?, ?)", (key, self._next_seq()))
        return True

    def clear(self):
        """Delete every record; return how many there were. History stays."""
        count = self._count("resources")
        seq = self._next_seq()
        self._write("INSERT OR REPLACE INTO gone SELECT key, ? FROM resources", (seq,))
        self._write("DELETE FROM resources")
        self._write("DELETE FROM signatures")
        return count

    def list(self, module=None, type=None, orphaned=False):
        """Return records as dicts, sorted by key; `module` and `type` narrow them."""
        where, values = _where((("module=?", module), ("type=?", type)))
        if orphaned:
            where += (" AND" if where else " WHERE") + " orphaned IS NOT NULL"
        statement = "SELECT %s FROM resources%s ORDER BY key" % (",".join(COLUMNS), where)
        return [_row(COLUMNS, row) for row in self._execute(statement, values)]

    def match(self, spec):
        """Return the keys that `spec` may mean: the exact key, else all of the same module and id (user:john)."""
        if self.look_up(spec):
            return [spec]
        module, _, name = spec.partition(":")
        rows = self._execute("SELECT key FROM resources WHERE module=? AND id=? ORDER BY key", (module, name))
        return [row[0] for row in rows]

    def orphans(self, site, touched, spared, mark):
        """Return the records (dicts) of `site` that a whole run of it did not touch; mark: remember that they are.

        touched: set of keys; spared: names of tasks that the site has and that had no reason to run this time.
        """
        rows = self._execute("SELECT key, task, orphaned FROM resources WHERE site=? ORDER BY key", (site,)).fetchall()
        now, found = int(time.time()), []
        for key, task, orphaned in rows:
            if key in touched or task in spared:
                continue
            if mark and orphaned is None:
                values = (now, self._next_seq(), key)
                self._write("UPDATE resources SET orphaned=?, seq=? WHERE key=?", values)
            found.append(key)
        return [self.get(key) for key in found]

    # History

    def remember(self, key, reason, before, after, diff, about, call=None, was=None):
        """Add a row of history: `key` changed from `before` to `after` (plain data).

        about: dict with run, site, task, who, origin; call: what was asked, a dict; was: the record before, as look_up
        gave it.
        """
        former = None
        if was is not None:
            decoded = _decoded(was)
            former = dict((name, decoded[name]) for name in FORMER if name != "made" or was["made"] is not None)
        texts = [canonical(self.mask.data(value)) for value in (before, after, diff)]
        self._write(
            "INSERT INTO history (key, at, run, reason, before, after, diff, site, task, who, origin, call, was)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key, int(time.time()), about.get("run"), reason, texts[0], texts[1], texts[2],
                about.get("site"), about.get("task"), about.get("who"), about.get("origin"),
                None if call is None else canonical(call), canonical(former),
            ),
        )  # fmt: skip

    def history(self, key=None, limit=100, run=None, task=None):
        """Return the newest `limit` rows of history (of `key`, of `run`, of `task`) as dicts, newest first."""
        where, values = _where((("key=?", key), ("run=?", run), ("task=?", task)))
        statement = "SELECT %s FROM history%s ORDER BY id DESC LIMIT ?" % (",".join(CHANGE), where)
        return [_row(CHANGE, row) for row in self._execute(statement, values + [limit])]

    def between(self, first, last):
        """What changed after run `first` ended until run `last` did: dicts of key, before, after, newest state last.

        Raises StoreError when there is no such run.
        """
        times = []
        for run in (first, last):
            found = self.find_run(run)
            times.append(self._execute("SELECT started, rowid FROM runs WHERE run=?", (found,)).fetchone())
        low, high = sorted(times)
        rows = self._execute(
            "SELECT key, before, after FROM history WHERE run IN (SELECT run FROM runs WHERE"
            " (started>? OR (started=? AND rowid>?)) AND (started<? OR (started=? AND rowid<=?))) ORDER BY id",
            (low[0], low[0], low[1], high[0], high[0], high[1]),
        )
        found = {}
        for key, before, after in rows:
            entry = found.setdefault(key, {"key": key, "before": json.loads(before or "null")})
            entry["after"] = json.loads(after or "null")
        return [found[key] for key in sorted(found) if found[key]["before"] != found[key]["after"]]

    def drop_history(self, older):
        """Delete history and runs from before the epoch time `older`; return how many changes went."""
        gone = self._write("DELETE FROM history WHERE at<?", (older,)).rowcount
        self._write("DELETE FROM runs WHERE started<?", (older,))
        return gone

    # Runs

    def begin_run(self, run, site, who, origin):
        self._write(
            "INSERT OR REPLACE INTO runs (run, site, who, origin, started) VALUES (?, ?, ?, ?, ?)",
            (run, site, who, origin, int(time.time())),
            changed=False,
        )

    def end_run(self, run):
        self._write("UPDATE runs SET finished=? WHERE run=?", (int(time.time()), run), changed=False)

    def find_run(self, name):
        """Return the id of the run `name` (its beginning is enough, "last" is the newest) or raise StoreError."""
        if name == "last":
            newest = self.runs(1)
            if newest:
                return newest[0]["run"]
        rows = self._execute("SELECT run FROM runs WHERE substr(run, 1, ?)=?", (len(name), name)).fetchall()
        if (name,) in rows or len(rows) == 1:
            return name if (name,) in rows else rows[0][0]
        if rows:
            found = ", ".join(row[0] for row in rows[:5])
            raise StoreError("%s may be any of %s" % (name, found), hint="give more of it")
        raise StoreError("there is no run %s" % name, hint="sloth-runner runs list --agent NAME shows them")

    def runs(self, limit=50):
        """Return the newest runs as dicts of RUN and changes (int), newest first."""
        statement = "SELECT %s, (SELECT count(*) FROM history WHERE history.run=runs.run) FROM runs"
        rows = self._execute(statement % ",".join(RUN) + " ORDER BY started DESC, rowid DESC LIMIT ?", (limit,))
        return [dict(zip(RUN + ("changes",), row)) for row in rows]

    # Handlers

    def notify(self, names, about, key):
        """Remember that these handlers must run; return those that were not yet to run."""
        fresh = []
        for name in names:
            if not self._execute(
                "SELECT 1 FROM handlers WHERE site=? AND name=?", (about.get("site"), name)
            ).fetchone():
                values = (about.get("site"), name, int(time.time()), about.get("run"), about.get("task"), key)
                self._write("INSERT INTO handlers VALUES (?, ?, ?, ?, ?, ?)", values)
                fresh.append(name)
        return fresh

    def settle(self, site, names):
        """These handlers have run, or need not."""
        for name in names:
            self._write("DELETE FROM handlers WHERE site=? AND name=?", (site, name))

    def handlers(self, site=None):
        """Return the handlers (of a site) that must still run, as dicts of HANDLER, oldest first."""
        where, values = _where((("site=?", site),))
        statement = "SELECT %s FROM handlers%s ORDER BY since, name" % (",".join(HANDLER), where)
        return [dict(zip(HANDLER, row)) for row in self._execute(statement, values)]

    # The whole

    def _count(self, table):
        return self._execute("SELECT count(*) FROM %s" % table).fetchone()[0]

    def stats(self):
        """Return counts (resources, by module and type, history, runs), times and the file's size in bytes."""
        types = self._execute("SELECT module || ':' || type, count(*) FROM resources GROUP BY 1 ORDER BY 1")
        first, last, checked = self._execute(
            "SELECT min(created_at), max(changed_at), max(checked_at) FROM resources"
        ).fetchone()
        kept = self._execute("SELECT count(*), coalesce(sum(stored), 0) FROM contents").fetchone()
        return {
            "path": self.path or "",
            "size": self.size(),
            "version": VERSION,
            "resources": self._count("resources"),
            "types": dict(types.fetchall()),
            "orphaned": self._execute("SELECT count(*) FROM resources WHERE orphaned IS NOT NULL").fetchone()[0],
            "handlers": self._count("handlers"),
            "history": self._count("history"),
            "runs": self._count("runs"),
            "contents": kept[0],
            "contents_size": kept[1],
            "first_created_at": first,
            "last_changed_at": last,
            "last_checked_at": checked,
        }

    # Secrets

    def keyed_hash(self, value):
        """Return what stands for a secret value: an HMAC with a key that never leaves this file."""
        import hashlib
        import hmac

        key = bytes.fromhex(self.meta("secret_key"))
        return {"secret": hmac.new(key, canonical(value).encode("ascii"), hashlib.sha256).hexdigest()}

    def sealed_key(self, key):
        """Return a state key without the secrets in it, still told apart from others that look the same then."""
        shown = self.mask.text(key)
        return key if shown == key else "%s~%s" % (shown, self.keyed_hash(key)["secret"][:8])

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
            "rows": [dict(zip(COLUMNS, row)) for row in rows],
            "gone": [row[0] for row in gone],
            "whole": whole,
        }

    def absorb(self, changes):
        """Bring this replica up to what changes_since() of the original said; commits."""
        if changes["whole"]:
            self._write("DELETE FROM resources")
        for row in changes["rows"]:
            _decoded(row)  # what a host sends must at least be what it should be
            self._put(tuple(row[name] for name in COLUMNS))
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


_JSON = ("desired", "observed", "calls", "before", "after", "diff", "call", "was")


def _parts(key):
    module, _, rest = key.partition(":")
    kind, _, name = rest.partition(":")
    return module, kind, name


def _where(conditions):
    """The WHERE clause of those (condition, value) whose value is given, and the values."""
    given = [(condition, value) for condition, value in conditions if value]
    clause = " WHERE " + " AND ".join(condition for condition, _ in given) if given else ""
    return clause, [value for _, value in given]


def _decoded(record):
    """A row (dict) with what is JSON decoded. `made` becomes a list of what was there before, or None."""
    decoded = dict(
        (name, json.loads(value) if name in _JSON and value is not None else value) for name, value in record.items()
    )
    if record.get("made") is not None:
        decoded["made"] = json.loads(record["made"])
        decoded["ours"] = True
    elif "made" in record:
        decoded["ours"] = False
    return decoded


def _row(columns, row):
    return _decoded(dict(zip(columns, row)))


def _signature(info):
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
