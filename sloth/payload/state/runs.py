"""The runs that a host remembers, and the handlers that must still run."""

import time

from sloth.payload.kernel.errors import NotFound, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

    from sloth.payload.kernel.findings import Handler, RunEntry
    from sloth.payload.kernel.record import Context
    from sloth.payload.state.database import Database

RUN = ("run", "site", "who", "origin", "started", "finished")
HANDLER = ("site", "name", "since", "run", "task", "key")


class Runs(object):
    """The table `runs`."""

    def __init__(self, database: "Database") -> "None":
        self._db = database

    def begin(self, run: "str", site: "str", who: "str", origin: "str") -> "None":
        """Record that a run begins."""
        statement = "INSERT OR REPLACE INTO runs (run, site, who, origin, started) VALUES (?, ?, ?, ?, ?)"
        self._db.write(statement, (run, site, who, origin, int(time.time())), changed=False)

    def end(self, run: "str") -> "None":
        """Record that it ended."""
        self._db.write("UPDATE runs SET finished=? WHERE run=?", (int(time.time()), run), changed=False)

    def has(self, run: "str") -> "bool":
        """Return whether a run has begun here."""
        return bool(self._db.execute("SELECT 1 FROM runs WHERE run=?", (run,)).fetchall())

    def find(self, name: "str") -> "str":
        """Return the id of the run `name` (a prefix is enough, "last" is the newest). Raises NotFound, StoreError."""
        if name == "last":
            found = self.newest(1)
            if found:
                return found[0].run
        rows = self._db.execute("SELECT run FROM runs WHERE substr(run, 1, ?)=?", (len(name), name)).fetchall()
        matching = [str(row[0]) for row in rows]
        if name in matching:
            return name
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise StoreError("run %s is ambiguous: %s" % (name, ", ".join(matching[:5])), hint="use a longer prefix")
        raise NotFound("run %s not found" % name, hint="see sloth-runner runs list --agent NAME")

    def position(self, name: "str") -> "int":
        """Return where a run stands in the order of runs. Raises StoreError."""
        return int(self._db.execute("SELECT rowid FROM runs WHERE run=?", (self.find(name),)).fetchone()[0])

    def newest(self, limit: "int" = 50) -> "list[RunEntry]":
        """Return the newest runs, newest first: in their order, since the host's clock may have been set back."""
        from sloth.payload.kernel.findings import RunEntry

        statement = "SELECT %s, (SELECT count(*) FROM history WHERE history.run=runs.run) FROM runs" % ",".join(RUN)
        rows = self._db.execute(statement + " ORDER BY rowid DESC LIMIT ?", (limit,))
        return [RunEntry(**dict(zip((*RUN, "changes"), row))) for row in rows]


class Handlers(object):
    """The table `handlers`: what was notified and has not run yet."""

    def __init__(self, database: "Database") -> "None":
        self._db = database

    def notify(self, names: "Iterable[str]", context: "Context", key: "str") -> "list[str]":
        """Remember that these handlers must run; return those that were not pending already."""
        fresh = []
        for name in names:
            row = self._db.execute("SELECT 1 FROM handlers WHERE site=? AND name=?", (context.site, name)).fetchone()
            if row is None:
                values = (context.site, name, int(time.time()), context.run, context.task, key)
                # Another session of the run may have noted it meanwhile.
                self._db.write("INSERT OR IGNORE INTO handlers VALUES (?, ?, ?, ?, ?, ?)", values)
                fresh.append(name)
        return fresh

    def settle(self, site: "str", names: "Iterable[str]") -> "None":
        """Forget these handlers: they have run, or need not."""
        for name in names:
            self._db.write("DELETE FROM handlers WHERE site=? AND name=?", (site, name))

    def names(self, site: "str") -> "list[str]":
        """Return the names of a site's handlers that must still run, oldest first."""
        rows = self._db.execute("SELECT name FROM handlers WHERE site=? ORDER BY since, name", (site,))
        return [str(row[0]) for row in rows]

    def pending(self, site: "str | None" = None) -> "list[Handler]":
        """Return the handlers (of a site) that must still run, oldest first."""
        from sloth.payload.kernel.findings import Handler

        where, values = self._db.where((("site=?", site),))
        statement = "SELECT %s FROM handlers%s ORDER BY since, name" % (",".join(HANDLER), where)
        return [Handler(**dict(zip(HANDLER, row))) for row in self._db.execute(statement, values)]
