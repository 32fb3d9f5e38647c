"""Takes back what was done: a run, a task of it, or what a site no longer names; it refuses what it cannot."""

import os

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.converge import NotConverged, described, make
from sloth.payload.kernel.diff import Seal, difference_of
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.replay import recalled, revived
from sloth.payload.kernel.resource import Action, Args, ArgumentError, Change, Failed, difference
from sloth.payload.lib import files
from sloth.payload.state.store import StoreError

DONE, PLANNED, REFUSED, FAILED = "done", "planned", "refused", "failed"


class Undo(object):
    """One taking back, of several changes; `about` says which run does it, for the records."""

    def __init__(self, store, host, about, check=False, force=False):
        """check: say what would be done; force: also what was changed since."""
        self.store = store
        self.host = host
        self.about = about
        self.check = check
        self.force = force
        self._ahead = {}  # in a check: place or key -> what would be there, sealed
        self._gone = set()  # in a check: paths at which nothing would be left

    def rollback(self, run, task=None):
        """Yield a dict (key, status, msg, diff, task, place) for every change of `run` (of its `task`), last first."""
        for row in self.store.history(limit=-1, run=run, task=task):
            yield self._guarded(row, self._restore)

    def prune(self, keys):
        """Yield a dict, as rollback() does, for the orphaned record of every key: what it made is removed."""
        for key in keys:
            record = self.store.get(key)
            if record is None or record["orphaned"] is None:
                yield {"key": key, "status": REFUSED, "msg": "a site names it again", "diff": {}}
                continue
            yield self._guarded(record, self._remove)

    def orphans(self, records):
        """The same for records that are orphaned now, in a check: nothing is done."""
        for record in records:
            yield self._guarded(record, self._remove)

    def _guarded(self, row, work):
        status = PLANNED if self.check else DONE
        told = {"key": row["key"], "task": row["task"], "status": status, "msg": "", "diff": {}}
        self.host.warnings = []
        try:
            told.update(work(row) or {})
        except NotConverged as error:
            told.update(status=FAILED, msg=error.message)
        except Failed as error:
            hint = "; hint: " + error.hint if error.hint else ""
            told.update(status=REFUSED, msg=error.message + hint)
        except OSError as error:
            told.update(status=FAILED, msg="%s: %s" % (error.strerror, error.filename))
        except StoreError:
            raise
        except Exception as error:  # a defect of one module must not keep the others from being taken back
            told.update(status=FAILED, msg="%s: %s" % (type(error).__name__, error))
        if self.host.warnings and not told["msg"]:
            told["msg"] = "; ".join(self.host.warnings)
        if not self.check:
            self.host.changed()
            self.store.commit()
        told["msg"] = self.store.mask.text(told["msg"])
        return told

    # A run's change

    def _restore(self, row):
        if row["reason"] == "run" or self._is_action(row["key"]):
            raise Failed("an action was done, and cannot be undone")
        resource, _ = recalled(row["call"], self.host, self.store)
        seal = Seal(resource, self.store, row["call"]["sealed"])
        after, now = row["after"], None
        where = resource.place() or row["key"]
        expected = after
        if self.check and where in self._ahead:
            seen = self._ahead[where]
            if seen is not None and after is not None:  # another resource may have seen less of the same file
                expected = dict((name, value) for name, value in after.items() if name in seen)
        else:
            now = resource.observe()
            seen = seal(now)
        changed = difference(seen, expected)
        if changed and not self.force:
            how = ", ".join(changed) if "" not in changed else "it is gone" if seen is None else "it is there again"
            raise Failed("it has changed since: %s" % how, hint="--force restores it all the same")
        bring_back = self._restore_files if resource.files(row["before"]) else self._by_way_back
        diff = bring_back(resource, seal, row, now, seen)
        self._ahead[where] = row["before"]
        return diff

    def _restore_files(self, resource, seal, row, now, seen):
        before = row["before"]
        paths = resource.files(before)
        former = dict((path, revived(attributes, self.store)) for path, attributes in paths.items())
        self._check_files(former, seal)
        diff = difference_of(Change(self._there(now, seen), revived(before, self.store)), seal)
        if self.check:
            return {"diff": diff}
        self._keep(now, seal)
        # What is inside goes before its directory, and comes back after it.
        for path in sorted((path for path in former if former[path] is None), reverse=True):
            restore_file(path, None)
        for path in sorted(path for path in former if former[path] is not None):
            restore_file(path, former[path])
        self.host.changed()
        left = difference(seal(resource.observe()), before) if before is not None else []
        if [name for name in left if name not in resource.volatile]:
            raise NotConverged("it is not as it was: %s" % ", ".join(left))
        self._remember(row, "rollback", seal(now), before, diff, row["call"], row["was"])
        return {"diff": diff}

    def _by_way_back(self, resource, seal, row, now, seen):
        back = resource.way_back(row["before"], row["after"])
        if isinstance(back, tuple):
            return self._call(back, row, "rollback", row["was"])
        wanted = revived(back, self.store)
        change = Change(self._there(now, seen), wanted)
        for name in change.names:
            if isinstance(wanted.get(name), Content):
                wanted[name].data()  # it says so when it is not kept
        diff = difference_of(change, seal)
        if self.check or not change.names:
            return {"diff": diff}
        self._keep(now, seal)
        make(resource, change, seal, self.store, self.about)
        self._remember(row, "rollback", seal(now), row["before"], diff, row["call"], row["was"])
        return {"diff": diff}

    def _there(self, now, seen):
        """What is there, or in a check would be after what comes before."""
        return now if now is not None else revived(seen, self.store)

    def _call(self, back, row, reason, was):
        """Take back by another call, which may be of another module; its record is this one's."""
        name, args = back
        cls = find(name)
        try:
            other = cls(Args(cls.check(args)), self.host)
        except ArgumentError as error:
            raise Failed("it cannot be taken back: %s" % error.message)
        if self.check and other.place() in self._ahead:
            return {"msg": "by %s" % name}
        before = other.observe()
        change = Change(before, other.desired(before))
        seal = Seal(other, self.store, bool(row.get("call") and row["call"]["sealed"]))
        diff = difference_of(change, seal)
        if self.check:
            return {"diff": diff, "msg": "by %s" % name}
        after = before
        if change.names:
            self._keep(before, seal)
            after, _ = make(other, change, seal, self.store, self.about)
        self._remember(row, reason, seal(before), seal(after), diff, described(other, self.store), was)
        return {"diff": diff}

    def _is_action(self, key):
        module, _, rest = key.partition(":")
        try:
            return issubclass(find("%s.%s" % (module, rest.partition(":")[0])), Action)
        except ArgumentError:
            return False

    # What a site no longer names

    def _remove(self, record):
        if not record["ours"]:
            raise Failed("it was there before sloth-runner came", hint="sloth-runner state rm forgets it")
        made = record["made"]
        for call in record["calls"] or (None,):
            resource, _ = recalled(call, self.host, self.store)
            row = dict(record, call=call)
            back = resource.removal(made)
            if back is not None:
                return self._call(back, row, "pruned", None)
            if resource.files({}) and not resource.partial and not resource.removes:
                return self._remove_files(resource, made, row)
        why = "what it did cannot be removed" if made is None else "it was there before sloth-runner came"
        raise Failed(why, hint="sloth-runner state rm forgets it")

    def _remove_files(self, resource, made, row):
        seal = Seal(resource, self.store, row["call"]["sealed"])
        was_there = resource.files(made)
        paths = [path for path, attributes in was_there.items() if attributes is None]
        if not paths:
            raise Failed("the file was there before sloth-runner came", hint="sloth-runner state rm forgets it")
        now = resource.observe()
        diff = difference_of(Change(now, None), seal)
        self._check_files(dict.fromkeys(paths), seal)
        if self.check:
            return {"diff": diff}
        self._keep(now, seal)
        for path in sorted(paths, reverse=True):
            restore_file(path, None)
        self.host.changed()
        self._remember(row, "pruned", seal(now), None, diff, row["call"], None)
        return {"diff": diff}

    # Records

    def _check_files(self, wanted, seal):
        """Raise Failed, before anything is touched, when restore_file() could not do it for all these paths."""
        # A directory comes before what is in it, so that the innermost is looked at first.
        for path in sorted(wanted, reverse=True):
            if wanted[path] is None:
                left = [name for name in _inside(path) if os.path.join(path, name) not in self._gone]
                if left:
                    raise Failed("%s is not empty: there is %s in it" % (path, left[0]))
                self._gone.add(path)
            else:
                _check_file(path, wanted[path], seal)

    def _keep(self, attributes, seal):
        for value in (attributes or {}).values():
            if isinstance(value, Content) and not seal.sealed:
                self.store.contents.keep(value)

    def _remember(self, row, reason, before, after, diff, call, was):
        key = row["key"]
        about = dict(self.about, task=row["task"])
        self.store.remember(key, reason, before, after, diff, about, call, self.store.look_up(key))
        self.store.restore(key, was)


def restore_file(path, attributes):
    """Make what is at `path` as `attributes` (revived; None: nothing) say. Raises Failed, OSError."""
    now = files.look(path, False)
    if attributes is None:
        if now is None:
            return
        if now["type"] == "directory":
            os.rmdir(path)
        else:
            os.unlink(path)
        return
    kind = attributes.get("type", "file")
    if now is not None and now["type"] != kind:
        restore_file(path, None)
        now = None
    if kind == "link":
        if now is None or now["target"] != attributes["target"]:
            temporary = "%s.sloth-%s" % (path, os.urandom(6).hex())
            os.symlink(attributes["target"], temporary)
            os.rename(temporary, path)
    elif kind == "directory":
        if now is None:
            os.makedirs(path)
        for inner, member in (attributes.get("inside") or {}).items():
            files.set_attributes(inner, _attributes(files.look(inner, False), member), False)
    elif "content" in attributes:
        files.replace(path, attributes["content"].chunks(), attributes.get("mode"))
    files.set_attributes(path, _attributes(files.look(path, False), attributes), False)


def _attributes(now, wanted):
    """The Change of owner, group and mode from what look() gave."""
    return Change(now, dict((name, wanted[name]) for name in ("owner", "group", "mode") if name in wanted))


def _inside(path):
    """The names in a directory; [] for anything else."""
    return os.listdir(path) if os.path.isdir(path) and not os.path.islink(path) else []


def _check_file(path, attributes, seal):
    """Raise Failed when what was at `path` was not kept."""
    now = files.look(path, False)
    kind = attributes.get("type", "file")
    if kind == "file":
        if "content" not in attributes:
            raise Failed("what %s held was not kept" % path)
        if seal.sealed:
            raise Failed("what %s held was not kept: it had secrets in it" % path)
        try:
            attributes["content"].data()
        except Failed:
            raise Failed("what %s held was not kept: it is too large, or too long ago" % path)
    elif kind == "directory" and now is None:
        raise Failed("what was in the directory %s was not kept" % path)
    elif kind not in ("link", "directory"):
        raise Failed("%s was a %s" % (path, kind))
