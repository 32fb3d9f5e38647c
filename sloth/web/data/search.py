"""The search over hosts, keys and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.web.data.paging import like
from sloth.web.data.runs import COLUMNS, RunRow, read_run
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.web.view import Query

MOST = 25  # of each kind


@frozen
class FoundKey:
    """A key, and how many hosts have a record of it."""

    key: str
    hosts: int


@frozen
class Found:
    """What was found, at most 25 of each kind; has_more: of which kinds there is more."""

    text: str
    hosts: tuple[str, ...]
    keys: tuple[FoundKey, ...]
    runs: tuple[RunRow, ...]
    has_more: tuple[str, ...]


def find(source: Source, query: Query) -> Found:
    """Return the hosts, keys and runs that have a text in their names."""
    text = query.text("q").strip()
    if not text:
        return Found("", (), (), (), ())
    pattern = like(text)
    inventory = source.inventory
    names = {name for name in inventory.hosts if text.lower() in name.lower()} if inventory is not None else set()
    for table in ("hosts", "agents"):
        rows = source.database.rows(
            rf"SELECT DISTINCT host FROM cache.{table} WHERE host LIKE ? ESCAPE '\' ORDER BY host LIMIT ?",
            (pattern, MOST + 1),
        )
        names |= {row[0] for row in rows}
    hosts = sorted(names)
    keys = source.database.rows(
        r"SELECT key, hosts FROM cache.keys WHERE scope='' AND key LIKE ? ESCAPE '\' ORDER BY key LIMIT ?",
        (pattern, MOST + 1),
    )
    runs = source.database.rows(
        rf"SELECT {COLUMNS} FROM runs WHERE run LIKE ?1 ESCAPE '\' OR site LIKE ?1 ESCAPE '\' OR who LIKE ?1 ESCAPE '\'"
        " ORDER BY started DESC LIMIT ?2",
        (pattern, MOST + 1),
    )
    counts = {"hosts": len(hosts), "keys": len(keys), "runs": len(runs)}
    return Found(
        text,
        tuple(hosts[:MOST]),
        tuple(FoundKey(row[0], row[1]) for row in keys[:MOST]),
        tuple(map(read_run, runs[:MOST])),
        tuple(name for name, count in counts.items() if count > MOST),
    )
