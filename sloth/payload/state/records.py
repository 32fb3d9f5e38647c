"""The records of what is managed: one row a resource, written only when something about it changed."""

import time

from sloth.payload.kernel import plain_json
from sloth.payload.kernel.errors import StoreError
from sloth.payload.kernel.hashing import canonical
from sloth.payload.kernel.record import Record
from sloth.payload.state.claims import NOBODY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Collection

    from sloth.payload.kernel.record import Context
    from sloth.payload.kernel.redact import Redacted
    from sloth.payload.kernel.values import JsonObject
    from sloth.payload.state.claims import Claims
    from sloth.payload.state.database import Database

_SELECT = "SELECT %s FROM resources" % ",".join(Record.COLUMNS)


class Records(object):
    """The table `resources` and, for replicas, that of keys which were removed from it."""

    def __init__(self, database: "Database", claims: "Claims") -> "None":
        self._db = database
        self._claims = claims

    def get(self, key: "str") -> "Record | None":
        """Return the record of `key`."""
        row = self._db.execute(_SELECT + " WHERE key=?", (key,)).fetchone()
        return Record(row) if row else None

    def select(
        self, module: "str | None" = None, type: "str | None" = None, orphaned: "bool" = False
    ) -> "list[Record]":
        """Return the records, sorted by key; `module` and `type` narrow them."""
        where, values = self._db.where((("module=?", module), ("type=?", type)))
        if orphaned:
            where += (" AND" if where else " WHERE") + " orphaned IS NOT NULL AND superseded_by IS NULL"
        return [Record(row) for row in self._db.execute("%s%s ORDER BY key" % (_SELECT, where), values)]

    def unclaimed(self) -> "list[Record]":
        """Return the records of which it is not recorded what they claim."""
        rows = self._db.execute(_SELECT + " WHERE NOT EXISTS (SELECT 1 FROM claims WHERE claims.key=resources.key)")
        return [Record(row) for row in rows.fetchall()]

    def match(self, spec: "str") -> "list[str]":
        """Return the keys that `spec` may mean: the exact key, else all of the same module and id (user:john)."""
        if self.get(spec):
            return [spec]
        module, _, name = spec.partition(":")
        rows = self._db.execute("SELECT key FROM resources WHERE module=? AND id=? ORDER BY key", (module, name))
        return [row[0] for row in rows]

    def remember(
        self,
        key: "str",
        checksum: "str",
        desired: "Redacted",
        observed: "Redacted",
        changed: "bool",
        context: "Context",
        calls: "str | None",
        first: "str | None",
        old: "Record | None",
    ) -> "None":
        """Record that `key` is as desired. A record that stays the same gets a new checked_at only.

        calls: JSON of the RecordedCalls; first: JSON of what was there before the first change, if this is a
        new record of something that we have changed; old: what get() returned.
        """
        now = int(time.time())
        if old is not None and not changed:
            same = (old.checksum, old.desired_json, old.observed_json, old.site, old.task, old.calls_json)
            if old.is_active and same == (checksum, desired.json, observed.json, context.site, context.task, calls):
                statement = "UPDATE resources SET checked_at=?, place=? WHERE key=?"
                self._db.write(statement, (now, context.where, key), changed=False)
                return
        self._put(
            Record(
                (
                    key, *_parts(key), checksum, desired.json, observed.json,
                    context.site, context.task, context.where,
                    old.created_at if old else now, now if changed or not old else old.changed_at, now,
                    context.run, self._db.next_seq(), calls, old.first_json if old else first, None, None,
                    _other_sites(old, context.site) if old else None,
                )
            )
        )  # fmt: skip

    def put_row(self, row: "JsonObject") -> "None":
        """Write a row of another state file (its columns by name). Raises KeyError, ValueError when it is none."""
        later = (row.get("superseded_by"), row.get("other_sites"))  # since format 3
        record = Record(tuple(row[name] for name in Record.COLUMNS[:-2]) + later)
        objects = (record.desired_json, record.observed_json, record.first_json)
        lists = (record.calls_json, record.other_sites)
        for texts, kind in ((objects, dict), (lists, list)):
            for text in texts:
                if text is not None and not isinstance(plain_json.loads(text), (kind, type(None))):
                    raise ValueError("%s of a record is not what it must be" % text[:50])
        self._put(record)

    def _put(self, record: "Record") -> "None":
        statement = "INSERT OR REPLACE INTO resources (%s) VALUES (%s)"
        columns = Record.COLUMNS
        self._db.write(statement % (",".join(columns), ",".join("?" * len(columns))), record.row())
        self._db.write("DELETE FROM tombstones WHERE key=?", (record.key,))

    def restore(self, key: "str", was: "JsonObject | None") -> "None":
        """Make the record of `key` what it was before a change (see Record.former); None: there was no record."""
        if was is None:
            self.forget(key)
            return
        now = int(time.time())
        texts = [None if was.get(name) is None else canonical(was[name]) for name in ("desired", "observed", "calls")]
        # Format 2 had another name for it.
        first = [was[name] for name in ("before_first_change", "made") if name in was]
        self._put(
            Record(
                (
                    key, *_parts(key), was.get("checksum") or "", texts[0], texts[1],
                    was.get("site"), was.get("task"), was.get("place"), was.get("created_at") or now, now, now,
                    "", self._db.next_seq(), texts[2], canonical(first[0]) if first else None, None, None,
                    was.get("other_sites"),
                )
            )
        )  # fmt: skip

    def set_checksum(self, key: "str", checksum: "str") -> "None":
        """Set the checksum of a record; "": what is on the host is being changed, and may not be what it describes."""
        self._db.write("UPDATE resources SET checksum=?, seq=? WHERE key=?", (checksum, self._db.next_seq(), key))

    def release(self, by: "str") -> "None":
        """Let records manage their things again that the record `by` has superseded."""
        for row in self._db.execute("SELECT key FROM resources WHERE superseded_by=?", (by,)).fetchall():
            self.mark_superseded(row[0], None)

    def move(self, old: "str", new: "str") -> "bool":
        """Give the record and history of key `old` the key `new`; return whether there was one. Raises StoreError."""
        record = self.get(old)
        if record is None:
            return False
        if self.get(new) is not None:
            raise StoreError("a record of %s exists already" % new, hint="delete it first")
        module, kind, name = _parts(new)
        if not (module and kind and name):
            raise StoreError("%r is not a state key" % new, hint="a key has the form module:type:id")
        if record.is_sensitive:
            self._claims.keep_secrets(old)
        self._db.write("UPDATE claims SET key=? WHERE key=?", (new, old))
        self.forget(old)
        record.key, record.module, record.type, record.id = new, module, kind, name
        record.calls_json = None  # the recorded arguments name the old one; the next run records the new ones
        record.seq = self._db.next_seq()
        self._put(record)
        self._db.write("UPDATE history SET key=? WHERE key=?", (new, old))
        return True

    def forget(self, key: "str") -> "bool":
        """Delete the record of `key`; return whether there was one."""
        record = self.get(key)
        if record is None:
            return False
        self._db.write("DELETE FROM resources WHERE key=?", (key,))
        if record.is_sensitive:
            self._claims.keep_secrets(key)
        self._db.write("DELETE FROM claims WHERE key=?", (key,))
        self._db.write("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", (key, self._db.next_seq()))
        return True

    def clear(self) -> "int":
        """Delete every record; return how many there were. History stays."""
        count = self._db.count("resources")
        self._db.write("INSERT OR REPLACE INTO tombstones SELECT key, ? FROM resources", (self._db.next_seq(),))
        for key in [record.key for record in self.select() if record.is_sensitive]:
            self._claims.keep_secrets(key)
        self._db.write("DELETE FROM claims WHERE key<>?", (NOBODY,))
        for table in ("resources", "signatures"):
            self._db.write("DELETE FROM %s" % table)
        return count

    def may_be_orphaned(self, site: "str", touched: "Collection[str]", spared: "Collection[str]") -> "bool":
        """Return whether a whole run of `site` that touched those keys leaves anything to decide (see untouched())."""
        others = self._db.execute("SELECT 1 FROM resources WHERE other_sites IS NOT NULL LIMIT 1").fetchone()
        return others is not None or bool(self.untouched(site, touched, spared))

    def untouched(self, site: "str", touched: "Collection[str]", spared: "Collection[str]") -> "list[Record]":
        """Return the records of `site` that a whole run of it did not touch.

        touched: keys; spared: names of tasks that the site has and that had no reason to run this time.
        """
        rows = self._db.execute(_SELECT + " WHERE site=? ORDER BY key", (site,)).fetchall()
        return [record for record in map(Record, rows) if record.key not in touched and record.task not in spared]

    def drop_site(self, site: "str", touched: "Collection[str]") -> "None":
        """Forget that `site` names records of other sites, but for those that its run did touch."""
        rows = self._db.execute(_SELECT + " WHERE site<>? AND other_sites IS NOT NULL", (site,)).fetchall()
        for record in map(Record, rows):
            if site in record.sites and record.key not in touched:
                self._give(record, record.site, [other for other in record.sites if other != site])

    def hand_over(self, record: "Record") -> "None":
        """Give a record that its site no longer names to another site that does."""
        *others, site = record.sites
        self._give(record, site, others)

    def _give(self, record: "Record", site: "str | None", others: "list[str]") -> "None":
        values = (site, canonical(others) if others else None, self._db.next_seq(), record.key)
        self._db.write("UPDATE resources SET site=?, other_sites=?, seq=?, orphaned=NULL WHERE key=?", values)

    def mark_orphaned(self, record: "Record") -> "None":
        """Remember that the site of a record no longer names it."""
        if record.orphaned is None:
            record.orphaned, record.seq = int(time.time()), self._db.next_seq()
            values = (record.orphaned, record.seq, record.key)
            self._db.write("UPDATE resources SET orphaned=?, seq=? WHERE key=?", values)

    def mark_superseded(self, key: "str", by: "str | None") -> "None":
        """Remember which record manages the thing of `key` since; None: it does so itself again."""
        self._db.write("UPDATE resources SET superseded_by=?, seq=? WHERE key=?", (by, self._db.next_seq(), key))


def _other_sites(record: "Record", site: "str") -> "str | None":
    """Return the other sites of a record that `site` names now, as JSON."""
    known = [*record.sites, record.site] if record.orphaned is None else record.sites
    others = [other for other in known if other and other != site]
    return canonical(others) if others else None


def _parts(key: "str") -> "tuple[str, str, str]":
    module, _, rest = key.partition(":")
    kind, _, name = rest.partition(":")
    return module, kind, name
