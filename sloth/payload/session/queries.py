"""What a controller may query and edit of a state outside of calls: `state`, `runs`, `drift`, `rollback`, pruning."""

import time

from sloth.payload.kernel.diff import unified
from sloth.payload.kernel.drift import find_drift
from sloth.payload.kernel.errors import StoreError
from sloth.payload.kernel.ownership import claim_again
from sloth.payload.kernel.prune import Prune
from sloth.payload.kernel.record import Context
from sloth.payload.kernel.rollback import Rollback
from sloth.payload.lib.boot import boot_identity
from sloth.payload.state import export

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Collection

    from sloth.payload.kernel.values import Attributes, Diff, JsonObject, Rows
    from sloth.payload.lib.host import Host
    from sloth.payload.state.store import Store

QUERIES = ("guard", "hold", "confirm", "relax", "revert", "reverted")  # see guarding.py
OPEN = ("empty", "load", "commit", "abandon")  # they share a transaction, which the last two of them end


def query(
    store: "Store", op: "str", args: "JsonObject", host: "Host | None" = None, context: "Context | None" = None
) -> "Rows":
    """Perform one query and return its rows. Raises StoreError, also for an unknown one or invalid arguments.

    host: None where only the file is at hand; context: run, who and origin, for the records.
    """
    method: "Callable[..., Rows] | None" = getattr(Queries(store, host, context), op, None)
    if op.startswith("_") or method is None:
        raise StoreError("unknown state command %r" % op)
    try:
        return method(**args)
    except TypeError as error:
        raise StoreError("invalid arguments of the state command %s: %s" % (op, error))


class Queries(object):
    """Every public method is a query: it returns rows, and raises StoreError."""

    def __init__(self, store: "Store", host: "Host | None", context: "Context | None") -> "None":
        self._store = store
        self._host_or_none = host
        self._context = context or Context()

    @property
    def _host(self) -> "Host":
        if self._host_or_none is None:
            raise StoreError("this needs the host itself")
        return self._host_or_none

    # Reading

    def list(self, module: "str | None" = None, type: "str | None" = None, orphaned: "bool" = False) -> "Rows":
        frozen = self._store.freezes.active()
        return [
            dict(record.shown(), frozen=frozen.get(record.key))
            for record in self._store.records.select(module, type, orphaned)
        ]

    def show(self, key: "str") -> "Rows":
        rows = []
        for found in self._store.records.match(key):
            record = self._store.records.get(found)
            assert record is not None
            frozen = self._store.freezes.active().get(found)
            rows.append(dict(record.shown(), frozen=frozen, history=self._store.history.shown(found, 10)))
        return rows

    def match(self, key: "str") -> "Rows":
        return [{"key": found} for found in self._store.records.match(key)]

    def history(self, key: "str | None" = None, limit: "int" = 100, run: "str | None" = None) -> "Rows":
        return self._store.history.shown(key, int(limit), self._store.runs.find(run) if run else None)

    def between(self, first: "str", last: "str") -> "Rows":
        rows = self._store.history.between(first, last)
        for row in rows:
            row["diff"] = self._difference(row["before"], row["after"])
        return rows

    def _difference(self, before: "Attributes | None", after: "Attributes | None") -> "Diff":
        """Return how two recorded dicts of attributes differ, texts line by line where they were kept."""
        diff: "Diff" = {}
        if before is None or after is None:
            diff["exists"] = {"before": before is not None, "after": after is not None}
        before, after = before or {}, after or {}
        for name in sorted(set(before) | set(after)):
            sides = [before.get(name), after.get(name)]
            if sides[0] == sides[1]:
                continue
            diff[name] = {"before": sides[0], "after": sides[1]}
            hashes = [side.get("sha256") if isinstance(side, dict) else None for side in sides]
            kept = [self._store.blobs.get(one) if one else None for one in hashes]
            if any(kept) and all(one or not wanted for one, wanted in zip(kept, hashes)):
                text = unified(kept[0], kept[1])
                if text is not None:
                    diff[name]["unified"] = text
        return diff

    def runs(self, limit: "int" = 50) -> "Rows":
        return [run.shown() for run in self._store.runs.newest(int(limit))]

    def handlers(self, site: "str | None" = None) -> "Rows":
        return [handler.shown() for handler in self._store.handlers.pending(site)]

    def stats(self) -> "Rows":
        return [self._store.stats()]

    def check(self) -> "Rows":
        problems = self._store.integrity()
        problems += ["the kept content %s is damaged" % one for one in self._store.blobs.damaged()]
        return [{"problem": text} for text in problems]

    # Editing

    def delete(self, key: "str") -> "Rows":
        return [{"key": key, "deleted": self._store.records.forget(key)}]

    def move(self, old: "str", new: "str") -> "Rows":
        moved = self._store.records.move(old, new)
        if moved:
            self._store.freezes.rename(old, new)
        return [{"key": new, "moved": moved}]

    def freeze(self, key: "str", why: "str", until: "int | None" = None, seconds: "float | None" = None) -> "Rows":
        end = int(until if until is not None else time.time() + (seconds or 0))
        if end <= time.time():
            raise StoreError("the clock of the host says that this time has passed already")
        self._store.freezes.put(key, end, why, self._context.who, self._context.origin)
        return [{"key": key, "until": end}]

    def unfreeze(self, key: "str") -> "Rows":
        return [{"key": key, "thawed": self._store.freezes.remove(key)}]

    def clear(self) -> "Rows":
        return [{"deleted": self._store.records.clear()}]

    def owe(self, site: "str", names: "Collection[str]", task: "str", key: "str") -> "Rows":
        self._store.handlers.notify(names, self._context.replace(site=site, task=task), key)
        return []

    def settle(self, site: "str", names: "Collection[str]") -> "Rows":
        self._store.handlers.settle(site, names)
        return []

    def vacuum(self, older: "int | None" = None) -> "Rows":
        dropped = 0 if older is None else self._store.history.drop(int(older))
        return [{"changes": dropped, "freed": self._store.vacuum()}]

    # Saved plans

    def applied_plan(self, plan: "str") -> "Rows":
        found = self._store.plans.run_of(plan)
        return [] if found is None else [{"run": found}]

    def begin_plan(self, plan: "str") -> "Rows":
        self._store.plans.add(plan, self._context.run)
        return []

    # Export and import

    def dump(self, table: "str", after: "int" = 0) -> "Rows":
        return export.dump(self._store, table, after)

    def load(self, table: "str", rows: "Rows", replace: "bool" = False) -> "Rows":
        added, altered = export.load(self._store, table, rows, replace)
        if table == "resources" and self._host_or_none is not None:
            claim_again(self._store, self._host_or_none)
        return [{"added": added, "altered": altered}]

    def empty(self) -> "Rows":
        export.empty(self._store)
        return []

    def commit(self) -> "Rows":
        self._store.commit()
        return []

    def abandon(self) -> "Rows":
        self._store.abandon()
        return []

    # Of the host itself

    def lock(self) -> "Rows":
        from sloth.payload.session.run_lock import find_holder

        holder = find_holder(self._host.directory)
        return [] if holder is None else [holder.plain()]

    def boot(self) -> "Rows":
        return [{"boot": boot_identity()}]

    def drift(self, keys: "Collection[str] | None" = None) -> "Rows":
        rows = [found.shown() for found in find_drift(self._store, self._host, keys)]
        count = rows[-1]["count"]
        for row in rows:
            del row["count"]
        rows[-1] = {"status": rows[-1]["status"], "count": count}
        return rows

    def rollback(
        self,
        run: "str",
        task: "str | None" = None,
        check: "bool" = False,
        force: "bool" = False,
        site: "str | None" = None,
    ) -> "Rows":
        rollback = Rollback(self._store, self._host, self._context, check, force)
        return [restored.shown() for restored in rollback.rollback(self._store.runs.find(run), task, site)]

    def prune(self, keys: "Collection[str]", check: "bool" = False) -> "Rows":
        prune = Prune(self._store, self._host, self._context, check)
        return [restored.shown() for restored in prune.prune(keys)]
