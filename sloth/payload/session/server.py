"""Serves one session: takes calls from the wire in order, lets the kernel run them, answers once they are recorded."""

import os
import sys
import time

from sloth.payload.kernel.converge import timed
from sloth.payload.kernel.errors import ArgumentError, Disconnected, Failed, StoreError
from sloth.payload.kernel.record import Context
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Action, Args, Resource
from sloth.payload.kernel.status import Status
from sloth.payload.lib.atomic import sync_directories
from sloth.payload.lib.host import Host, state_directory
from sloth.payload.session import messages, wire
from sloth.payload.session.run_lock import RunLock
from sloth.payload.state.database import set_aside
from sloth.payload.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.findings import Restored
    from sloth.payload.kernel.values import Rows
    from sloth.payload.session.channel import Channel
    from sloth.payload.session.messages import Evaluation, Message

HOLD = 0.05  # seconds that an answer may wait for others to share its commit
ORPHANS = 500  # orphans that are reported at once


class Server(object):
    """One session: one account of one host, one state file."""

    def __init__(self, channel: "Channel", hello: "messages.Hello") -> "None":
        self.channel = channel
        self.hello = hello
        self.context = Context(
            run=hello.run, site=hello.site, who=hello.who, origin=hello.origin, adopt=hello.adopt
        )  # what the records say of this run
        self.touched: "set[str]" = set()  # keys of the resources that this run named
        self.failed_epoch = -1
        self.lock: "RunLock | None" = None
        self.is_damaged = False  # the state file turned out to be no sound database
        self._held: "list[bytes]" = []  # answers that wait for the commit of what they speak of
        self._held_since = 0.0
        self.host = Host(channel)
        path = os.path.join(state_directory(self.host.home), "%s.db" % hello.agent)
        self.store = Store(path, readonly=hello.check or hello.readonly)
        self.store.before_commit = sync_directories
        self.host.signatures = self.store.signatures
        self.host.upcoming = lambda: [(m.name, m.args) for m in channel.waiting() if isinstance(m, messages.Call)]

    def open(self) -> "None":
        """Take the run lock (a check takes none) and report that we are ready. Raises Locked, StoreError."""
        hello = self.hello
        if not self.store.readonly:
            self.lock = RunLock(os.path.dirname(state_directory(self.host.home)))
            self.lock.acquire(
                messages.LockHolder(run=hello.run, who=hello.who, origin=hello.origin),
                hello.lock_wait,
                lambda other: self.channel.send(messages.Waiting(holder=other)),
                self.channel.cancelled,
            )
            if hello.site:
                self.store.runs.begin(hello.run, hello.site, hello.who, hello.origin)
        self.channel.send(
            messages.Ready(
                v=wire.VERSION,
                python="%d.%d.%d" % sys.version_info[:3],
                user=self.host.user,
                home=self.host.home,
                pid=os.getpid(),
                handlers=self.store.handlers.names(hello.site) if hello.site else [],
                set_aside=self.store.aside,
            )
        )

    def serve(self) -> "None":
        """Answer messages until Close or the end of the connection."""
        while True:
            message = self.channel.next(wait=not self._held)
            if message is None or (self._held and time.monotonic() - self._held_since > HOLD):
                self._flush()
                if message is None:
                    continue
            if isinstance(message, messages.Call):
                self._call(message)
            elif isinstance(message, messages.Secrets):
                self.store.redactor.add(message.values)
            elif isinstance(message, messages.StateQuery):
                self._query(message)
            elif isinstance(message, messages.Close):
                return self._bye(message)
            else:
                raise wire.WireError("unexpected message %s" % message.TYPE)

    def _flush(self) -> "None":
        """Commit, then send the answers that waited for it."""
        self.store.commit()
        if self._held:
            frames, self._held = b"".join(self._held), []
            self.channel.write(frames)

    def _hold(self, message: "Message") -> "None":
        if not self._held:
            self._held_since = time.monotonic()
        self._held.append(wire.pack(message))

    # Calls

    def _call(self, call: "messages.Call") -> "None":
        epoch = call.epoch
        if epoch <= self.failed_epoch or self.channel.cancelled(epoch):
            self.channel.finish(call.id)
            self._hold(messages.Reply(id=call.id, status=Status.SKIPPED))
            return
        self.channel.begin(call.id, epoch)
        reply = messages.Reply(id=call.id, status=Status.FAILED)
        try:
            self._run(call, reply)
        except (Disconnected, StoreError):
            raise
        except Exception as error:
            self.failed_epoch = max(self.failed_epoch, epoch)
            reply.status = Status.FAILED
            _explain(error, self.host, reply)
            redact = self.store.redactor.text
            reply.error, reply.hint, reply.detail = redact(reply.error), redact(reply.hint), redact(reply.detail)
        reply.warnings = [self.store.redactor.text(text) for text in self.host.warnings]
        self.host.warnings = []
        self.channel.finish(call.id)
        self._hold(reply)

    def _run(self, call: "messages.Call", reply: "messages.Reply") -> "None":
        """Run a call and fill in its reply. Raises whatever it raises; `reply.key` is set as soon as it is known."""
        cls = find(call.name)
        made = cls(Args(cls.check(call.args)), self.host, call.assets)
        reply.key = self.store.redactor.key(made.key())
        if isinstance(made, Resource):
            self.touched.add(reply.key)
        if isinstance(made, Action):
            self._flush()  # it may take long, or take the host down
        context = self.context.replace(task=call.task, where=call.where, notify=call.notify, sensitive=call.sensitive)
        outcome, seconds = timed(made, self.store, self.hello.check, context)
        for name in type(outcome).fields:
            setattr(reply, name, getattr(outcome, name))
        reply.seconds = round(seconds, 4)

    # State

    def _query(self, message: "messages.StateQuery") -> "None":
        """Answer a query of the state; `op` is the name of one of the Queries."""
        from sloth.payload.kernel.paging import pages  # most sessions ask nothing of the state
        from sloth.payload.session.queries import OPEN, query

        if message.op not in OPEN:
            self._flush()
        rows: "Rows"
        try:
            if message.op == "orphans":  # only this session knows what its run has named
                rows = [orphan.shown() for orphan in self._orphans(messages.Evaluation.read(message.args))]
            else:
                rows = query(self.store, message.op, message.args, self.host, self.context)
            if message.op not in OPEN:
                self.store.commit()
        except StoreError as error:
            self.channel.send(messages.Rows(id=message.id, error=error.message, hint=error.hint))
            return
        for page in pages(rows):
            self.channel.send(messages.Rows(id=message.id, rows=page, more=True))
        self.channel.send(messages.Rows(id=message.id))

    def _bye(self, close: "messages.Close") -> "None":
        """Commit all, send what the controller's replica lacks, and say goodbye."""
        self._flush()
        bye = messages.Bye(orphans=self._orphans(close.evaluation))
        if self.lock is not None and self.hello.site:
            self.store.runs.end(self.hello.run)
            self.store.commit()
        if close.replica and not self.store.readonly:
            change = self.store.changes_since(self.hello.replica)
            if change.rows:
                self._send_replica(change.rows)
            bye.replica = change.replace(rows=[])
        self.channel.send(bye)

    def _send_replica(self, rows: "Rows") -> "None":
        from sloth.payload.kernel.paging import pages  # a converged run has none to send

        for page in pages(rows):
            self.channel.send(messages.ReplicaPage(rows=page))

    def _orphans(self, evaluation: "Evaluation | None") -> "list[Restored]":
        """Return what the site no longer names, once all of it was evaluated, and what pruning it would do."""
        if evaluation is None:
            return []
        records = self.store.records.orphans(
            self.hello.site, self.touched, evaluation.spared, mark=not self.hello.check
        )
        if not records:
            return []
        from sloth.payload.kernel.rollback import Rollback

        planned = Rollback(self.store, self.host, self.context, check=True).plan(records[:ORPHANS])
        return [orphan.replace(diff={}) for orphan in planned]

    def close(self) -> "None":
        """Whatever happened: keep what was recorded, release the host."""
        try:
            self.store.close()
        except StoreError as error:
            self.is_damaged = self.is_damaged or error.damaged
        finally:
            if self.is_damaged and not self.store.readonly and self.store.path:
                set_aside(self.store.path)
            if self.lock is not None:
                self.lock.release()


def _explain(error: "Exception", host: "Host", reply: "messages.Reply") -> "None":
    """Fill in error, hint and detail for an exception that ended a call."""
    if isinstance(error, Failed):
        reply.error, reply.hint, reply.detail = error.message, error.hint, error.detail
        reply.invalid = isinstance(error, ArgumentError)
        return
    if isinstance(error, OSError) and error.errno is not None:
        subject = " '%s'" % error.filename if error.filename else ""
        reply.error = "%s (errno %d)%s" % (os.strerror(error.errno), error.errno, subject)
        if error.errno in (1, 13) and host.uid != 0:
            reply.hint = "set become = true on the task or the host"
        elif error.errno == 28:
            reply.hint = "free some space on the host"
        return
    import traceback

    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        _, found, inside = frame[0].rpartition("/payload/modules/")
        if found:
            place = "modules/%s:%d: " % (inside, frame[1])
    reply.error = "%s%s: %s" % (place, type(error).__name__, error)
    reply.hint = "this is a defect of sloth-runner or of a custom module"
    reply.detail = traceback.format_exc()[-8000:]
