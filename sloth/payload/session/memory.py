"""What a session remembers: the state file and the run lock, or a state in memory while the disk is full or read-only.

A command of the site may be what frees the disk. So actions run without a record then, with a warning; resources fail.
"""

import os
import time

from sloth.payload.kernel.errors import Locked, StoreError
from sloth.payload.lib import unfinished
from sloth.payload.lib.host import state_directory
from sloth.payload.session import messages
from sloth.payload.session.run_lock import POLL, HeldByOther, RunLock
from sloth.payload.state.database import set_aside
from sloth.payload.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject
    from sloth.payload.lib.host import Host
    from sloth.payload.session.channel import Channel
    from sloth.payload.session.confirmation import Confirmation


class Memory(object):
    """The state and the lock of one session: `store`, and in `unwritable` why that is in memory, if it is."""

    def __init__(self, host: "Host", channel: "Channel", hello: "messages.Hello") -> "None":
        """Open the state file. Raises StoreError when it cannot be used."""
        self._host = host
        self._channel = channel
        self._hello = hello
        self._is_damaged = False  # the state file turned out to be no sound database
        self._path = os.path.join(state_directory(host.directory), "%s.db" % hello.agent)
        self._lock: "RunLock | None" = None
        self._reports: "Confirmation | None" = None  # those that were sent
        self.unwritable: "StoreError | None" = None
        try:
            self._use(Store(self._path, readonly=hello.check or hello.readonly))
        except StoreError as error:
            if not error.unwritable:
                raise
            self.unwritable = error
            self._use(Store(None))

    def _use(self, store: "Store") -> "None":
        self.store = store
        store.before_commit = _sync_directories
        self._host.signatures = store.signatures

    @property
    def fails_resources(self) -> "StoreError | None":
        """Why a resource cannot be recorded, or None when it can be, or when nothing is to be recorded."""
        return None if self._hello.check else self.unwritable

    def begin(self) -> "None":
        """Take the run lock, unless nothing will be written, and record the run. Raises Locked, StoreError."""
        if self.store.readonly:
            return
        try:
            self._take_lock(self._hello.lock_wait)
        except StoreError as error:
            if not error.unwritable:
                raise
            self.go_without(error)
        self._begin_run()
        if self._hello.shared:
            self.store.commit()  # whoever waits for this session would wait for its transaction

    def _begin_run(self) -> "None":
        hello = self._hello
        if hello.site:
            self.store.runs.begin(hello.run, hello.site, hello.who, hello.origin)

    def _take_lock(self, wait: "float") -> "None":
        hello = self._hello
        lock = RunLock(self._host.directory)
        end = time.monotonic() + wait
        while True:
            lock.acquire(
                messages.LockHolder(run=hello.run, who=hello.who, origin=hello.origin, link=hello.link),
                max(0, end - time.monotonic()),
                lambda other: self._channel.send(messages.Waiting(holder=other)),
                self._channel.cancelled,
            )
            if not _has(self._host.directory, "pending.json") or self._may_go_on(lock, end):
                break
        self._lock = lock
        unfinished.use(self._host.directory)
        if lock.is_held:
            unfinished.clean(_remove_unfinished)

    def _may_go_on(self, lock: "RunLock", end: "float") -> "bool":
        """Return whether the lock may be used though changes must be confirmed; give it back if not.

        Those of an earlier run are taken back first. Raises HeldByOther when that takes too long.
        """
        from sloth.payload.session.confirmation import Confirmation

        confirmation = Confirmation(self._host.directory)
        pending = confirmation.read()
        if pending is None:
            return True
        if pending.run == self._hello.run:
            confirmation.join()
            return True
        if not confirmation.is_watched():
            from sloth.payload.session.guarding import take_over

            take_over(self._host)
            return True
        lock.release()
        holder = messages.LockHolder(run=pending.run, who=pending.who, origin=pending.origin, since=pending.since)
        self._channel.send(messages.Waiting(holder=holder))
        while _has(self._host.directory, "pending.json") and confirmation.is_watched():
            if time.monotonic() > end or self._channel.cancelled():
                raise HeldByOther(holder)
            time.sleep(POLL)
        return False

    def reverted(self) -> "list[JsonObject]":
        """Return what the host has taken back by itself and nobody knows of yet."""
        if self._lock is None or not self._hello.site or not _has(self._host.directory, "reverted.json"):
            return []
        from sloth.payload.session.confirmation import Confirmation

        self._reports = Confirmation(self._host.directory)
        return self._reports.reports()

    def forget_checked(self) -> "None":
        """Forget what calls that were only checked would have left on the host."""
        self._host.predicted.clear()
        self._host.foreseen.clear()
        self._host.foresight = None
        self._host.pending = False
        self._host.changed()
        self.store.forget_session()

    def go_without(self, error: "StoreError") -> "None":
        """Go on with a state in memory; what was not committed is lost."""
        self.store.abandon()
        self.unwritable = error
        self._replace(Store(None))

    def return_to_file(self) -> "None":
        """Use the state file again, if it can be written by now."""
        if self.unwritable is None:
            return
        try:
            if self._lock is None:
                self._take_lock(0)
            former = self.store
            self._replace(Store(self._path))
            try:
                self._begin_run()
                self.store.set_meta("seq", self.store.meta("seq") or "0")
                self.store.commit()
            except StoreError:
                self.store.abandon()
                self.store.close()
                self._use(former)
                raise
        except StoreError as error:
            self.unwritable = error
        except Locked:
            pass
        else:
            self.unwritable = None

    def _replace(self, store: "Store") -> "None":
        store.redactor.add(self.store.redactor.values)
        self._use(store)

    def end_run(self) -> "None":
        """Record the end of the run."""
        if self._lock is not None and self._hello.site:
            self.store.runs.end(self._hello.run)
        if self._reports is not None:
            self._reports.forget_reports()

    def save(self) -> "None":
        """Commit and close the state file. Raises StoreError."""
        self.store.close()
        unfinished.close()

    def close(self, error: "Exception | None" = None) -> "None":
        """Keep what was recorded, and release the host; `error` is what ended the session."""
        self._is_damaged = isinstance(error, StoreError) and error.damaged
        try:
            self.store.close()
        except StoreError as found:
            self._is_damaged = self._is_damaged or found.damaged
        finally:
            if self._is_damaged and not self.store.readonly and self.store.path:
                set_aside(self.store.path)
            unfinished.close()
            if self._lock is not None:
                self._lock.release()


def _has(directory: "str", name: "str") -> "bool":
    """Return whether there is a note about changes that must be confirmed; confirmation.py is loaded only then."""
    return os.path.exists(os.path.join(directory, "confirm", name))


def _sync_directories() -> "None":
    from sloth.payload.lib.atomic import sync_directories  # loaded by what writes files, not by every session

    sync_directories()


def _remove_unfinished(path: "str") -> "None":
    from sloth.payload.lib.atomic import remove_unfinished  # only after a killed session

    remove_unfinished(path)
