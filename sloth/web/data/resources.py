"""Resources across hosts: which there are, which hosts have which version of one, and who changed it when."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

from sloth.errors import StateError, StateNotFound
from sloth.frozen import frozen
from sloth.web.data.database import ReadOnly, Row, open_read_only
from sloth.web.data.drift import last_good
from sloth.web.data.paging import Page, Where, like, select
from sloth.web.data.run import read_diff
from sloth.web.data.runs import read_about
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject
    from sloth.web.view import Query

VERSIONS = 20  # that are shown with all that is known of them
NAMED = 500  # hosts of a version that are named
_GROUPED = "key, module, hosts, versions, orphaned, changed_at, site"
SORTABLE = {name: name for name in _GROUPED.split(", ")}


@frozen
class ResourceRow:
    """One resource, on however many hosts.

    Attributes:
        versions: in how many different ways hosts have it.
        orphaned: on how many of them its site no longer names it.
        changed_at: when it was last changed anywhere.
    """

    key: str
    module: str
    hosts: int
    versions: int
    orphaned: int
    changed_at: float | None
    site: str


@frozen
class Version:
    """The hosts that have a resource in the same way.

    Attributes:
        checksum: of what is desired and observed.
        content: the hash of its content, for a file.
        observed: how it is; desired: how its site wants it.
        differs: the attributes in which it differs from the version that most hosts have.
    """

    checksum: str
    content: str
    count: int
    hosts: tuple[str, ...]
    changed_at: float | None
    observed: dict[str, object]
    desired: dict[str, object]
    differs: tuple[str, ...]


@frozen
class Happening:
    """Something that happened to a resource on a host.

    Attributes:
        what: "changed", "put back" (somebody had changed it by hand), "drift" (it was found changed), "would change",
            "failed", "frozen" and so on.
        who, origin, run: whose run it was, and from where.
        is_by_hand: whether somebody else had changed it, between `since` (None: unknown), the end of `since_run`, and
            `at`.
    """

    number: int
    at: float | None
    host: str
    what: str
    reason: str
    kind: str
    who: str
    origin: str
    run: str
    place: str
    error: str
    is_by_hand: bool
    since: float | None
    since_run: str
    diff: dict[str, object]


@frozen
class Resource:
    """One resource across hosts.

    Attributes:
        hosts: how many have it.
        lacking: hosts of the inventory that have no record of it, and how many they are.
        versions: those that most hosts have first.
        history: a page of what happened to it.
    """

    key: str
    module: str
    hosts: int
    host: str
    lacking: int
    versions_in_all: int
    versions: tuple[Version, ...]
    history: Page[Happening]


def list_resources(source: Source, query: Query) -> Page[ResourceRow]:
    """Return the resources, each once."""
    where = Where()
    where.add_if("module=?", query.text("module"))
    if not query.text("host"):  # the index has counted it
        where.add("scope=?", query.text("site"))
        if query.text("q"):
            where.add(r"key LIKE ? ESCAPE '\'", like(query.text("q")))
        if query.number("orphaned"):
            where.add("orphaned>0")
        if query.number("differing"):
            where.add("versions>1")
        return select(
            source.database, _GROUPED, "cache.keys", where, query.window, "key", SORTABLE,
            lambda row: ResourceRow(*row), "key",
        )  # fmt: skip
    where.add_if("host=?", query.text("host"))
    where.add_if("site=?", query.text("site"))
    if query.number("orphaned"):
        where.add("orphaned IS NOT NULL")
    if query.text("q"):
        where.add(r"key LIKE ? ESCAPE '\'", like(query.text("q")))
    grouped = (
        "(SELECT key, min(module) AS module, count(DISTINCT host) AS hosts, count(DISTINCT checksum) AS versions,"
        " count(orphaned) AS orphaned, max(changed_at) AS changed_at, coalesce(max(site), '') AS site"
        f" FROM cache.resources{where.sql} GROUP BY key)"
    )
    having = Where(values=list(where.values))
    if query.number("differing"):
        having.conditions.append("versions>1")
    return select(
        source.database, _GROUPED, grouped, having, query.window, "key", SORTABLE, lambda row: ResourceRow(*row), "key"
    )


def find_resource(source: Source, query: Query) -> Resource:
    """Return one resource across hosts. Raises StateNotFound."""
    database, key, host = source.database, query.text("key"), query.text("host")
    groups = database.rows(
        "SELECT checksum, hosts AS count FROM cache.versions WHERE scope='' AND key=?"
        " ORDER BY hosts DESC, checksum LIMIT ?",
        (key, VERSIONS),
    )
    known = database.row("SELECT hosts, versions FROM cache.keys WHERE scope='' AND key=?", (key,))
    total, versions_in_all = known if known is not None else (0, 0)
    history = _history(database, key, host, query)
    if not groups and not history.total and not host:
        raise StateNotFound(f"no state of {key or 'this'} is recorded", hint="see the list of resources")
    versions: list[Version] = []
    for row in groups:
        versions.append(_version(source, key, row, versions[0] if versions else None))
    inventory = source.inventory
    return Resource(
        key=key,
        module=key.partition(":")[0],
        hosts=total,
        host=host,
        lacking=max(0, len(inventory.hosts) - total) if inventory is not None else 0,
        versions_in_all=versions_in_all,
        versions=tuple(versions),
        history=history,
    )


def _version(source: Source, key: str, row: Row, most: Version | None) -> Version:
    this = (key, row["checksum"])
    hosts = source.database.rows(
        "SELECT DISTINCT host FROM cache.resources WHERE key=? AND checksum=? ORDER BY host LIMIT ?", (*this, NAMED)
    )
    about = source.database.row(
        "SELECT (SELECT agent FROM cache.resources WHERE key=?1 AND checksum=?2 LIMIT 1), max(changed_at)"
        " FROM cache.resources WHERE key=?1 AND checksum=?2",
        this,
    )
    agent, changed_at = about if about is not None else ("", None)
    observed, desired = _attributes(source, agent or "", key)
    content = observed.get("content", observed.get("sha256", ""))
    if isinstance(content, dict):
        content = content.get("sha256", "")
    differs: tuple[str, ...] = ()
    if most is not None:
        names = dict.fromkeys((*most.observed, *observed))
        differs = tuple(name for name in names if most.observed.get(name) != observed.get(name))
    return Version(
        checksum=row["checksum"],
        content=content if isinstance(content, str) else "",
        count=row["count"],
        hosts=tuple(str(one[0]) for one in hosts),
        changed_at=changed_at,
        observed=observed,
        desired=desired,
        differs=differs,
    )


def _attributes(source: Source, agent: str, key: str) -> tuple[JsonObject, JsonObject]:
    """Return what a replica holds of a resource: as it is, and as it is to be; nothing when it cannot be read."""
    path = source.replica_path(agent)
    if not path.exists():
        return {}, {}
    try:
        replica = open_read_only(path)
    except StateError:
        return {}, {}
    try:
        row = replica.execute("SELECT observed, desired FROM resources WHERE key=?", (key,)).fetchone()
    except sqlite3.Error:
        row = None
    finally:
        replica.close()
    if row is None:
        return {}, {}
    found = [json.loads(text) if text else {} for text in row]
    return (found[0] or {}), (found[1] or {})


def _history(database: ReadOnly, key: str, host: str, query: Query) -> Page[Happening]:
    where = Where()
    where.add("r.key=?", key)
    where.add_if("r.host=?", host)
    columns = (
        "r.rowid AS number, coalesce(r.at, u.started) AS at, r.host, r.status, coalesce(r.reason, '') AS reason,"
        " coalesce(u.kind, 'run') AS kind, coalesce(u.who, '') AS who, r.run, coalesce(r.place, '') AS place,"
        " coalesce(r.error, '') AS error, r.diff, u.about"
    )
    table = "run_results r LEFT JOIN runs u ON u.run=r.run"
    # By the run and by the order in it: the time itself is stored after the diff, which may be large.
    sortable = {"at": "u.started", "host": "r.host", "who": "u.who"}
    return select(
        database, columns, table, where, query.window, "-at", sortable, lambda row: _happening(database, row),
        "r.rowid DESC", identity="r.rowid", counted=f"SELECT count(*) FROM run_results r{where.sql}",
    )  # fmt: skip


def _happening(database: ReadOnly, row: Row) -> Happening:
    what = str(row["status"])
    if what == "changed" and row["kind"] == "check":
        what = "would change"
    elif what == "changed" and row["reason"] == "drift":
        what = "put back"
    is_by_hand = what in ("drift", "put back") or (what == "would change" and row["reason"] == "drift")
    since, since_run = None, ""
    if is_by_hand:
        since, since_run = last_good(database, row["host"], row["at"] or 0.0, row["run"])
    return Happening(
        number=row["number"], at=row["at"], host=row["host"], what=what, reason=row["reason"], kind=row["kind"],
        who=row["who"], origin=read_about(row["about"]).origin, run=row["run"], place=row["place"], error=row["error"],
        is_by_hand=is_by_hand, since=since, since_run=since_run,
        diff=read_diff(row["diff"]),
    )  # fmt: skip
