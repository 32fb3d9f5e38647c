"""One session's part in a task whose changes must be confirmed: what the controller asks for, and what comes first."""

import os
import time

from sloth.payload.kernel.errors import Failed, StoreError
from sloth.payload.kernel.revert import Guard
from sloth.payload.lib.boot import boot_identity, process_start
from sloth.payload.session.confirmation import Confirmation, Pending, PlannedCall
from sloth.payload.session.launch import launch
from sloth.payload.session.reverting import revert, revert_alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.record import Context
    from sloth.payload.kernel.resource import Action
    from sloth.payload.kernel.values import JsonObject, Rows
    from sloth.payload.lib.host import Host
    from sloth.payload.session.channel import Channel
    from sloth.payload.session.messages import Hello, StateQuery
    from sloth.payload.state.store import Store


def answer(
    channel: "Channel",
    hello: "Hello",
    store: "Store",
    host: "Host",
    context: "Context",
    message: "StateQuery",
) -> "Rows":
    """Answer a query about changes that must be confirmed. Raises StoreError, InvalidValue."""
    return Guarding(channel, hello, store, host, context).query(message.op, message.args)


class Guarding(object):
    """Answers the queries about the confirmation of a task."""

    def __init__(self, channel: "Channel", hello: "Hello", store: "Store", host: "Host", context: "Context") -> "None":
        self._channel = channel
        self._hello = hello
        self._store = store
        self._host = host
        self._context = context
        self._confirmation = Confirmation(host.directory)

    def query(self, op: "str", args: "JsonObject") -> "Rows":
        """Answer a query. Raises StoreError, InvalidValue."""
        if op == "guard":
            return self._guard(args)
        if op == "hold":
            return [{"seconds": self._confirmation.hold(self._hello.run)}] if self._is_armed() else []
        if op == "confirm":
            self._confirmation.confirm(self._hello.run)
        if op in ("confirm", "relax"):
            self._relax()
            return []
        if op == "revert":
            return self._revert(str(args["why"]))
        return list(self._confirmation.reports())

    def _is_armed(self) -> "bool":
        pending = self._confirmation.read()
        return pending is not None and pending.run == self._hello.run

    def _guard(self, args: "JsonObject") -> "Rows":
        """Let every change from now on be one that must be confirmed."""
        hello = self._hello
        planned = [PlannedCall.read(call) for call in args["handlers"]]
        tasks = [str(name) for name in args["tasks"]]
        pid = os.getpid()
        pending = Pending(
            run=hello.run, agent=hello.agent, site=hello.site, who=hello.who, origin=hello.origin,
            task=str(args["task"]), seconds=float(args["seconds"]), tasks=tasks, handlers=planned,
            keep=[str(name) for name in args["keep"]], boot=boot_identity(), pid=pid, started=process_start(pid),
            since=int(time.time()),
        )  # fmt: skip
        self._store.guard = _Watched(self._store, self._host, self._context, self._confirmation, pending, self._channel)
        return []

    def _relax(self) -> "None":
        self._store.guard = None
        self._channel.on_heard = None

    def _revert(self, why: "str") -> "Rows":
        """Take the changes back now; the rows are what became of each. Nothing may have been changed yet."""
        self._relax()
        if not self._is_armed():
            return []
        pending = self._confirmation.claim(why)
        if pending is None:
            raise StoreError("the host takes the changes back by itself")
        return revert(self._confirmation, pending, self._store, self._host)


class _Watched(Guard):
    """Starts the watchdog before the first change."""

    def __init__(
        self,
        store: "Store",
        host: "Host",
        context: "Context",
        confirmation: "Confirmation",
        pending: "Pending",
        channel: "Channel",
    ) -> "None":
        Guard.__init__(self, store, host, context)
        self._confirmation = confirmation
        self._pending = pending
        self._channel = channel
        self._is_armed = False

    def arm(self) -> "None":
        if self._is_armed:
            return
        self._is_armed = True
        with self._confirmation.lock():
            self._confirmation.heard()
            self._confirmation.write(self._pending)
        self._channel.on_heard = self._confirmation.heard
        try:
            launch(self._confirmation)
        except (Failed, OSError) as error:
            with self._confirmation.lock():
                self._confirmation.remove()
            raise Failed("the host cannot take changes back by itself: %s" % error)

    def refuse(self, action: "Action", task: "str") -> "None":
        if task == self._pending.task and not action.safe_in_check() and not action.only_waits:
            raise Failed(
                "a task with `confirm` must not do what cannot be taken back",
                hint="do it in a handler, which runs again after its changes were taken back, or in another task",
            )


def take_over(host: "Host") -> "None":
    """Take back what an earlier run has left unconfirmed and no watchdog does, as after a boot without systemd."""
    confirmation = Confirmation(host.directory)
    pending = confirmation.read()
    if pending is None or confirmation.is_watched():
        return
    claimed = confirmation.claim("the host was started again, or its watchdog was killed")
    if claimed is not None:
        revert_alone(confirmation, claimed)
