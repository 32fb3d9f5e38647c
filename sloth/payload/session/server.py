"""The payload's main loop: runs the calls of one controller in order, and answers once what they did is recorded."""

import os
import sys
import time

from sloth.payload.kernel.converge import timed
from sloth.payload.kernel.errors import ArgumentError, Disconnected, Failed, NotFound, StoreError
from sloth.payload.kernel.record import Context
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Action, Args, Resource
from sloth.payload.kernel.status import Status
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.lib.host import Host, refresh, state_directory
from sloth.payload.session import messages, wire
from sloth.payload.session.run_lock import RunLock
from sloth.payload.state.database import set_aside
from sloth.payload.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from sloth.payload.kernel.findings import Restored
    from sloth.payload.kernel.values import Arguments, Rows
    from sloth.payload.session.channel import Channel

HOLD = 0.05  # seconds that a reply may wait for others to share its commit
ORPHANS = 500  # orphans that are reported at once


class Replies(object):
    """Replies that wait for the commit of what they report: a commit is expensive, so they share one."""

    def __init__(self, store: "Store", channel: "Channel") -> "None":
        self._store = store
        self._channel = channel
        self._frames: "list[bytes]" = []
        self._since = 0.0

    def __bool__(self) -> "bool":
        return bool(self._frames)

    def add(self, reply: "messages.Reply") -> "None":
        """Let a reply wait for the next flush()."""
        if not self._frames:
            self._since = time.monotonic()
        try:
            frame = wire.pack(reply)
        except wire.WireError as error:  # what a module returns has no limits
            text = "it was done, but its result cannot be sent: %s" % error.message
            frame = wire.pack(messages.Reply(id=reply.id, status=Status.FAILED, error=text))
        self._frames.append(frame)

    def is_due(self) -> "bool":
        """Return whether the oldest has waited long enough."""
        return bool(self._frames) and time.monotonic() - self._since > HOLD

    def flush(self) -> "None":
        """Commit, then send what waited for it. Raises StoreError, Disconnected."""
        self._store.commit()
        if self._frames:
            data, self._frames = b"".join(self._frames), []
            self._channel.write(data)


def _sync_directories() -> "None":
    from sloth.payload.lib.atomic import sync_directories  # loaded by what writes files, not by every session

    sync_directories()


class Server(object):
    """One session: one account of one host, one state file."""

    def __init__(
        self, channel: "Channel", hello: "messages.Hello", before_end: "Callable[[], None]" = lambda: None
    ) -> "None":
        """before_end: is called when all work is done. Raises StoreError when the state file cannot be used."""
        self._before_end = before_end
        self._channel = channel
        self._hello = hello
        self._is_damaged = False  # the state file turned out to be no sound database
        self._named: "set[str]" = set()  # keys of the resources that this run has named
        self._failed_epoch = -1
        self._has_skipped = False  # a call: then it is not known what all of the site names
        self._lock: "RunLock | None" = None
        self._host = Host(channel)
        path = os.path.join(state_directory(self._host.directory), "%s.db" % hello.agent)
        self._store = Store(path, readonly=hello.check or hello.readonly)
        self._store.before_commit = _sync_directories
        self._replies = Replies(self._store, channel)
        self._context = Context(run=hello.run, site=hello.site, who=hello.who, origin=hello.origin, adopt=hello.adopt)
        self._host.signatures = self._store.signatures
        self._host.upcoming = self._upcoming

    def _upcoming(self) -> "list[tuple[str, Arguments]]":
        return [(call.name, call.args) for call in self._channel.upcoming_calls()]

    def open(self) -> "None":
        """Take the run lock, unless nothing will be written, and send Ready. Raises Locked, StoreError."""
        hello = self._hello
        refresh(self._host.directory)
        if not self._store.readonly:
            self._lock = RunLock(self._host.directory)
            self._lock.acquire(
                messages.LockHolder(run=hello.run, who=hello.who, origin=hello.origin),
                hello.lock_wait,
                lambda other: self._channel.send(messages.Waiting(holder=other)),
                self._channel.cancelled,
            )
            if hello.site:
                self._store.runs.begin(hello.run, hello.site, hello.who, hello.origin)
        self._channel.send(
            messages.Ready(
                v=messages.VERSION,
                python="%d.%d.%d" % sys.version_info[:3],
                user=self._host.user,
                home=self._host.home,
                pid=os.getpid(),
                handlers=self._store.handlers.names(hello.site) if hello.site else [],
                set_aside=self._store.aside,
            )
        )

    def serve(self) -> "None":
        """Answer messages until Close. Raises Disconnected, WireError, StoreError."""
        while True:
            message = self._channel.receive(wait=not self._replies)
            if message is None or self._replies.is_due():
                self._replies.flush()
            if isinstance(message, messages.Call):
                self._call(message)
            elif isinstance(message, messages.Secrets):
                self._store.redactor.add(message.values)
            elif isinstance(message, messages.StateQuery):
                self._query(message)
            elif isinstance(message, messages.Close):
                return self._say_bye(message)
            elif message is not None:
                raise wire.WireError("a message of type %r was not expected" % message.TYPE)

    # Calls

    def _call(self, message: "messages.Call") -> "None":
        """Run a call, unless an earlier one of its epoch failed or it was cancelled, and let its reply wait."""
        if message.epoch <= self._failed_epoch or self._channel.cancelled(message.epoch):
            self._has_skipped = True
            self._channel.finish(message.id)
            self._replies.add(messages.Reply(id=message.id, status=Status.SKIPPED))
            return
        self._channel.begin(message.id, message.epoch)
        reply = messages.Reply(id=message.id, status=Status.FAILED)
        redactor = self._store.redactor
        try:
            self._run(message, reply)
        except (Disconnected, StoreError):
            raise
        except Exception as error:
            from sloth.payload.session import failures

            self._failed_epoch = max(self._failed_epoch, message.epoch)
            reply.status = Status.FAILED
            reply.invalid = isinstance(error, ArgumentError)
            reply.values = dict(error.numbers) if isinstance(error, Failed) else {}
            reply.error, reply.hint, reply.detail = map(redactor.text, failures.explain(error, self._host))
        if self._host.warnings:
            reply.warnings = [redactor.text(str(text)) for text in self._host.warnings]
            self._host.warnings = []
        self._channel.finish(message.id)
        self._replies.add(reply)

    def _run(self, message: "messages.Call", reply: "messages.Reply") -> "None":
        """Run a call and fill in what became of it. Raises whatever the call raises."""
        cls = find(message.name)
        call = cls(Args(cls.check(message.args)), self._host, message.assets)
        reply.key = self._store.redactor.key(call.key())
        if isinstance(call, Resource):
            self._named.update(self._store.redactor.key(part.key()) for part in call.parts())
        if isinstance(call, Action):
            self._replies.flush()  # it may take long, or take the host down
        context = self._context.replace(
            task=message.task, where=message.where, notify=message.notify, sensitive=message.sensitive
        )
        outcome, seconds = timed(call, self._store, self._hello.check, context)
        reply.status = outcome.status
        reply.reason = outcome.reason
        reply.msg = outcome.msg
        reply.diff = outcome.diff or None
        reply.values = outcome.values
        reply.before = outcome.before or None
        reply.after = outcome.after or None
        reply.unknown = outcome.unknown
        reply.seconds = round(seconds, 4)

    # State

    def _query(self, message: "messages.StateQuery") -> "None":
        """Answer a query of the state, page by page."""
        from sloth.payload.session.queries import OPEN, query  # most sessions query nothing

        is_alone = message.op not in OPEN
        if is_alone:
            self._replies.flush()
        try:
            if message.op == "orphans":  # only this session knows what its run has named
                orphans = self._orphans(messages.Evaluation.read(message.args))
                rows = [orphan.shown() for orphan in orphans]
            else:
                rows = query(self._store, message.op, message.args, self._host, self._context)
            if is_alone:
                self._store.commit()
        except (StoreError, InvalidValue) as error:
            not_found = isinstance(error, NotFound)
            self._channel.send(messages.Rows(id=message.id, error=error.message, hint=error.hint, not_found=not_found))
            return
        self._send_pages(rows, lambda page: messages.Rows(id=message.id, rows=page, more=True))
        self._channel.send(messages.Rows(id=message.id))

    def _say_bye(self, message: "messages.Close") -> "None":
        """Commit everything, and send what the controller needs to know at the end."""
        self._replies.flush()
        bye = messages.Bye(orphans=self._orphans(message.evaluation) if message.evaluation is not None else [])
        if self._lock is not None and self._hello.site:
            self._store.runs.end(self._hello.run)
            self._store.commit()
        if message.replica and not self._store.readonly:
            change = self._store.changes_since(self._hello.replica)
            self._send_pages(change.rows, lambda page: messages.ReplicaPage(rows=page))
            bye.replica = change.replace(rows=[])
        self._before_end()
        self._store.close()  # before the controller may end this process: then the state file is whole
        self._channel.send(bye)

    def _send_pages(self, rows: "Rows", make: "Callable[[Rows], messages.Message]") -> "None":
        if not rows:
            return
        from sloth.payload.kernel.paging import pages  # a converged run has none to send

        for page in pages(rows):
            self._channel.send(make(page))

    def _orphans(self, evaluation: "messages.Evaluation") -> "list[Restored]":
        """Return what the site no longer names, now that all of it was evaluated, and what pruning it would do."""
        hello = self._hello
        if self._has_skipped or not self._store.records.may_be_orphaned(hello.site, self._named, evaluation.spared):
            return []
        from sloth.payload.kernel.ownership import find_orphans
        from sloth.payload.kernel.prune import Prune

        spared = evaluation.spared
        records = find_orphans(self._store, self._host, self._context, self._named, spared, hello.check)
        planned = Prune(self._store, self._host, self._context, check=True).plan(records[:ORPHANS])
        return [orphan.replace(diff={}) for orphan in planned]

    def close(self, error: "Exception | None" = None) -> "None":
        """Keep what was recorded, and release the host; `error` is what ended the session."""
        self._is_damaged = isinstance(error, StoreError) and error.damaged
        try:
            self._store.close()
        except StoreError as found:
            self._is_damaged = self._is_damaged or found.damaged
        finally:
            if self._is_damaged and not self._store.readonly and self._store.path:
                set_aside(self._store.path)
            if self._lock is not None:
                self._lock.release()
