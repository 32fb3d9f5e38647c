"""Which record manages which thing on the host: the newest claim owns it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Collection, Iterable

    from sloth.payload.state.database import Database

PART = "#"  # between the path of a file and a part of it, in a thing
NOBODY = ""  # in place of the key: a record that is forgotten had secrets there


class Claims(object):
    """The table `claims`; and what the calls of this session have claimed, which a check does not write."""

    def __init__(self, database: "Database") -> "None":
        self._db = database
        self.session: "dict[str, str]" = {}  # thing -> key of the last call that claimed it

    def put(self, key: "str", things: "Iterable[str]", needs: "Iterable[str]") -> "bool":
        """Record what `key` claims and needs; return whether that differs from what was recorded."""
        wanted = set((thing, 0) for thing in things) | set((thing, 1) for thing in needs)
        rows = self._db.execute("SELECT thing, need FROM claims WHERE key=?", (key,)).fetchall()
        if set(rows) == wanted:
            return False
        self._db.write("DELETE FROM claims WHERE key=?", (key,))
        for thing, need in sorted(wanted):
            self._db.write("INSERT INTO claims VALUES (?, ?, ?)", (thing, key, need))
        return True

    def of(self, key: "str") -> "list[str]":
        """Return what the record of `key` claims."""
        rows = self._db.execute("SELECT thing FROM claims WHERE key=? AND need=0 ORDER BY thing", (key,))
        return [row[0] for row in rows]

    def needs(self, key: "str") -> "list[str]":
        """Return what the record of `key` needs."""
        rows = self._db.execute("SELECT thing FROM claims WHERE key=? AND need=1 ORDER BY thing", (key,))
        return [row[0] for row in rows]

    def others(self, key: "str", things: "Collection[str]") -> "list[str]":
        """Return the keys of other records, not superseded, that claim one of these things.

        A whole file and its parts count as one thing here: whoever wrote last knows what is in the file.
        """
        found = []
        statement = (
            "SELECT claims.key FROM claims JOIN resources ON resources.key=claims.key WHERE need=0 AND claims.key<>?"
            " AND superseded_by IS NULL AND "
        )
        for thing in things:
            whole = thing.partition(PART)[0]
            found += self._db.execute(statement + "thing=?", (key, thing)).fetchall()
            if not thing.startswith("path:"):
                continue
            if whole != thing:
                found += self._db.execute(statement + "thing=?", (key, whole)).fetchall()
            else:  # the parts of this file: what sorts between "path#" and the next character after it
                bounds = (key, thing + PART, thing + chr(ord(PART) + 1))
                found += self._db.execute(statement + "thing>=? AND thing<?", bounds).fetchall()
        return sorted(set(row[0] for row in found))

    def neighbours(self, things: "Iterable[str]") -> "list[str]":
        """Return the keys of all records that claim one of these things, or anything of the same file."""
        found = []
        statement = "SELECT key FROM claims WHERE need=0 AND "
        for thing in things:
            if thing.startswith("path:"):
                thing = thing.partition(PART)[0]
                bounds = (thing + PART, thing + chr(ord(PART) + 1))
                found += self._db.execute(statement + "thing>=? AND thing<?", bounds).fetchall()
            found += self._db.execute(statement + "thing=?", (thing,)).fetchall()
        return sorted(set(row[0] for row in found))

    def keep_secrets(self, key: "str") -> "None":
        """Remember, when the record of `key` is forgotten, that there may be secrets in its files."""
        statement = "INSERT OR IGNORE INTO claims SELECT thing, ?, 0 FROM claims WHERE key=? AND need=0"
        self._db.write(statement + " AND thing LIKE 'path:%'", (NOBODY, key))

    def forget_secrets(self, things: "Iterable[str]") -> "None":
        """Note that these files have been written anew, without secrets."""
        for thing in things:
            thing = thing.partition(PART)[0]
            bounds = (NOBODY, thing, thing + PART, thing + chr(ord(PART) + 1))
            rows = "key=? AND (thing=? OR thing>=? AND thing<?)"
            if self._db.execute("SELECT 1 FROM claims WHERE " + rows, bounds).fetchone():
                self._db.write("DELETE FROM claims WHERE " + rows, bounds)

    def live(self, without: "Collection[str]") -> "tuple[dict[str, str], dict[str, str]]":
        """Return what records other than `without` claim and need: (thing -> key, thing -> key).

        Records that their site no longer names do not count; what this session has claimed does.
        """
        claimed: "dict[str, str]" = {}
        needed: "dict[str, str]" = {}
        rows = self._db.execute(
            "SELECT thing, claims.key, need FROM claims JOIN resources ON resources.key=claims.key"
            " WHERE orphaned IS NULL ORDER BY seq"
        )
        for thing, key, need in rows:
            if key not in without:
                (needed if need else claimed)[thing] = key
        claimed.update(self.session)
        return claimed, needed
