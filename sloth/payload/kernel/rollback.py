"""Takes back what a run, or a task of it, has changed; it refuses what it cannot."""

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.diff import differences
from sloth.payload.kernel.errors import ArgumentError, Failed, NotConverged
from sloth.payload.kernel.findings import Restored, RestoreStatus
from sloth.payload.kernel.ownership import PART
from sloth.payload.kernel.redact import NOTHING, View, holds_mask, is_keyed_hash
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.replay import replay, revive
from sloth.payload.kernel.resource import Action, Change, Resource, difference
from sloth.payload.kernel.status import Reason
from sloth.payload.kernel.step import keep_contents, record_action
from sloth.payload.kernel.take_back import Done, TakeBack, Target
from sloth.payload.kernel.variables import Variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Collection, Iterable, Iterator

    from sloth.payload.kernel.findings import HistoryEntry
    from sloth.payload.kernel.values import Attributes
    from sloth.payload.lib.host import Host


UNSURE = "unless it has changed since: a change of the same file comes before"


class Rollback(TakeBack):
    """The changes of one run. reason: that of what it adds to the history."""

    reason = Reason.ROLLBACK
    _may_be_back = True  # whether what is as it was before needs nothing any more
    _entries: "Collection[HistoryEntry]" = ()  # the changes that are taken back

    def rollback(self, run: "str", task: "str | None" = None, site: "str | None" = None) -> "Iterator[Restored]":
        """Take back every change of `run` (of its `task`, and made under the name `site`), the last one first.

        After a whole run, what its handlers did for changes that are taken back is done again: a daemon must read the
        former configuration, too. Until then the handlers are owed to the next run of the site: a killed rollback does
        not lose them, nor are those lost whose calls cannot be made again here.
        """
        entries = [
            entry
            for entry in self.store.history.select(limit=-1, run=run, task=task)
            if site is None or entry.site == site
        ]
        self._entries = entries
        handlers = set() if task else set(name for entry in entries for name in notified_by(entry))
        due: "set[str]" = set()
        for entry in entries:
            if _is_of(entry, handlers):
                continue
            if entry.reason is not Reason.SUPERSEDED:
                owed = self._owe(entry) if not task else []
                restored = self._restore_one(entry)
                if restored.status in (RestoreStatus.DONE, RestoreStatus.PLANNED):
                    due.update(notified_by(entry))
                elif restored.status is RestoreStatus.REFUSED:  # nothing was touched
                    self.store.handlers.settle(entry.site or "", owed)
                yield restored
            elif not self.check:  # nothing was changed on the host: only the record comes back
                self._restore_record(entry.key, entry.was)
        left: "set[str]" = set()
        for entry in reversed(entries):
            if _is_of(entry, handlers):
                restored = self._run_again(entry) if entry.task in due else self._restore_one(entry)
                if restored.status in (RestoreStatus.REFUSED, RestoreStatus.FAILED):
                    left.add(entry.task or "")
                yield restored
        if not task:
            for restored in self._settle(entries, due, left):
                yield restored

    def _owe(self, entry: "HistoryEntry") -> "list[str]":
        """Remember that the handlers of a change must follow its being taken back; return those that are new."""
        names = notified_by(entry)
        if self.check or not names or not entry.site:
            return []
        context = self.context.replace(site=entry.site, task=entry.task or "")
        fresh = self.store.handlers.notify(names, context, entry.key)
        if fresh:
            self.store.commit()
        return fresh

    def _settle(
        self, entries: "list[HistoryEntry]", due: "Collection[str]", left: "Collection[str]"
    ) -> "Iterator[Restored]":
        """Forget the handlers that have run again; report those that did nothing here which could be done again."""
        sites = dict((name, entry.site or "") for entry in entries for name in notified_by(entry))
        did = set(entry.task for entry in entries if entry.reason is Reason.RUN)
        for name in sorted(due):
            if name in did and name not in left and not self.check:
                self.store.handlers.settle(sites[name], [name])
            elif name not in did:
                msg = "it made no calls here that could be made again; the next run of its site runs it"
                yield Restored(key="handler:%s" % name, status=RestoreStatus.REFUSED, msg=msg, handler=name)
        if not self.check:
            self.store.commit()

    def _run_again(self, entry: "HistoryEntry") -> "Restored":
        target = Target(entry.key, entry.task, entry.call)
        restored = self._guarded(target, lambda: self._act(target))
        return restored.replace(handler=entry.task or "")

    def _act(self, target: "Target") -> "Done":
        if target.call is None or any(map(is_keyed_hash, target.call.args.values())):
            raise Failed(
                "what the handler did had secrets in it, which are not kept", hint="the next run of its site runs it"
            )
        if any(map(is_keyed_hash, target.call.environment.values())):
            raise Failed("what the handler did had secrets in its environment", hint="the next run of its site runs it")
        action, _ = replay(target.call, self.host, self.store, target.key)
        assert isinstance(action, Action)
        needless = action.guard()
        if self.check or needless:
            return Done(NOTHING, needless)
        try:
            with Variables(target.call.environment):
                values = action.run()
        except Failed as error:
            raise NotConverged(error.message, error.hint)
        record_action(self.store, target.key, values, self.context.replace(task=target.task or ""), target.call)
        return Done(NOTHING)

    def _restore_one(self, entry: "HistoryEntry") -> "Restored":
        target = Target(entry.key, entry.task, entry.call, (entry.before, entry.after))
        return self._guarded(target, lambda: self._restore(target, entry))

    # A run's change

    def _restore(self, target: "Target", entry: "HistoryEntry") -> "Done":
        if entry.reason is Reason.RUN or _is_action(entry.key):
            raise Failed("an action was done, and cannot be undone")
        self.store.freezes.refuse(target.key)
        resource = self._replayed(target.call, target.key)
        view = self._view(resource, target)
        place = _place(resource, entry.key)
        things = set(thing.partition(PART)[0] for part in resource.parts() for thing in part.claims())
        now: "Attributes | None" = None
        expected = entry.after
        is_unsure = self._predicted.is_unsure(place, things)
        if is_unsure:
            seen = expected
        elif place in self._predicted:
            seen = self._predicted[place]
            if seen is not None and expected is not None:  # another resource may have seen less of the same file
                expected = dict((name, value) for name, value in expected.items() if name in seen)
        else:
            now = resource.observe()
            seen = view.attributes(now).data
        changed = difference(seen, expected)
        hidden = [name for name in changed if name and holds_mask((expected or {}).get(name))]
        if hidden and not self.force:
            raise Failed(
                "whether it has changed since is not known: a secret was in its %s" % ", ".join(hidden),
                hint="--force restores it all the same",
            )
        if (
            changed
            and self._may_be_back
            and is_back(entry, self._entries or (entry,), seen, lambda other: _is_at(self, other, place))
        ):
            return self._finish(target, entry, seen)
        if changed and not self.force:
            how = ", ".join(changed)
            if "" in changed:
                how = "it no longer exists" if seen is None else "it exists again"
            raise Failed("it has changed since: %s" % how, hint="--force restores it all the same")
        if now is None:  # or in a check: what would be there after what comes before
            now = revive(_without_secrets(seen, seen), self.store)
        restore = self._restore_files if resource.files(entry.before) else self._by_way_back
        done = restore(target, resource, view, entry, now)
        if self.check:
            self._predicted.add(place, entry.before, things)
        return Done(done.diff, done.msg or UNSURE) if is_unsure else done

    def _finish(self, target: "Target", entry: "HistoryEntry", seen: "Attributes | None") -> "Done":
        """Make the record what it was before a change that is not there any more, unless it describes what is there."""
        record = self.store.records.get(target.key)
        is_stale = record is not None and (not record.checksum or bool(difference(seen, record.observed)))
        if is_stale and not self.check:
            shown = self.store.redactor.redact(seen)
            self._remember(target, self.reason, shown, seen, NOTHING, target.call, entry.was)
        return Done(NOTHING, "it is as it was before already")

    def _restore_files(
        self, target: "Target", resource: "Resource", view: "View", entry: "HistoryEntry", now: "Attributes | None"
    ) -> "Done":
        former = dict((path, revive(found, self.store)) for path, found in resource.files(entry.before).items())
        self._check_files(former, view, entry.reason in (Reason.PRUNED, Reason.ROLLBACK, Reason.REVERTED))
        change = Change(now, revive(entry.before, self.store))
        wanted = change.after
        if wanted is not None and resource.volatile:
            change = Change(now, dict((name, wanted[name]) for name in wanted if name not in resource.volatile))
        diff = view.diff(differences(change))
        if self.check:
            return Done(diff)
        keep_contents(self.store, view, now)
        self._apply(target, resource, change, view, lambda change: _put_files(self.host, former))
        self._remember(target, self.reason, view.former(now), entry.before, diff, target.call, entry.was)
        return Done(diff)

    def _by_way_back(
        self, target: "Target", resource: "Resource", view: "View", entry: "HistoryEntry", now: "Attributes | None"
    ) -> "Done":
        back = resource.way_back(entry.before, entry.after)
        if isinstance(back, tuple):
            return self._call(target, back, self.reason, entry.was)
        wanted = revive(_without_secrets(back, entry.after), self.store)
        change = Change(now, wanted)
        for name in change.names:
            value = (wanted or {}).get(name)
            if isinstance(value, Content):
                value.data()  # raises Failed when it is not kept
        diff = view.diff(differences(change))
        if self.check or not change.names:
            return Done(diff)
        keep_contents(self.store, view, now)
        self._apply(target, resource, change, view)
        self._remember(target, self.reason, view.former(now), entry.before, diff, target.call, entry.was)
        return Done(diff)


def is_back(
    entry: "HistoryEntry",
    entries: "Iterable[HistoryEntry]",
    seen: "Attributes | None",
    is_here: "Callable[[HistoryEntry], bool]",
) -> "bool":
    """Return whether something is as it was before a change, or before an earlier one of those to be taken back.

    Then taking them back was interrupted before, or somebody has done it by hand. seen: what is there; is_here: whether
    a change was one of the same file.
    """
    for other in entries:
        before = other.before
        if other.id > entry.id or not _tells_apart(other) or (other.key != entry.key and not is_here(other)):
            continue
        if other.key != entry.key and before is not None and seen is not None:  # it may describe more of the file
            before = dict((name, value) for name, value in before.items() if name in seen)
            if not before:
                continue
        elif difference(before, seen):
            continue
        if not difference(seen, before):
            return True
    return False


def _is_at(rollback: "Rollback", entry: "HistoryEntry", place: "str") -> "bool":
    """Return whether a change was one of what is at `place`."""
    if entry.reason is Reason.RUN or _is_action(entry.key):  # a command is nowhere
        return False
    try:
        return _place(rollback._replayed(entry.call, entry.key), entry.key) == place
    except Failed:
        return False


def _tells_apart(entry: "HistoryEntry") -> "bool":
    """Return whether what was before a change can be told from what somebody has put there.

    A link knows nothing of the content of a file that it replaced; a hard link knows its inode.
    """
    before, after = entry.before or {}, entry.after or {}
    is_replaced = before.get("type") == "file" and after.get("type") != "file"
    return not is_replaced or "content" in before or "inode" in before


def _place(resource: "Resource", key: "str") -> "str":
    """Return what a resource observes: a file, an account, or itself."""
    place, files = resource.place(), list(resource.files({}))
    if place is None and len(files) == 1:
        place = files[0]
    return place or key


def notified_by(entry: "HistoryEntry") -> "list[str]":
    """Return the handlers that a change has notified."""
    return entry.call.notify if entry.call is not None else []


def _is_action(key: "str") -> "bool":
    module, _, rest = key.partition(":")
    try:
        return issubclass(find("%s.%s" % (module, rest.partition(":")[0])), Action)
    except ArgumentError:
        return False


def _put_files(host: "Host", former: "dict[str, Attributes | None]") -> "None":
    # What is inside is removed before its directory, and comes back after it.
    for path in sorted((path for path in former if former[path] is None), reverse=True):
        host.restore(path, None)
    for path in sorted(path for path in former if former[path] is not None):
        host.restore(path, former[path])


def _is_of(entry: "HistoryEntry", handlers: "Collection[str]") -> "bool":
    """Return whether an action was one of a handler's."""
    return entry.reason is Reason.RUN and entry.task in handlers


def _without_secrets(attributes: "Attributes | None", others: "Attributes | None") -> "Attributes | None":
    """Return attributes without the secrets that are the same in `others`: those need not be restored."""
    if attributes is None or others is None:
        return attributes
    return dict(
        (name, value)
        for name, value in attributes.items()
        if not ((is_keyed_hash(value) or holds_mask(value)) and others.get(name) == value)
    )
