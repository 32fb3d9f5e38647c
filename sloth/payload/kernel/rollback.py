"""Takes back what was done: a run, a task of it, or what a site no longer names; it refuses what it cannot."""

import os

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.converge import apply_and_verify, keep_contents, recorded_call
from sloth.payload.kernel.diff import differences
from sloth.payload.kernel.errors import ArgumentError, Failed, NotConverged, StoreError
from sloth.payload.kernel.findings import Restored, RestoreStatus
from sloth.payload.kernel.redact import NOTHING, View
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.replay import replay, revive
from sloth.payload.kernel.resource import Action, Args, Change, Resource, difference
from sloth.payload.kernel.status import Reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable, Iterator

    from sloth.payload.kernel.findings import HistoryEntry
    from sloth.payload.kernel.record import Context, Record, RecordedCall
    from sloth.payload.kernel.redact import Redacted
    from sloth.payload.kernel.values import Arguments, Attributes, Diff, JsonObject
    from sloth.payload.lib.host import Host
    from sloth.payload.state.store import Store

FORGET = "sloth-runner state rm forgets it"


class Rollback(object):
    """One taking back, of several changes."""

    def __init__(
        self, store: "Store", host: "Host", context: "Context", check: "bool" = False, force: "bool" = False
    ) -> "None":
        """context: on whose behalf; check: report what would be done; force: also what was changed since."""
        self.store = store
        self.host = host
        self.context = context
        self.check = check
        self.force = force
        self._predicted: "dict[str, Attributes | None]" = {}  # in a check: by place or key, redacted
        self._removed: "set[str]" = set()  # in a check: paths at which nothing would be left

    def rollback(self, run: "str", task: "str | None" = None) -> "Iterator[Restored]":
        """Take back every change of `run` (of its `task`), the last one first."""
        for entry in self.store.history.select(limit=-1, run=run, task=task):
            yield self._restore_one(entry)

    def prune(self, keys: "Iterable[str]") -> "Iterator[Restored]":
        """Remove what the orphaned records of these keys have created."""
        for key in keys:
            record = self.store.records.get(key)
            if record is None or record.orphaned is None:
                yield Restored(key=key, status=RestoreStatus.REFUSED, msg="it is managed again")
                continue
            yield self._prune_one(record)

    def plan(self, records: "Iterable[Record]") -> "Iterator[Restored]":
        """Report what prune() would do of records that are orphaned now; to be used with check."""
        for record in records:
            yield self._prune_one(record)

    def _restore_one(self, entry: "HistoryEntry") -> "Restored":
        target = _Target(entry.key, entry.task, entry.call)
        return self._guarded(target, lambda: self._restore(target, entry))

    def _prune_one(self, record: "Record") -> "Restored":
        target = _Target(record.key, record.task, None)
        return self._guarded(target, lambda: self._remove(record))

    def _guarded(self, target: "_Target", work: "Callable[[], _Done]") -> "Restored":
        """Do one piece of work; whatever goes wrong with it is its result."""
        self.host.warnings = []
        status = RestoreStatus.PLANNED if self.check else RestoreStatus.DONE
        diff: "Diff" = {}
        msg = ""
        try:
            done = work()
            diff, msg = done.diff.data or {}, done.msg
        except NotConverged as error:
            status, msg = RestoreStatus.FAILED, error.message
        except Failed as error:
            status = RestoreStatus.REFUSED
            msg = error.message + ("; hint: " + error.hint if error.hint else "")
        except OSError as error:
            status, msg = RestoreStatus.FAILED, "%s: %s" % (error.strerror, error.filename)
        except StoreError:
            raise
        except Exception as error:  # a defect of one module must not keep the others from being taken back
            status, msg = RestoreStatus.FAILED, "%s: %s" % (type(error).__name__, error)
        if not self.check:
            self.host.changed()
            self.store.commit()
        msg = self.store.redactor.text(msg or "; ".join(self.host.warnings))
        return Restored(key=target.key, task=target.task, status=status, msg=msg, diff=diff)

    # A run's change

    def _restore(self, target: "_Target", entry: "HistoryEntry") -> "_Done":
        if entry.reason is Reason.RUN or self._is_action(entry.key):
            raise Failed("an action was done, and cannot be undone")
        resource = self._replayed(target.call)
        view = self._view(resource, target.call)
        place = resource.place() or entry.key
        now: "Attributes | None" = None
        expected = entry.after
        if self.check and place in self._predicted:
            seen = self._predicted[place]
            if seen is not None and expected is not None:  # another resource may have seen less of the same file
                expected = dict((name, value) for name, value in expected.items() if name in seen)
        else:
            now = resource.observe()
            seen = view.attributes(now).data
        changed = difference(seen, expected)
        if changed and not self.force:
            how = ", ".join(changed)
            if "" in changed:
                how = "it no longer exists" if seen is None else "it exists again"
            raise Failed("it has changed since: %s" % how, hint="--force restores it all the same")
        if now is None:  # or in a check: what would be there after what comes before
            now = revive(seen, self.store)
        if resource.files(entry.before):
            done = self._restore_files(target, resource, view, entry, now)
        else:
            done = self._by_way_back(target, resource, view, entry, now)
        self._predicted[place] = entry.before
        return done

    def _restore_files(
        self, target: "_Target", resource: "Resource", view: "View", entry: "HistoryEntry", now: "Attributes | None"
    ) -> "_Done":
        former = dict((path, revive(found, self.store)) for path, found in resource.files(entry.before).items())
        self._check_files(former, view)
        change = Change(now, revive(entry.before, self.store))
        wanted = change.after
        if wanted is not None and resource.volatile:
            change = Change(now, dict((name, wanted[name]) for name in wanted if name not in resource.volatile))
        diff = view.diff(differences(change))
        if self.check:
            return _Done(diff)
        keep_contents(self.store, view, now)
        apply_and_verify(resource, change, view, self.store, self.context, lambda change: self._put_files(former))
        self._remember(target, Reason.ROLLBACK, view.attributes(now), entry.before, diff, target.call, entry.was)
        return _Done(diff)

    def _put_files(self, former: "dict[str, Attributes | None]") -> "None":
        # What is inside is removed before its directory, and comes back after it.
        for path in sorted((path for path in former if former[path] is None), reverse=True):
            self.host.restore(path, None)
        for path in sorted(path for path in former if former[path] is not None):
            self.host.restore(path, former[path])

    def _by_way_back(
        self, target: "_Target", resource: "Resource", view: "View", entry: "HistoryEntry", now: "Attributes | None"
    ) -> "_Done":
        back = resource.way_back(entry.before, entry.after)
        if isinstance(back, tuple):
            return self._call(target, back, Reason.ROLLBACK, entry.was)
        wanted = revive(back, self.store)
        change = Change(now, wanted)
        for name in change.names:
            value = (wanted or {}).get(name)
            if isinstance(value, Content):
                value.data()  # raises Failed when it is not kept
        diff = view.diff(differences(change))
        if self.check or not change.names:
            return _Done(diff)
        keep_contents(self.store, view, now)
        apply_and_verify(resource, change, view, self.store, self.context)
        self._remember(target, Reason.ROLLBACK, view.attributes(now), entry.before, diff, target.call, entry.was)
        return _Done(diff)

    def _call(
        self, target: "_Target", back: "tuple[str, Arguments]", reason: "Reason", was: "JsonObject | None"
    ) -> "_Done":
        """Take back by another call, which may be of another module; its record is this one's."""
        name, args = back
        cls = find(name)
        assert issubclass(cls, Resource)
        try:
            other = cls(Args(cls.check(args)), self.host)
        except ArgumentError as error:
            raise Failed("it cannot be taken back: %s" % error.message)
        place = other.place()
        if self.check and place is not None and place in self._predicted:
            return _Done(NOTHING, "by %s" % name)
        before = other.observe()
        change = Change(before, other.desired(before))
        view = self._view(other, target.call)
        diff = view.diff(differences(change))
        if self.check:
            return _Done(diff, "by %s" % name)
        after = before
        if change.names:
            keep_contents(self.store, view, before)
            after, _ = apply_and_verify(other, change, view, self.store, self.context)
        call = recorded_call(other, self.store.redactor)
        self._remember(target, reason, view.attributes(before), view.attributes(after).data, diff, call, was)
        return _Done(diff)

    def _is_action(self, key: "str") -> "bool":
        module, _, rest = key.partition(":")
        try:
            return issubclass(find("%s.%s" % (module, rest.partition(":")[0])), Action)
        except ArgumentError:
            return False

    # What a site no longer names

    def _remove(self, record: "Record") -> "_Done":
        if not record.is_created:
            raise Failed("it existed before sloth-runner managed it", hint=FORGET)
        first = record.before_first_change
        calls: "list[RecordedCall | None]" = [*(record.calls or ())] or [None]
        for call in calls:
            resource = self._replayed(call)
            target = _Target(record.key, record.task, call)
            back = resource.removal(first)
            if back is not None:
                return self._call(target, back, Reason.PRUNED, None)
            if resource.files({}) and not resource.partial and not resource.removes:
                return self._remove_files(target, resource, first)
        why = "what it did cannot be removed" if first is None else "it existed before sloth-runner managed it"
        raise Failed(why, hint=FORGET)

    def _remove_files(self, target: "_Target", resource: "Resource", first: "Attributes | None") -> "_Done":
        view = self._view(resource, target.call)
        created = [path for path, attributes in resource.files(first).items() if attributes is None]
        if not created:
            raise Failed("the file existed before sloth-runner managed it", hint=FORGET)
        now = resource.observe()
        diff = view.diff(differences(Change(now, None)))
        self._check_files(dict.fromkeys(created), view)
        if self.check:
            return _Done(diff)
        keep_contents(self.store, view, now)
        for path in sorted(created, reverse=True):
            self.host.restore(path, None)
        self.host.changed()
        self._remember(target, Reason.PRUNED, view.attributes(now), None, diff, target.call, None)
        return _Done(diff)

    # Shared steps

    def _replayed(self, call: "RecordedCall | None") -> "Resource":
        resource, _ = replay(call, self.host, self.store)
        assert isinstance(resource, Resource)
        return resource

    def _view(self, resource: "Resource", call: "RecordedCall | None") -> "View":
        return View(resource, self.store.redactor, call is not None and call.sensitive)

    def _check_files(self, wanted: "dict[str, Attributes | None]", view: "View") -> "None":
        """Raise Failed, before anything is touched, when not all of these paths can be restored."""
        # A directory comes before what is in it, so that the innermost is looked at first.
        for path in sorted(wanted, reverse=True):
            attributes = wanted[path]
            if attributes is None:
                left = [name for name in _inside(path) if os.path.join(path, name) not in self._removed]
                if left:
                    raise Failed("%s is not empty: it contains %s" % (path, left[0]))
                self._removed.add(path)
            else:
                _check_file(self.host, path, attributes, view)

    def _remember(
        self,
        target: "_Target",
        reason: "Reason",
        before: "Redacted",
        after: "Attributes | None",
        diff: "Redacted",
        call: "RecordedCall | None",
        was: "JsonObject | None",
    ) -> "None":
        """Add it to the history, and make the record what it was."""
        context = self.context.replace(task=target.task or "")
        text = None if call is None else call.json
        old = self.store.records.get(target.key)
        shown = self.store.redactor.redact(after)
        self.store.history.add(target.key, reason, before, shown, diff, context, text, old)
        self.store.records.restore(target.key, was)


class _Target(object):
    """What is to be taken back: a key, the task that it belongs to, and the call that made it."""

    __slots__ = ("call", "key", "task")

    def __init__(self, key: "str", task: "str | None", call: "RecordedCall | None") -> "None":
        self.key = key
        self.task = task
        self.call = call


class _Done(object):
    """What a piece of work has done (or would): how it differs, and a remark."""

    __slots__ = ("diff", "msg")

    def __init__(self, diff: "Redacted", msg: "str" = "") -> "None":
        self.diff = diff
        self.msg = msg


def _inside(path: "str") -> "list[str]":
    """Return the names in a directory; [] for anything else."""
    return os.listdir(path) if os.path.isdir(path) and not os.path.islink(path) else []


def _check_file(host: "Host", path: "str", attributes: "Attributes", view: "View") -> "None":
    """Raise Failed when what was at `path` was not kept."""
    kind = attributes.get("type", "file")
    if kind == "file":
        if "content" not in attributes:
            raise Failed("the content of %s was not kept" % path)
        if view.sensitive:
            raise Failed("the content of %s was not kept: it had secrets in it" % path)
        try:
            attributes["content"].data()
        except Failed:
            raise Failed("the content of %s was not kept: it is too large, or too long ago" % path)
    elif kind == "directory" and not os.path.lexists(path):
        raise Failed("what was in the directory %s was not kept" % path)
    elif kind not in ("link", "directory"):
        raise Failed("%s was a %s" % (path, kind))
