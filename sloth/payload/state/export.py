"""Takes a whole state out of its file and into another one: what `state export` and `state import` do on the host."""

from sloth.payload.session import wire
from sloth.payload.state.store import CHANGE, COLUMNS, HANDLER, RUN, StoreError

TABLES = {
    "resources": COLUMNS,
    "history": CHANGE,
    "runs": RUN,
    "handlers": HANDLER,
    "meta": ("name", "value"),
}
KEYS = {
    "resources": ("key",),
    "runs": ("run",),
    "handlers": ("site", "name"),
    "history": ("key", "at"),
    "meta": ("name",),
}


def dump(store, table, after=0):
    """Return the next page of a table as dicts of raw values, and of "_at": what `after` is for the next one."""
    columns = _columns(table)
    only = " AND name='secret_key'" if table == "meta" else ""  # without it, keyed hashes of secrets say nothing
    statement = "SELECT %s, rowid FROM %s WHERE rowid>?%s ORDER BY rowid LIMIT ?" % (",".join(columns), table, only)
    rows = [dict(zip(columns + ("_at",), row)) for row in store._execute(statement, (after, wire.ROWS))]
    return next(wire.pages(rows), [])


def load(store, table, rows, replace):
    """Put rows of dump() into a table, in the transaction that is open; return [how many were added, altered].

    What is there already stays, unless `replace`. A change of history that is there already is not added again.
    """
    columns = _columns(table)
    plain = columns[1:] if table == "history" else columns  # a change gets a new number
    compared = [name for name in plain if name != "seq"]
    where = " AND ".join("%s=?" % name for name in KEYS[table])
    added = altered = 0
    for row in rows:
        here = store._execute(
            "SELECT %s FROM %s WHERE %s" % (",".join(compared), table, where), [row.get(name) for name in KEYS[table]]
        ).fetchall()
        same = tuple(row.get(name) for name in compared) in here
        if same or (here and table != "history" and not replace):
            continue
        values = dict((name, row.get(name)) for name in plain)
        if table == "resources":
            values["seq"] = store._next_seq()
            store._write("DELETE FROM gone WHERE key=?", (row["key"],))
        statement = "INSERT OR REPLACE INTO %s (%s) VALUES (%s)"
        store._write(statement % (table, ",".join(plain), ",".join("?" * len(plain))), [values[name] for name in plain])
        new = not here or table == "history"
        added, altered = added + new, altered + (not new)
    return [added, altered]


def empty(store):
    """Delete everything that an export holds."""
    store.clear()
    for table in TABLES:
        if table not in ("resources", "meta"):
            store._write("DELETE FROM %s" % table)


def _columns(table):
    if table not in TABLES:
        raise StoreError("a state has no table %r" % table)
    return TABLES[table]
