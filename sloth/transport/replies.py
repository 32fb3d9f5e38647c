"""Reads replies faster than other messages are read: a run has one for each call on each host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.payload.kernel.status import Reason, Status
from sloth.payload.session.messages import FROM_PAYLOAD, Message, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sloth.payload.kernel.values import Json

_STATUSES = {status.value: status for status in Status}
_REASONS = {reason.value: reason for reason in Reason}
_RARE = frozenset(("diff", "before", "after", "warnings"))  # what most replies do not have
LARGEST = 2**31  # of a call's number


class _QuickReply(Reply):
    """A reply as it is read here: the fields are those of Reply, and so are the values."""

    @classmethod
    def read(cls, data: Json) -> Reply:  # type: ignore[override]  # what is read is a Reply
        """Return the reply that a dict describes, as Reply.read() does, which reads all that is out of the ordinary."""
        if not isinstance(data, dict) or not _RARE.isdisjoint(data):
            return Reply.read(data)
        get = data.get
        number, status, reason = get("id"), get("status"), get("reason", "")
        key, msg, error = get("key", ""), get("msg", ""), get("error", "")
        hint, detail, seconds = get("hint", ""), get("detail", ""), get("seconds", 0.0)
        unknown, invalid = get("unknown", False), get("invalid", False)
        values = get("values", {})
        if (
            not key.__class__ is msg.__class__ is error.__class__ is hint.__class__ is detail.__class__ is str
            or not status.__class__ is reason.__class__ is str
            or status not in _STATUSES
            or reason not in _REASONS
            or number.__class__ is not int
            or not 0 <= number < LARGEST
            or values.__class__ is not dict
            or seconds.__class__ is not float
            or not unknown.__class__ is invalid.__class__ is bool
        ):
            return Reply.read(data)
        found = Reply.__new__(Reply)
        found.id, found.status, found.reason = number, _STATUSES[status], _REASONS[reason]
        found.key, found.msg, found.error, found.hint, found.detail = key, msg, error, hint, detail
        found.seconds, found.unknown, found.invalid, found.values = seconds, unknown, invalid, values
        found.diff = found.before = found.after = None
        found.warnings = []
        return found


MESSAGES: Mapping[str, type[Message]] = {**FROM_PAYLOAD, Reply.TYPE: _QuickReply}
