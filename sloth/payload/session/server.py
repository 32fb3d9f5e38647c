"""The payload's main loop: runs the calls of one controller in order, and answers once what they did is recorded."""

import os
import sys

from sloth.payload.kernel.converge import timed, unrecorded
from sloth.payload.kernel.errors import ArgumentError, Disconnected, Failed, Missing, StoreError, WrongMachine
from sloth.payload.kernel.record import Context
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Action, Args, Resource
from sloth.payload.kernel.status import Status
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.lib.boot import is_same_machine, machine_identity
from sloth.payload.lib.host import Host, refresh
from sloth.payload.session import messages, wire
from sloth.payload.session.memory import Memory
from sloth.payload.session.replies import Replies, fill
from sloth.payload.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from sloth.payload.kernel.findings import Restored
    from sloth.payload.kernel.redact import Redactor
    from sloth.payload.kernel.resource import Call
    from sloth.payload.kernel.values import Arguments, Rows
    from sloth.payload.session.channel import Channel

ORPHANS = 500  # orphans that are reported at once


class Lanes(object):
    """The calls that a session makes for its own host ("") and for others: a failure skips later calls of one lane.

    epochs: by lane, that of the call that ran last.
    """

    def __init__(self) -> "None":
        self.epochs: "dict[str, int]" = {}
        self._failed: "dict[str, int]" = {}  # by lane: the highest epoch in which a call has failed

    def has_failed(self, lane: "str", epoch: "int") -> "bool":
        """Return whether a call of this epoch, or a later one, has failed."""
        return epoch <= self._failed.get(lane, -1)

    def fail(self, lane: "str", epoch: "int") -> "None":
        self._failed[lane] = max(self._failed.get(lane, -1), epoch)

    def fail_all(self) -> "None":
        """Take note that the calls which ran last have failed."""
        for lane, epoch in self.epochs.items():
            self.fail(lane, epoch)


class Server(object):
    """One session: one account of one host, one state file."""

    def __init__(
        self, channel: "Channel", hello: "messages.Hello", before_end: "Callable[[], None]" = lambda: None
    ) -> "None":
        """before_end: is called when all work is done. Raises StoreError when the state file cannot be used."""
        self._before_end = before_end
        self._channel = channel
        self._hello = hello
        self._named: "set[str]" = set()  # keys of the resources that this run has named
        self._lanes = Lanes()
        self._has_skipped = False  # a call: then it is not known what all of the site names
        self._host = Host(channel)
        self._memory = Memory(self._host, channel, hello)
        self._replies = Replies(channel)
        self._context = Context(run=hello.run, site=hello.site, who=hello.who, origin=hello.origin, adopt=hello.adopt)
        self._host.upcoming = self._upcoming

    @property
    def _store(self) -> "Store":
        return self._memory.store

    def _upcoming(self) -> "list[tuple[str, Arguments]]":
        return [(call.name, call.args) for call in self._channel.upcoming_calls()]

    def open(self) -> "None":
        """Take the run lock, unless nothing will be written, and send Ready.

        Raises Locked, StoreError, WrongMachine.
        """
        machine = _right_machine(self._hello, self._store)
        refresh(self._host.directory)
        self._memory.begin()
        self._channel.send(_ready(self._host, self._memory, self._hello.site, machine))

    def _flush(self) -> "None":
        """Commit, then send what waited for it. Raises StoreError, Disconnected."""
        try:
            self._replies.flush(self._store)
        except StoreError as error:
            if not error.unwritable:
                raise
            self._has_skipped = True  # what the site names is not known from here on
            self._memory.go_without(error)
            if self._replies.send_unrecorded(error):
                self._lanes.fail_all()

    def serve(self) -> "None":
        """Answer messages until Close. Raises Disconnected, WireError, StoreError."""
        while True:
            message = self._channel.receive(wait=not self._replies)
            if message is None or self._replies.is_due() or self._hello.shared:
                self._flush()  # an open transaction would let other sessions wait for as long as a call takes
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

    def _call(self, message: "messages.Call") -> "None":
        """Run a call, unless an earlier one of its epoch failed or it was cancelled, and let its reply wait."""
        lane, epoch = message.lane, message.epoch
        if self._lanes.has_failed(lane, epoch) or self._channel.is_cancelled(epoch, lane):
            self._has_skipped = True
            self._channel.finish(message.id)
            return self._replies.add(messages.Reply(id=message.id, status=Status.SKIPPED))
        self._channel.begin(message.id, epoch, lane)
        self._lanes.epochs[lane] = epoch
        reply = messages.Reply(id=message.id, status=Status.FAILED)
        redactor, is_action = self._store.redactor, False
        try:
            is_action = self._run(message, reply)
        except (Disconnected, StoreError):
            raise
        except Exception as error:
            from sloth.payload.session import failures

            self._lanes.fail(lane, epoch)
            reply.status = Status.FAILED
            reply.invalid = isinstance(error, ArgumentError)
            reply.values = dict(error.numbers) if isinstance(error, Failed) else {}
            reply.error, reply.hint, reply.detail = map(redactor.text, failures.explain(error, self._host))
        if self._host.warnings:
            reply.warnings = [redactor.text(str(text)) for text in self._host.warnings]
            self._host.warnings = []
        self._channel.finish(message.id)
        self._replies.add(reply, is_action)

    def _run(self, message: "messages.Call", reply: "messages.Reply") -> "bool":
        """Run a call and fill in what became of it; return whether it is an action. Raises whatever the call raises."""
        cls = find(message.name)
        call = cls(Args(cls.check(message.args)), self._host, message.assets)
        if message.masked or message.environment:
            from sloth.payload.session.surroundings import Surroundings  # few calls have any

            with Surroundings(message, call, self._store):
                return self._execute(message, reply, call)
        return self._execute(message, reply, call)

    def _execute(self, message: "messages.Call", reply: "messages.Reply", call: "Call") -> "bool":
        reply.key, named = _keys(call, self._store.redactor)
        self._named.update(named)
        self._has_skipped = self._has_skipped or not reply.key
        is_action = isinstance(call, Action)
        if isinstance(call, Action):
            if self._store.guard is not None:
                self._store.guard.refuse(call, message.task)
            self._flush()  # it may take long, or take the host down
        self._memory.return_to_file()
        unwritable = self._memory.fails_resources
        if unwritable is not None and isinstance(call, Resource):
            self._has_skipped = True
            raise Failed(unwritable.message, hint="%s; exec.run works" % unwritable.hint)
        if unwritable is not None and is_action:
            self._host.warn(unrecorded(unwritable))
        site = messages.recorded_site(self._hello.site, message.lane)
        context = self._context.replace(
            task=message.task, where=message.where, notify=message.notify, sensitive=message.sensitive,
            masked=message.masked, environment=message.environment, site=site,
        )  # fmt: skip
        outcome, seconds = timed(call, self._store, self._hello.check or message.check, context)
        fill(reply, outcome, seconds)
        return is_action and unwritable is None

    def _query(self, message: "messages.StateQuery") -> "None":
        """Answer a query of the state, page by page."""
        from sloth.payload.session.queries import OPEN, QUERIES, query  # most sessions query nothing

        if message.op not in OPEN:
            self._flush()
        try:
            if self._memory.fails_resources is not None:
                raise self._memory.fails_resources
            if message.op == "begin_plan":  # what this session has only looked at until now is made from now on
                self._memory.forget_checked()
            if message.op == "orphans":  # only this session knows what its run has named
                rows = [one.shown() for one in self._orphans(messages.Evaluation.read(message.args))]
            elif message.op == "named":
                self._named.update(message.args.get("keys", ()))  # what a session before a reboot has known
                rows = [{"key": key} for key in sorted(self._named)]
            elif message.op in QUERIES:
                from sloth.payload.session.guarding import answer

                rows = answer(self._channel, self._hello, self._store, self._host, self._context, message)
            else:
                rows = query(self._store, message.op, message.args, self._host, self._context)
            if message.op not in OPEN:
                self._store.commit()
        except (StoreError, InvalidValue, KeyError, TypeError, ValueError) as error:
            from sloth.payload.session import failures

            self._channel.send(failures.explain_query(message, error))
            return
        _send_pages(self._channel, rows, lambda page: messages.Rows(id=message.id, rows=page, more=True))
        self._channel.send(messages.Rows(id=message.id))

    def _say_bye(self, message: "messages.Close") -> "None":
        """Commit everything, and send what the controller needs to know at the end."""
        self._flush()
        bye = messages.Bye(orphans=self._orphans(message.evaluation) if message.evaluation is not None else [])
        self._memory.end_run()
        self._flush()
        if message.replica and not self._store.readonly and self._memory.unwritable is None:
            change = self._store.changes_since(self._hello.replica)
            _send_pages(self._channel, change.rows, lambda page: messages.ReplicaPage(rows=page))
            bye.replica = change.replace(rows=[])
        self._before_end()
        self._memory.save()  # before the controller may end this process: then the state file is whole
        self._channel.send(bye)

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
        self._memory.close(error)


def _ready(host: "Host", memory: "Memory", site: "str", machine: "str") -> "messages.Ready":
    return messages.Ready(
        v=messages.VERSION,
        python="%d.%d.%d" % sys.version_info[:3],
        user=host.user,
        home=host.home,
        pid=os.getpid(),
        handlers=memory.store.handlers.names(site) if site else [],
        reverted=memory.reverted(),
        set_aside=memory.store.aside,
        machine=machine,
    )


def _right_machine(hello: "messages.Hello", store: "Store") -> "str":
    """Return which machine this is. Raises WrongMachine when the run has begun on another one."""
    machine = machine_identity()
    # A run may give its host another id, and reboot it; then the state file knows the run.
    if not is_same_machine(hello.machine, machine) and not store.runs.has(hello.run):
        raise WrongMachine(
            "another machine answers than the one on which this run began: nothing was done there",
            hint="look at its address, and at what gives it to which machine",
        )
    return machine


def _keys(call: "Call", redactor: "Redactor") -> "tuple[str, list[str]]":
    """Return the key of a call, and those of the resources that it names; ("", []) when they are not known.

    They are not in a check when an earlier call may create the user of a path ~user/x: execute() judges that.
    """
    try:
        parts = call.parts() if isinstance(call, Resource) else []
        return redactor.key(call.key()), [redactor.key(part.key()) for part in parts]
    except Missing:
        return "", []


def _send_pages(channel: "Channel", rows: "Rows", make: "Callable[[Rows], messages.Message]") -> "None":
    if not rows:
        return
    from sloth.payload.kernel.paging import pages  # a converged run has none to send

    for page in pages(rows):
        channel.send(make(page))
