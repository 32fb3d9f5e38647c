"""How many hosts have a resource, and each version of it: kept when a replica is read, so that no page has to count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sloth.state.database import Database


class Held(NamedTuple):
    """What a host has of a key, in all of its accounts: the versions, and how many of its records are orphaned."""

    checksums: frozenset[str]
    orphaned: int
    module: str
    site: str
    changed_at: int | None


Share = Mapping[tuple[str, str], Held]  # by scope ("" for all sites, or one of them) and key
NOTHING = Held(frozenset(), 0, "", "", None)


def read_share(database: Database, host: str) -> Share:
    """Return what a host has by now."""
    found: dict[tuple[str, str], Held] = {}
    rows = database.execute(
        "SELECT key, checksum, orphaned IS NOT NULL, module, coalesce(site, ''), changed_at FROM resources"
        " WHERE host=?",
        (host,),
    )
    for key, checksum, is_orphaned, module, site, changed_at in rows:
        for scope in {"", site}:
            one = found.get((scope, key), NOTHING)
            at = max(changed_at or 0, one.changed_at or 0)
            found[scope, key] = Held(one.checksums | {checksum}, one.orphaned + is_orphaned, module, site, at)
    return found


def count_change(database: Database, before: Share, after: Share) -> None:
    """Bring the tables `keys` and `versions` from what a host had to what it has."""
    for this in before.keys() | after.keys():
        old, new = before.get(this, NOTHING), after.get(this, NOTHING)
        scope, key = this
        if old == new:
            continue
        versions = 0
        for checksum in new.checksums - old.checksums:
            versions += _count_version(database, scope, key, checksum, 1)
        for checksum in old.checksums - new.checksums:
            versions += _count_version(database, scope, key, checksum, -1)
        hosts = (this in after) - (this in before)
        database.execute(
            "INSERT INTO keys VALUES (:scope, :key, :module, :hosts, :versions, :orphaned, :changed_at, :site)"
            " ON CONFLICT (scope, key) DO UPDATE SET hosts=hosts+excluded.hosts, versions=versions+excluded.versions,"
            " orphaned=orphaned+excluded.orphaned, changed_at=max(coalesce(changed_at, 0), excluded.changed_at),"
            " site=CASE WHEN excluded.site='' THEN site ELSE excluded.site END",
            {
                "scope": scope, "key": key, "module": new.module or old.module, "hosts": hosts, "versions": versions,
                "orphaned": new.orphaned - old.orphaned, "changed_at": new.changed_at or 0, "site": new.site,
            },
        )  # fmt: skip
        if hosts < 0:
            database.execute("DELETE FROM keys WHERE scope=? AND key=? AND hosts<=0", this)


def _count_version(database: Database, scope: str, key: str, checksum: str, hosts: int) -> int:
    """Count one host more or less; return by how many versions there are more."""
    this = "scope=? AND key=? AND checksum=?"
    values = (scope, key, checksum)
    if database.execute(f"UPDATE versions SET hosts=hosts+? WHERE {this}", (hosts, *values)).rowcount == 0:
        database.execute("INSERT INTO versions VALUES (?, ?, ?, ?)", (*values, hosts))
        return 1
    if hosts < 0:
        return -database.execute(f"DELETE FROM versions WHERE {this} AND hosts<=0", values).rowcount
    return 0
