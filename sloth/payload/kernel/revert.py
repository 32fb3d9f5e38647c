"""Takes back the changes of a task that were not confirmed, whatever state they are in, and runs its handlers again.

What is to be changed is noted before: a process that is killed between a change and its record leaves enough to take
the change back.
"""

import os
import time

from sloth.payload.kernel.errors import ArgumentError, Failed, NotConverged
from sloth.payload.kernel.findings import HistoryEntry, Restored, RestoreStatus
from sloth.payload.kernel.redact import NOTHING
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Action, Args, difference
from sloth.payload.kernel.rollback import Rollback, notified_by
from sloth.payload.kernel.status import Reason
from sloth.payload.kernel.step import record_action
from sloth.payload.kernel.take_back import Done, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, Sequence

    from sloth.payload.kernel.record import Context
    from sloth.payload.kernel.step import Part, Step
    from sloth.payload.kernel.values import Arguments
    from sloth.payload.lib.host import Host
    from sloth.payload.state.store import Store


# Seconds between attempts at a handler's call. It may be what lets people in again, and systemd refuses for ten seconds
# to start again what has failed several times.
PAUSES = (1, 2, 4, 8)


class Revert(Rollback):
    """The changes of one task and its handlers."""

    reason = Reason.REVERTED
    removes_only_empty = True  # Guard has let no other directory be removed

    def __init__(self, store: "Store", host: "Host", context: "Context", check: "bool" = False) -> "None":
        Rollback.__init__(self, store, host, context, check, force=True)

    def revert(
        self, run: "str", tasks: "Sequence[str]", handlers: "Sequence[tuple[str, str, Arguments]]"
    ) -> "Iterator[Restored]":
        """Take back what `tasks` of `run` have changed, the last change first; then make the calls of `handlers`.

        handlers: (handler, call, arguments); those of a handler are made if a change that has notified it was taken
        back. What cannot be taken back does not keep the rest from it. Once it is interrupted it can be done again.
        """
        entries = [entry for task in tasks for entry in self.store.history.select(limit=-1, run=run, task=task)]
        due: "set[str]" = set()
        for entry in sorted(entries, key=lambda entry: -entry.id):
            if entry.reason is Reason.SUPERSEDED:
                self._restore_record(entry.key, entry.was)
            elif entry.reason not in (Reason.RUN, Reason.REVERTED):
                restored = self._restore_one(entry)
                due.update(notified_by(entry))
                if restored.status is not RestoreStatus.DONE or restored.diff:
                    yield restored
        for handler, name, args in handlers:
            if handler in due:
                yield self._make(handler, name, args)
        self.store.commit()

    def _make(self, handler: "str", name: "str", args: "Arguments") -> "Restored":
        try:
            call = find(name)(Args(find(name).check(args)), self.host)
        except ArgumentError as error:  # its module is not here: the changes are taken back all the same
            msg = self.store.redactor.text(error.message)
            return Restored(key="handler:%s" % handler, status=RestoreStatus.REFUSED, msg=msg, handler=handler)
        target = Target(self.store.redactor.key(call.key()), handler, None)
        restored = self._guarded(target, lambda: self._do(call, target))
        for pause in PAUSES:
            if restored.status is not RestoreStatus.FAILED:
                break
            time.sleep(pause)
            restored = self._guarded(target, lambda: self._do(call, target))
        return restored.replace(handler=handler)

    def _do(self, call: "object", target: "Target") -> "Done":
        assert isinstance(call, Action)
        needless = call.guard()
        if needless:
            return Done(NOTHING, needless)
        try:
            values = call.run()
        except Failed as error:
            raise NotConverged(error.message, error.hint)
        record_action(self.store, target.key, values, self.context.replace(task=target.task or ""), None)
        return Done(NOTHING)

    def _restore(self, target: "Target", entry: "HistoryEntry") -> "Done":
        resource = self._replayed(target.call, target.key)
        view = self._view(resource, target)
        seen = view.attributes(resource.observe()).data
        if not difference(seen, entry.before) and not difference(entry.before, seen):
            if not self.check:  # it was not changed yet, or was taken back already
                self._restore_record(target.key, entry.was)
            return Done(NOTHING)
        return Rollback._restore(self, target, entry)


class Guard(object):
    """Stands before each change of a task that must be confirmed: it notes the change, or refuses it."""

    def __init__(self, store: "Store", host: "Host", context: "Context") -> "None":
        self._store = store
        self._host = host
        self._context = context

    def arm(self) -> "None":
        """Hook: see to it that changes are taken back if nobody confirms them; called before each. Raises Failed."""

    def refuse(self, action: "Action", task: "str") -> "None":
        """Hook: raise Failed when `task` must not do an action, since it could not be taken back."""

    def note(self, step: "Step") -> "list[int]":
        """Note durably what `step` is about to change; return the numbers of the notes. Raises Failed when it must not.

        The notes are changes in the history. forget() removes them, with the commit that has the change itself.
        """
        self.arm()
        parts = [part for part in step.parts if part.change.names]
        numbers = [self._add(part) for part in parts]
        try:
            for part in parts:
                self._check(part)
        except Failed:
            self.forget(numbers)
            raise
        self._store.commit()
        return numbers

    def _add(self, part: "Part") -> "int":
        return self._store.history.add(
            part.key,
            part.reason(),
            part.before,
            part.desired,
            NOTHING,
            part.context,
            part.call.replace(notify=part.context.notify).json,
            part.record,
        )

    def _check(self, part: "Part") -> "None":
        """Raise Failed when the change could not be taken back."""
        entry = self._store.history.select(part.key, limit=1)[0]
        asset, warnings = self._host.asset, self._host.warnings
        restored = _Trial(self._store, self._host, self._context, check=True).attempt(entry)
        self._host.asset, self._host.warnings = asset, warnings  # type: ignore[method-assign]
        why = restored.msg if restored.status is not RestoreStatus.PLANNED else ""
        if not why and part.change.after is None and _is_full_directory(part):
            why = "what is in the directory is not kept"
        if why:
            raise Failed("this could not be taken back: %s" % why, hint="do it in a task without `confirm`")

    def forget(self, numbers: "list[int]") -> "None":
        """Remove notes."""
        self._store.history.remove(numbers)


def _is_full_directory(part: "Part") -> "bool":
    """Return whether what is removed is a directory with something in it."""
    paths = part.resource.files(part.before.data)
    return any(os.path.isdir(path) and not os.path.islink(path) and bool(os.listdir(path)) for path in paths)


class _Trial(Rollback):
    """Finds out whether a change could be taken back, before it is made."""

    _may_be_back = False  # it is as before, since nothing was done yet

    def attempt(self, entry: "HistoryEntry") -> "Restored":
        self.force = True
        return self._restore_one(entry)
