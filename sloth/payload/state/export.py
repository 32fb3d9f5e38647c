"""Copies a whole state out of its file and into another one: what `state export` and `state import` do on the host."""

from sloth.payload.kernel.errors import StoreError
from sloth.payload.kernel.paging import ROWS, pages
from sloth.payload.kernel.record import Record
from sloth.payload.state import freezes, history, runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject, Rows
    from sloth.payload.state.store import Store

TABLES = {
    "resources": Record.COLUMNS,
    "history": history.COLUMNS,
    "runs": runs.RUN,
    "handlers": runs.HANDLER,
    "freezes": freezes.COLUMNS,
    "meta": ("name", "value"),
}
KEYS = {
    "resources": ("key",),
    "runs": ("run",),
    "handlers": ("site", "name"),
    "history": ("key", "at"),
    "freezes": ("key",),
    "meta": ("name",),
}
FORMER_NAMES = {"before_first_change": "made"}  # in exports of state format 2


def dump(store: "Store", table: "str", after: "int" = 0) -> "Rows":
    """Return the next page of a table as dicts of raw values, and of "_at": what `after` is for the next one."""
    columns = _columns(table)
    only = " AND name='secret_key'" if table == "meta" else ""  # without it, keyed hashes of secrets are useless
    statement = "SELECT %s, rowid FROM %s WHERE rowid>?%s ORDER BY rowid LIMIT ?" % (",".join(columns), table, only)
    rows = [dict(zip((*columns, "_at"), row)) for row in store.execute(statement, (after, ROWS))]
    return next(pages(rows), [])


def load(store: "Store", table: "str", rows: "Rows", replace: "bool") -> "tuple[int, int]":
    """Put rows of dump() into a table, in the transaction that is open; return (how many were added, altered).

    What is there already stays, unless `replace`. A change of history that is there already is not added again.
    """
    columns = _columns(table)
    stored = columns[1:] if table == "history" else columns  # a change gets a new number
    compared = [name for name in stored if name != "seq"]
    where = " AND ".join("%s=?" % name for name in KEYS[table])
    statement = "INSERT OR REPLACE INTO %s (%s) VALUES (%s)" % (table, ",".join(stored), ",".join("?" * len(stored)))
    added = altered = 0
    for row in rows:
        row = _with_present_names(row)
        here = store.execute(
            "SELECT %s FROM %s WHERE %s" % (",".join(compared), table, where), [row.get(name) for name in KEYS[table]]
        ).fetchall()
        same = tuple(row.get(name) for name in compared) in here
        if same or (here and table != "history" and not replace):
            continue
        values = dict((name, row.get(name)) for name in stored)
        if table == "resources":
            values["seq"] = store.next_seq()
            store.write("DELETE FROM tombstones WHERE key=?", (row["key"],))
        store.write(statement, [values[name] for name in stored])
        is_new = not here or table == "history"
        added, altered = added + is_new, altered + (not is_new)
    if table == "freezes":
        store.freezes.forget()
    return added, altered


def empty(store: "Store") -> "None":
    """Delete everything that an export holds."""
    store.records.clear()
    store.freezes.forget()
    for table in TABLES:
        if table not in ("resources", "meta"):
            store.write("DELETE FROM %s" % table)


def _with_present_names(row: "JsonObject") -> "JsonObject":
    renamed = dict((new, row[old]) for new, old in FORMER_NAMES.items() if old in row)
    return dict(row, **renamed) if renamed else row


def _columns(table: "str") -> "tuple[str, ...]":
    if table not in TABLES:
        raise StoreError("a state has no table %r" % table)
    return TABLES[table]
