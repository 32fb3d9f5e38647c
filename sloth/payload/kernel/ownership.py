"""Who owns a thing on the host: the newest claim does, whichever call or site makes it.

A record whose thing another call claims is superseded: it is no orphan, no drift, and nothing to prune.
"""

from sloth.payload.kernel.errors import Failed
from sloth.payload.kernel.hashing import as_utf8
from sloth.payload.kernel.redact import NOTHING, claimed_by_all
from sloth.payload.kernel.replay import remake
from sloth.payload.kernel.resource import Resource
from sloth.payload.kernel.status import Reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Collection

    from sloth.payload.kernel.record import Context, Record
    from sloth.payload.lib.host import Host
    from sloth.payload.state.store import Store

PART = "#"


class Ownership(object):
    """What the records of a state claim and need, but for those of which it is to be decided."""

    def __init__(self, store: "Store", host: "Host", undecided: "Collection[str]") -> "None":
        """undecided: keys of records that their site no longer names."""
        self._store = store
        self._host = host
        self._claimed, self._needed = store.claims.live(undecided)
        for record in store.records.unclaimed():
            if record.key not in undecided and record.orphaned is None:
                things, needs = _asked(store, host, record)
                for thing in things:
                    self._claimed.setdefault(thing, record.key)
                for thing in needs:
                    self._needed.setdefault(thing, record.key)

    def owner(self, thing: "str") -> "str | None":
        """Return the key of the record that claims `thing` now: itself, or as the whole or a part of a file."""
        found = self._claimed.get(thing)
        if found is None and thing.startswith("path:"):
            whole = thing.partition(PART)[0]
            if whole != thing:
                found = self._claimed.get(whole)
            else:
                parts = (key for other, key in self._claimed.items() if other.startswith(thing + PART))
                found = next(parts, None)
        return found

    def user(self, thing: "str") -> "str | None":
        """Return the key of a record that cannot do without `thing`."""
        return self._needed.get(thing)

    def inhabitant(self, thing: "str") -> "str | None":
        """Return the key of a record that claims something in the directory `thing` ("path:/srv")."""
        if not thing.startswith("path:"):
            return None
        inside = thing + "/"
        return next((key for other, key in self._claimed.items() if other.startswith(inside)), None)

    def parts_in(self, path: "str") -> "list[str]":
        """Return the keys of the records that claim the file `path` or a part of it."""
        whole = "path:" + self._host.canonical(path)
        keys = (key for thing, key in self._claimed.items() if thing == whole or thing.startswith(whole + PART))
        return sorted(set(keys))

    def claims_of(self, record: "Record") -> "list[str]":
        """Return what a record claims. One that was written before claims were recorded is asked by its calls."""
        return self._store.claims.of(record.key) or _asked(self._store, self._host, record)[0]

    def path_user(self, path: "str") -> "str | None":
        """Return the key of a record that claims the file `path`, a part of it or something in that directory."""
        thing = "path:" + self._host.canonical(path)
        return self.owner(thing) or self.inhabitant(thing)


def claim_again(store: "Store", host: "Host", key: "str | None" = None) -> "None":
    """Record what the record of `key` claims and needs, or what all do that came without it, as from an export.

    Until the next run of their sites nobody else says that their things are managed.
    """
    found = store.records.unclaimed() if key is None else [store.records.get(key)]
    for record in found:
        if record is not None and not store.claims.of(record.key):
            things, needs = _asked(store, host, record)
            store.claims.put(record.key, things, needs)


def _asked(store: "Store", host: "Host", record: "Record") -> "tuple[list[str], list[str]]":
    """Return what the calls of a record claim and need, as far as they can be made again."""
    things: "list[str]" = []
    needs: "list[str]" = []
    for call in record.calls or []:
        try:
            resource, _ = remake(call, host)
            if isinstance(resource, Resource):
                things += claimed_by_all(resource, store.redactor)
                needs += [store.redactor.key(as_utf8(thing)) for thing in resource.needs()]
        except (Failed, OSError):
            continue
    return things, needs


def find_orphans(
    store: "Store",
    host: "Host",
    context: "Context",
    touched: "Collection[str]",
    spared: "Collection[str]",
    check: "bool",
) -> "list[Record]":
    """Return the records that a whole run of their site did not touch, and whose things nobody claims any more.

    touched: keys that the run named; spared: tasks that had no reason to run. A record that another site names, too,
    is that site's from now on. Unless it is a check, orphans are marked, and records whose things others have taken
    over are replaced by a line of history.
    """
    if not check and not spared:  # else this site may still name what it did not touch
        store.records.drop_site(context.site, touched)
    untouched = []
    for record in store.records.untouched(context.site, touched, spared):
        if not record.sites:
            untouched.append(record)
        elif not check:
            store.records.hand_over(record)
    if not untouched:
        return []
    ownership = Ownership(store, host, [record.key for record in untouched])
    orphans: "list[tuple[list[str], Record]]" = []  # what it claims, and the record
    for record in untouched:
        claims = ownership.claims_of(record)
        owners = [ownership.owner(thing) for thing in claims]
        if claims and all(owners):
            if not check:
                _retire(store, context, record, owners[0] or "")
            continue
        left = [thing for thing, owner in zip(claims, owners) if owner is None]
        if left and all(ownership.inhabitant(thing) for thing in left):
            continue  # a directory goes with the last that is managed in it
        if not check:
            store.records.mark_orphaned(record)
        orphans.append((claims, record))
    return _in_order(store, orphans)


def _in_order(store: "Store", orphans: "list[tuple[list[str], Record]]") -> "list[Record]":
    """Return records in the order in which they can be removed: first what is in a directory, or leads through a link.

    orphans: what each claims, and the record.
    """
    users: "dict[str, list[tuple[list[str], Record]]]" = {}  # by thing, who cannot be without it
    for orphan in orphans:
        for thing in store.claims.needs(orphan[1].key):
            users.setdefault(thing, []).append(orphan)
        for thing in orphan[0]:
            while thing.startswith("path:/"):
                thing = thing.rpartition("/")[0]
                users.setdefault(thing, []).append(orphan)
    found: "dict[str, Record]" = {}
    begun: "set[str]" = set()

    def add(orphan: "tuple[list[str], Record]") -> "None":
        claims, record = orphan
        if record.key in begun:
            return
        begun.add(record.key)
        for thing in claims:
            for user in users.get(thing, ()):
                add(user)
        found[record.key] = record

    for orphan in sorted(orphans, key=_path, reverse=True):
        add(orphan)
    return list(found.values())


def _path(orphan: "tuple[list[str], Record]") -> "str":
    return next((thing for thing in orphan[0] if thing.startswith("path:")), "")


def _retire(store: "Store", context: "Context", record: "Record", owner: "str") -> "None":
    """Forget a record whose thing `owner` manages; its history stays, and says by what it was superseded."""
    after = store.redactor.redact({"superseded_by": owner})
    about = context.replace(task=record.task or "")
    store.history.add(record.key, Reason.SUPERSEDED, NOTHING, after, NOTHING, about, None, record)
    store.records.forget(record.key)
