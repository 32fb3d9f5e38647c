"""How many hosts have a resource, and each version of it: kept when a replica is read, so that no page has to count."""

from __future__ import annotations

from collections import Counter
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


class Counts:
    """What a few replicas change in the tables `keys` and `versions`: added up, and written once."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], Held] = {}
        self._hosts: Counter[tuple[str, str]] = Counter()
        self._orphaned: Counter[tuple[str, str]] = Counter()
        self._versions: Counter[tuple[str, str, str]] = Counter()

    def add(self, before: Share, after: Share) -> None:
        """Count what a host had, and what it has now."""
        for this in before.keys() | after.keys():
            old, new = before.get(this, NOTHING), after.get(this, NOTHING)
            if old == new:
                continue
            for checksum in new.checksums - old.checksums:
                self._versions[*this, checksum] += 1
            for checksum in old.checksums - new.checksums:
                self._versions[*this, checksum] -= 1
            self._hosts[this] += (this in after) - (this in before)
            self._orphaned[this] += new.orphaned - old.orphaned
            known = self._keys.get(this, NOTHING)
            self._keys[this] = Held(
                frozenset(), 0, new.module or old.module or known.module, new.site or known.site,
                max(new.changed_at or 0, known.changed_at or 0),
            )  # fmt: skip

    def write(self, database: Database) -> None:
        """Bring the tables up to date."""
        database.executemany(
            "INSERT INTO versions VALUES (?, ?, ?, ?)"
            " ON CONFLICT (scope, key, checksum) DO UPDATE SET hosts=hosts+excluded.hosts",
            [(*this, hosts) for this, hosts in self._versions.items() if hosts],
        )
        fewer = [this for this, hosts in self._versions.items() if hosts < 0]
        database.executemany("DELETE FROM versions WHERE scope=? AND key=? AND checksum=? AND hosts<=0", fewer)
        database.executemany(
            "INSERT INTO keys VALUES (:scope, :key, :module, :hosts, 0, :orphaned, :changed_at, :site)"
            " ON CONFLICT (scope, key) DO UPDATE SET hosts=hosts+excluded.hosts,"
            " orphaned=orphaned+excluded.orphaned, changed_at=max(coalesce(changed_at, 0), excluded.changed_at),"
            " site=CASE WHEN excluded.site='' THEN site ELSE excluded.site END",
            [
                {
                    "scope": scope, "key": key, "module": held.module, "hosts": self._hosts[scope, key],
                    "orphaned": self._orphaned[scope, key], "changed_at": held.changed_at, "site": held.site,
                }
                for (scope, key), held in self._keys.items()
            ],
        )  # fmt: skip
        database.executemany(
            "UPDATE keys SET versions=(SELECT count(*) FROM versions v WHERE v.scope=keys.scope AND v.key=keys.key)"
            " WHERE scope=? AND key=?",
            list({(scope, key) for scope, key, _ in self._versions}),
        )
        fewer_hosts = [this for this, hosts in self._hosts.items() if hosts < 0]
        database.executemany("DELETE FROM keys WHERE scope=? AND key=? AND hosts<=0", fewer_hosts)
