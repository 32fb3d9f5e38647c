"""What rollback and prune share: one piece of work at a time, whatever goes wrong with it is its result."""

import os

from sloth.payload.kernel.diff import differences
from sloth.payload.kernel.errors import ArgumentError, Failed, NotConverged, StoreError
from sloth.payload.kernel.findings import Restored, RestoreStatus
from sloth.payload.kernel.ownership import claim_again
from sloth.payload.kernel.record import Context
from sloth.payload.kernel.redact import NOTHING, view_of
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.replay import replay, without_unknown
from sloth.payload.kernel.resource import Args, Change, Resource
from sloth.payload.kernel.status import Reason
from sloth.payload.kernel.step import apply_and_verify, has_changed, keep_contents, recorded_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Sequence

    from sloth.payload.kernel.record import RecordedCall
    from sloth.payload.kernel.redact import Redacted, View
    from sloth.payload.kernel.values import Arguments, Attributes, Diff, JsonObject
    from sloth.payload.lib.host import Host
    from sloth.payload.state.store import Store


class TakeBack(object):
    """Takes changes back."""

    removes_only_empty = False  # whether directories that were removed are known to have been empty

    def __init__(
        self, store: "Store", host: "Host", context: "Context", check: "bool" = False, force: "bool" = False
    ) -> "None":
        """context: on whose behalf; check: report what would be done; force: also what was changed since."""
        self.store = store
        self.host = host
        self.context = context
        self.check = check
        self.force = force
        self._predicted = Predicted()
        self._removed: "set[str]" = set()  # in a check: paths at which nothing would be left
        self._coming: "set[str]" = set()  # in a check: directories that would be there again

    def _guarded(self, target: "Target", work: "Callable[[], Done]") -> "Restored":
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
            status, msg = RestoreStatus.FAILED, _of_system(error)
        except StoreError:
            raise
        except Exception as error:  # a defect of one module must not keep the others from being taken back
            status, msg = RestoreStatus.FAILED, "%s: %s" % (type(error).__name__, error)
        if not self.check:
            self.host.changed()
            self.store.commit()
        msg = self.store.redactor.text(msg or "; ".join(self.host.warnings))
        return Restored(key=target.key, task=target.task, status=status, msg=msg, diff=diff)

    def _call(
        self, target: "Target", back: "tuple[str, Arguments]", reason: "Reason", was: "JsonObject | None"
    ) -> "Done":
        """Take back by another call, which may be of another module; its record is this one's."""
        name, args = back
        cls = find(name)
        assert issubclass(cls, Resource)
        try:
            other = cls(Args(cls.check(without_unknown(args))), self.host)
        except ArgumentError as error:
            raise Failed("it cannot be taken back: %s" % error.message)
        place = other.place()
        if self.check and place is not None and place in self._predicted:
            return Done(NOTHING, "by %s" % name)
        before = other.observe()
        change = Change(before, other.desired(before))
        view = self._view(other, target)
        diff = view.diff(differences(change))
        if change.names:
            self._check_company(other, change)
        if self.check:
            return Done(diff, "by %s" % name)
        after = before
        if change.names:
            keep_contents(self.store, view, before)
            after = self._apply(target, other, change, view)
        masked = target.call is not None and target.call.masked
        call = recorded_call(other, self.store.redactor, Context(masked=masked))
        self._remember(target, reason, view.former(before), view.former(after).data, diff, call, was)
        return Done(diff)

    def _apply(
        self,
        target: "Target",
        resource: "Resource",
        change: "Change",
        view: "View",
        apply: "Callable[[Change], Attributes | None] | None" = None,
    ) -> "Attributes | None":
        """Apply and verify a change, as apply_and_verify() does; return what is there now."""
        checksum = self._mark(target)
        try:
            after, _ = apply_and_verify(resource, change, view, self.store, self.context, apply)
        except Exception:
            if checksum and not has_changed(resource, change.before):
                self.store.records.set_checksum(target.key, checksum)
            raise
        return after

    def _mark(self, target: "Target") -> "str":
        """Mark a record, durably, before what it describes is changed; return its checksum, "" if there is none.

        A process that is killed after the change leaves a record of what was there before it. The next run must not
        take that for a change that somebody else has made.
        """
        record = self.store.records.get(target.key)
        if record is None or not record.checksum:
            return ""
        self.store.records.set_checksum(target.key, "")
        self.store.commit()
        return record.checksum

    def _check_company(self, resource: "Resource", change: "Change") -> "None":
        """Hook: raise Failed when `change` of `resource` would remove what must stay."""

    def _replayed(self, call: "RecordedCall | None", key: "str") -> "Resource":
        resource, _ = replay(call, self.host, self.store, key)
        assert isinstance(resource, Resource)
        for name in resource.guards:  # what they look for may be what it has made
            setattr(resource.args, name, None)
        return resource

    def _view(self, resource: "Resource", target: "Target") -> "View":
        view = view_of(resource, target.call, self.store)
        for attributes in target.recorded:
            view.hide(attributes)
        return view

    def _check_files(self, wanted: "dict[str, Attributes | None]", view: "View", was_empty: "bool" = False) -> "None":
        """Raise Failed, before anything is touched, when not all of these paths can be restored.

        was_empty: a directory that was removed had nothing in it; pruning and rollbacks remove no other.
        """
        # A directory comes before what is in it, so that the innermost is looked at first.
        for path in sorted(wanted, reverse=True):
            attributes = wanted[path]
            if attributes is None:
                left = [name for name in _inside(path) if self._canonical(path, name) not in self._removed]
                if left:
                    raise Failed("%s is not empty: it contains %s" % (path, left[0]))
                self._removed.add(self.host.canonical(path))
            else:
                _check_file(path, attributes, view, was_empty or self.removes_only_empty)
                parent = os.path.dirname(path)
                is_coming = parent in wanted or self.host.canonical(parent) in self._coming
                if attributes.get("type") == "directory":
                    if self.check:
                        self._coming.add(self.host.canonical(path))
                elif not is_coming and not os.path.isdir(parent):
                    raise Failed("the directory %s does not exist" % parent)

    def _canonical(self, directory: "str", name: "str") -> "str":
        return self.host.canonical(os.path.join(directory, name))

    def _remember(
        self,
        target: "Target",
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
        self._restore_record(target.key, was)
        if reason is not Reason.PRUNED and was is None:
            self.store.records.release(target.key)

    def _restore_record(self, key: "str", was: "JsonObject | None") -> "None":
        """Make a record what it was before a change; None: there was none."""
        self.store.records.restore(key, was)
        if was is not None:
            claim_again(self.store, self.host, key)


class Predicted(object):
    """What would be there after what a check would have taken back so far."""

    def __init__(self) -> "None":
        self._seen: "dict[str, Attributes | None]" = {}  # by place, or the key of what has none; redacted
        self._things: "dict[str, set[str]]" = {}  # of which files or other things that is

    def __contains__(self, place: "str") -> "bool":
        return place in self._seen

    def __getitem__(self, place: "str") -> "Attributes | None":
        return self._seen[place]

    def is_unsure(self, place: "str", things: "set[str]") -> "bool":
        """Return whether something else of the same things would have been taken back."""
        return place not in self._seen and any(map(things.intersection, self._things.values()))

    def add(self, place: "str", before: "Attributes | None", things: "set[str]") -> "None":
        """Note what would be at a place, and that nothing else is known of these things then."""
        for other in [other for other in self._seen if not things.isdisjoint(self._things[other])]:
            del self._seen[other]
        self._seen[place] = before
        self._things[place] = things


class Target(object):
    """What is to be taken back: a key, the task that it belongs to, the call that made it, and records of it."""

    __slots__ = ("call", "key", "recorded", "task")

    def __init__(
        self,
        key: "str",
        task: "str | None",
        call: "RecordedCall | None",
        recorded: "Sequence[Attributes | None]" = (),
    ) -> "None":
        self.recorded = recorded
        self.key = key
        self.task = task
        self.call = call


class Done(object):
    """What a piece of work has done (or would): how it differs, and a remark."""

    __slots__ = ("diff", "msg")

    def __init__(self, diff: "Redacted", msg: "str" = "") -> "None":
        self.diff = diff
        self.msg = msg


def _of_system(error: "OSError") -> "str":
    """Return what the system reports, and of which file; not every such error has a number and a name."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else "%s: %s" % (error.strerror, error.filename)


def _inside(path: "str") -> "list[str]":
    """Return the names in a directory; [] for anything else."""
    return os.listdir(path) if os.path.isdir(path) and not os.path.islink(path) else []


def _check_file(path: "str", attributes: "Attributes", view: "View", was_empty: "bool") -> "None":
    """Raise Failed when what was at `path` was not kept."""
    kind = attributes.get("type", "file")
    if kind == "file":
        if "content" not in attributes:
            raise Failed("the content of %s was not kept" % path)
        try:
            attributes["content"].data()
        except Failed:
            why = "it had secrets in it" if view.sensitive else "it is too large, or too long ago"
            raise Failed("the content of %s was not kept: %s" % (path, why))
    elif kind == "directory" and not was_empty and not os.path.lexists(path):
        raise Failed("what was in the directory %s was not kept" % path)
    elif kind not in ("link", "directory"):
        raise Failed("%s was a %s" % (path, kind))
