"""What runs must leave alone for a while: resources that somebody has frozen, and which saved plans were applied."""

import time

from sloth.payload.kernel.errors import Failed
from sloth.payload.kernel.hashing import as_utf8
from sloth.payload.state.claims import PART

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

    from sloth.payload.kernel.redact import Redactor
    from sloth.payload.kernel.resource import Resource
    from sloth.payload.kernel.values import JsonObject
    from sloth.payload.state.database import Database

COLUMNS = ("key", "until", "why", "who", "origin", "since")


class Freezes(object):
    """The table `freezes`. Times are those of the host's clock."""

    def __init__(self, database: "Database", redactor: "Redactor") -> "None":
        self._db = database
        self._redactor = redactor
        self._loaded: "dict[str, JsonObject] | None" = None  # by key
        self._things: "dict[str, str]" = {}  # thing -> the frozen key that claims it

    def any(self) -> "bool":
        """Return whether anything is frozen, or was."""
        return bool(self._load())

    def active(self) -> "dict[str, JsonObject]":
        """Return the freezes that have not expired, by key."""
        now = int(time.time())
        return dict((key, row) for key, row in self._load().items() if row["until"] > now)

    def of(self, resources: "Iterable[Resource]") -> "str | None":
        """Return why one of these resources is to be left alone: "KEY is frozen until ..."; None when it is not.

        A part of a file has to do with the whole file, and the other way round: changing one would change the other.
        """
        active = self.active()
        hidden = self._redactor.key
        for resource in resources:
            key = hidden(resource.key())
            things = [hidden(as_utf8(thing)) for thing in resource.claims()] if active else []
            for held, owner in [(key, key), *self._things.items()]:
                if owner in active and (held == key or any(_is_about(held, thing) for thing in things)):
                    return sentence(active[owner])
        return None

    def refuse(self, key: "str") -> "None":
        """Raise Failed when the record of a key is frozen."""
        freeze = self.active().get(key) if self.any() else None
        if freeze is not None:
            raise Failed(sentence(freeze), hint="sloth-runner state unfreeze")

    def sentence(self, key: "str") -> "str":
        """Return how the freeze of a key is explained."""
        return sentence(self._load()[key])

    def put(self, key: "str", until: "int", why: "str", who: "str", origin: "str") -> "None":
        """Freeze the record of a key."""
        statement = "INSERT OR REPLACE INTO freezes VALUES (?, ?, ?, ?, ?, ?)"
        self._db.write(statement, (key, until, why, who, origin, int(time.time())), changed=False)
        self._loaded = None

    def remove(self, key: "str") -> "bool":
        """Thaw the record of a key; return whether it was frozen."""
        found = key in self.active()
        self._db.write("DELETE FROM freezes WHERE key=? OR until<=?", (key, int(time.time())), changed=False)
        self._loaded = None
        return found

    def forget(self) -> "None":
        """Read the table anew when it is used next: somebody else has written to it."""
        self._loaded = None

    def rename(self, old: "str", new: "str") -> "None":
        """Let a freeze follow its record to another key."""
        self._db.write("UPDATE OR REPLACE freezes SET key=? WHERE key=?", (new, old), changed=False)
        self._loaded = None

    def _load(self) -> "dict[str, JsonObject]":
        if self._loaded is None:
            rows = self._db.execute("SELECT %s FROM freezes" % ",".join(COLUMNS)).fetchall()
            self._loaded = dict((row[0], dict(zip(COLUMNS, row))) for row in rows)
            self._things = {}
            if rows:
                found = self._db.execute("SELECT thing, key FROM claims WHERE need=0").fetchall()
                self._things = dict((thing, key) for thing, key in found if key in self._loaded)
        return self._loaded


def _is_about(held: "str", thing: "str") -> "bool":
    return held == thing or held.startswith(thing + PART) or thing.startswith(held + PART)


def sentence(freeze: "JsonObject") -> "str":
    """Return how a freeze is explained: "KEY is frozen until 2026-12-01 18:00 by ann: migration"."""
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(freeze["until"]))
    return "%s is frozen until %s by %s: %s" % (freeze["key"], until, freeze["who"], freeze["why"])


class AppliedPlans(object):
    """The table `applied_plans`: the run in which a saved plan was applied to this host."""

    def __init__(self, database: "Database") -> "None":
        self._db = database

    def run_of(self, plan: "str") -> "str | None":
        """Return the run in which a plan was applied."""
        row = self._db.execute("SELECT run FROM applied_plans WHERE plan=?", (plan,)).fetchone()
        return row[0] if row else None

    def add(self, plan: "str", run: "str") -> "None":
        """Remember that a plan is being applied."""
        values = (plan, run, int(time.time()))
        self._db.write("INSERT OR REPLACE INTO applied_plans VALUES (?, ?, ?)", values, changed=False)
