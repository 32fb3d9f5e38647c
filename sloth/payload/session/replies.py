"""Replies that wait for the commit of what they report: a commit is expensive, so they share one."""

import time

from sloth.payload.kernel.converge import unrecorded
from sloth.payload.kernel.status import Status
from sloth.payload.session import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.errors import StoreError
    from sloth.payload.kernel.record import Outcome
    from sloth.payload.session.channel import Channel
    from sloth.payload.state.store import Store

HOLD = 0.05  # seconds that a reply may wait for others to share its commit


class Replies(object):
    """The replies of one session that have not been sent."""

    def __init__(self, channel: "Channel") -> "None":
        self._channel = channel
        self._waiting: "list[tuple[messages.Reply, bool]]" = []  # and whether it is that of an action
        self._since = 0.0

    def __bool__(self) -> "bool":
        return bool(self._waiting)

    def add(self, reply: "messages.Reply", is_action: "bool" = False) -> "None":
        """Let a reply wait for the next flush()."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append((reply, is_action))

    def is_due(self) -> "bool":
        """Return whether the oldest has waited long enough."""
        return bool(self._waiting) and time.monotonic() - self._since > HOLD

    def flush(self, store: "Store") -> "None":
        """Commit, then send what waited for it. Raises StoreError, Disconnected."""
        store.commit()
        self._send()

    def send_unrecorded(self, error: "StoreError") -> "bool":
        """Send what waited for a commit that failed; return whether calls fail because of that.

        A resource was changed all the same, or found as it should be: the next run records it. What an action did
        cannot be found then.
        """
        has_failed = False
        for reply, is_action in self._waiting:
            if is_action:
                reply.warnings = [*(reply.warnings or ()), unrecorded(error)]
            elif reply.status in (Status.CHANGED, Status.UNCHANGED):
                has_failed = True
                what = "it was changed, and that is not recorded" if reply.status is Status.CHANGED else "not recorded"
                reply.status = Status.FAILED
                reply.error, reply.hint = "%s: %s" % (what, error.message), error.hint
        self._send()
        return has_failed

    def _send(self) -> "None":
        if self._waiting:
            data = b"".join(_pack(reply) for reply, _ in self._waiting)
            self._waiting = []
            self._channel.write(data)


def fill(reply: "messages.Reply", outcome: "Outcome", seconds: "float") -> "None":
    """Fill in a reply with what became of its call."""
    reply.status = outcome.status
    reply.reason = outcome.reason
    reply.msg = outcome.msg
    reply.diff = outcome.diff or None
    reply.values = outcome.values
    reply.before = outcome.before or None
    reply.after = outcome.after or None
    reply.unknown = outcome.unknown
    reply.seconds = round(seconds, 4)


def _pack(reply: "messages.Reply") -> "bytes":
    try:
        return wire.pack(reply)
    except wire.WireError as error:  # what a module returns has no limits
        text = "it was done, but its result cannot be sent: %s" % error.message
        return wire.pack(messages.Reply(id=reply.id, status=Status.FAILED, error=text))
