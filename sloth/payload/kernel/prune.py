"""Removes what a site has created and no longer names; what something managed needs is left."""

from sloth.payload.kernel.diff import differences
from sloth.payload.kernel.errors import Failed
from sloth.payload.kernel.findings import Restored, RestoreStatus
from sloth.payload.kernel.ownership import Ownership
from sloth.payload.kernel.resource import Change, Resource, difference
from sloth.payload.kernel.status import Reason
from sloth.payload.kernel.step import keep_contents
from sloth.payload.kernel.take_back import Done, TakeBack, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Iterator

    from sloth.payload.kernel.record import Record, RecordedCall
    from sloth.payload.kernel.values import Attributes


FORGET = "sloth-runner state rm forgets it"


class Prune(TakeBack):
    """Removes orphans; with `check` it reports what it would do."""

    _ownership: "Ownership | None" = None
    _planned: "tuple[str, ...]" = ()  # keys of records that are orphaned, and perhaps not marked as such

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
        found = list(records)
        self._planned = tuple(record.key for record in found)
        for record in found:
            yield self._prune_one(record)

    def _prune_one(self, record: "Record") -> "Restored":
        target = Target(record.key, record.task, None)
        return self._guarded(target, lambda: self._remove(record))

    def _remove(self, record: "Record") -> "Done":
        self.store.freezes.refuse(record.key)
        if not record.is_created:
            raise Failed("it existed before sloth-runner managed it", hint=FORGET)
        first = record.before_first_change
        owners = self._check_needs(record)
        calls: "list[RecordedCall | None]" = [*(record.calls or ())] or [None]
        for call in calls:
            resource = self._replayed(call, record.key)
            target = Target(record.key, record.task, call, (record.desired, record.observed))
            back = resource.removal(first)
            if back is not None and owners:
                raise Failed("a part of it is managed by %s" % owners[0])
            if back is not None:
                return self._call(target, back, Reason.PRUNED, None)
            if resource.files({}) and not resource.partial and not resource.removes:
                return self._remove_files(target, resource, first)
        why = "what it did cannot be removed" if first is None else "it existed before sloth-runner managed it"
        raise Failed(why, hint=FORGET)

    def _owned(self) -> "Ownership":
        """Return who manages what now; what is orphaned has no say."""
        if self._ownership is None:
            orphaned = [record.key for record in self.store.records.select(orphaned=True)]
            self._ownership = Ownership(self.store, self.host, [*orphaned, *self._planned])
        return self._ownership

    def _check_needs(self, record: "Record") -> "list[str]":
        """Return who manages parts of what `record` describes. Raises Failed when something managed needs it."""
        ownership = self._owned()
        claims = ownership.claims_of(record)
        for thing in claims:
            user = ownership.user(thing)
            if user is not None:
                raise Failed("%s needs it" % user)
        return [owner for owner in (ownership.owner(thing) for thing in claims) if owner is not None]

    def _check_company(self, resource: "Resource", change: "Change") -> "None":
        """Raise Failed when removing something would remove what is managed, too."""
        ownership = self._owned()
        if resource.partial and change.after is not None:
            for key in ownership.parts_in(resource.place() or ""):
                if self._would_drift(key, resource, change):
                    raise Failed("%s needs it: both describe the same text" % key)
        for thing in resource.takes_along():
            user = ownership.owner(thing) or ownership.user(thing)
            if user is not None:
                raise Failed("%s would be removed, too: %s needs it" % (thing.partition(":")[2], user))

    def _would_drift(self, key: "str", resource: "Resource", change: "Change") -> "bool":
        """Return whether a record of the same file is as desired before `change`, and not after it."""
        record = self.store.records.get(key)
        after = dict(change.before or {}, **(change.after or {}))  # what it does not name stays as it is
        for call in (record.calls if record is not None else None) or ():
            try:
                other = self._replayed(call, key)
                if other.place() != resource.place():
                    continue
                was_right = not difference(change.before, other.desired(change.before))
                if was_right and difference(after, other.desired(after)):
                    return True
            except Failed:  # it is not as desired, whatever happens to this one
                continue
        return False

    def _remove_files(self, target: "Target", resource: "Resource", first: "Attributes | None") -> "Done":
        view = self._view(resource, target)
        created = [path for path, attributes in resource.files(first).items() if attributes is None]
        if not created:
            raise Failed("the file existed before sloth-runner managed it", hint=FORGET)
        ownership = self._owned()
        owners = dict((path, ownership.path_user(path)) for path in created)
        created = [path for path in created if owners[path] is None]
        if not created:
            raise Failed("%s needs it" % next(owner for owner in owners.values() if owner is not None))
        now = resource.observe()
        diff = view.diff(differences(Change(now, None)))
        self._check_files(dict.fromkeys(created), view)
        if self.check:
            return Done(diff)
        keep_contents(self.store, view, now)
        self._mark(target)
        for path in sorted(created, reverse=True):
            self.host.restore(path, None)
        self._remember(target, Reason.PRUNED, view.former(now), None, diff, target.call, None)
        return Done(diff)
