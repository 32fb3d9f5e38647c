"""What a controller may ask of a state outside of any call: `state`, `runs`, `drift`, `rollback` and pruning."""

from sloth.payload.kernel.diff import unified
from sloth.payload.kernel.drift import survey
from sloth.payload.kernel.rollback import Undo
from sloth.payload.state import export
from sloth.payload.state.store import StoreError

OPEN = ("empty", "load", "commit", "abandon")  # they share a transaction, which the last two of them end


class Operations(object):
    """Every public method is an operation: it returns rows, a list of dicts, and raises StoreError."""

    def __init__(self, store, host=None, about=None):
        """host: the payload's Host; None where only the file is at hand. about: run, who, origin, for the records."""
        self._store = store
        self._host = host
        self._about = about or {}

    def _perform(self, op, args):
        method = getattr(self, str(op), None)
        if str(op).startswith("_") or method is None:
            raise StoreError("unknown state command %r" % op)
        try:
            return method(**args)
        except TypeError as error:
            raise StoreError("the state command %s was asked wrongly: %s" % (op, error))

    # Looking

    def list(self, module=None, type=None, orphaned=False):
        return self._store.list(module, type, orphaned)

    def show(self, key):
        found = self._store.match(key)
        return [dict(self._store.get(one), history=self._store.history(one, 10)) for one in found]

    def match(self, key):
        return [{"key": found} for found in self._store.match(key)]

    def history(self, key=None, limit=100, run=None):
        return self._store.history(key, int(limit), self._store.find_run(run) if run else None)

    def between(self, first, last):
        rows = self._store.between(first, last)
        for row in rows:
            row["diff"] = self._difference(row["before"], row["after"])
        return rows

    def _difference(self, before, after):
        """How two recorded dicts of attributes differ, texts line by line where they were kept."""
        diff = {}
        if before is None or after is None:
            diff["exists"] = {"before": before is not None, "after": after is not None}
        before, after = before or {}, after or {}
        for name in sorted(set(before) | set(after)):
            sides = [before.get(name), after.get(name)]
            if sides[0] == sides[1]:
                continue
            diff[name] = {"before": sides[0], "after": sides[1]}
            hashes = [side.get("sha256") if isinstance(side, dict) else None for side in sides]
            kept = [self._store.contents.get(one) for one in hashes]
            if any(kept) and all(one or not wanted for one, wanted in zip(kept, hashes)):
                text = unified(kept[0], kept[1])
                if text is not None:
                    diff[name]["unified"] = text
        return diff

    def runs(self, limit=50):
        return self._store.runs(int(limit))

    def handlers(self, site=None):
        return self._store.handlers(site)

    def stats(self):
        return [self._store.stats()]

    def check(self):
        wrong = [{"problem": text} for text in self._store.integrity()]
        return wrong + [{"problem": "the kept content %s is damaged" % one} for one in self._store.contents.damaged()]

    # Editing

    def delete(self, key):
        return [{"key": key, "deleted": self._store.forget(key)}]

    def move(self, old, new):
        return [{"key": new, "moved": self._store.move(old, new)}]

    def clear(self):
        return [{"deleted": self._store.clear()}]

    def settle(self, site, names):
        self._store.settle(site, names)
        return []

    def vacuum(self, older=None):
        gone = 0 if older is None else self._store.drop_history(int(older))
        return [{"changes": gone, "freed": self._store.vacuum()}]

    # Export and import

    def dump(self, table, after=0):
        return export.dump(self._store, table, after)

    def load(self, table, rows, replace=False):
        added, altered = export.load(self._store, table, rows, replace)
        return [{"added": added, "altered": altered}]

    def empty(self):
        export.empty(self._store)
        return []

    def commit(self):
        self._store.commit()
        return []

    def abandon(self):
        self._store.abandon()
        return []

    # Of the host itself

    def drift(self, keys=None):
        return list(survey(self._store, self._host, keys))

    def rollback(self, run, task=None, check=False, force=False):
        undo = Undo(self._store, self._host, self._about, check, force)
        return list(undo.rollback(self._store.find_run(run), task))

    def prune(self, keys, check=False):
        return list(Undo(self._store, self._host, self._about, check).prune(keys))


def operate(store, op, args, host=None, about=None):
    """Perform one operation and return its rows. Raises StoreError, also for one that there is not."""
    return Operations(store, host, about)._perform(op, args)
