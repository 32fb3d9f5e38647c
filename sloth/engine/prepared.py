"""Calls as they are sent, kept for the hosts that follow: most of a site's calls are the same on all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.payload.kernel.resource import Action

if TYPE_CHECKING:
    from sloth.engine.call_options import CallOptions
    from sloth.payload.kernel.resource import Call
    from sloth.payload.kernel.values import Arguments
    from sloth.playbook import Invoke
    from sloth.transport import Asset
    from sloth.transport.in_flight import Frames

LONGEST = 8 * 1024  # bytes of a call that is kept
MOST = 2_000  # calls, and as many frames
Key = tuple[str, bytes, tuple[tuple[str, str], ...]]


@frozen(eq=False)
class Prepared:
    """A call that can be sent.

    Attributes:
        args: complete.
        given: those to send.
        subject: as it may be shown.
        frames: what goes to a host, by everything in it that is not said here; None when it is made for each.
    """

    cls: type[Call]
    args: Arguments
    given: Arguments
    assets: Sequence[Asset]
    options: CallOptions
    subject: str
    frames: dict[tuple[object, ...], Frames] | None = field(default=None, repr=False)


class PreparedCalls:
    """Finds calls by what the site's program has sent: the texts of their arguments are compared, not their values.

    Only those are kept whose preparation depends on nothing else: neither files nor templates, nor another call.
    """

    def __init__(self) -> None:
        self._calls: dict[Key, Prepared] = {}
        self._frames = 0

    def find(self, request: Invoke, environment: Mapping[str, str]) -> Prepared | None:
        """Return the call that was prepared for such a request; environment: of its task."""
        return self._calls.get(_key(request, environment))

    def keep(self, request: Invoke, environment: Mapping[str, str], call: Prepared) -> Prepared:
        """Return the call of a request as it is to be used, which is kept when it can be used again."""
        if not _is_reusable(request, call):
            return call
        if len(self._calls) >= MOST:
            self._calls.clear()
        kept = self._calls[_key(request, environment)] = replace(call, frames={})
        return kept

    def frames(self, call: Prepared, *differences: object) -> Frames | None:
        """Return where the frames of a call are kept. differences: what is in them besides the prepared call."""
        if call.frames is None:
            return None
        found = call.frames.get(differences)
        if found is None:
            self._frames += 1
            if self._frames > MOST:  # calls that differ in this may be used once each
                self._frames = 0
                for one in self._calls.values():
                    assert one.frames is not None
                    one.frames.clear()
            found = call.frames[differences] = {}
        return found


def _key(request: Invoke, environment: Mapping[str, str]) -> Key:
    return request.name, request.text, tuple(environment.items()) if environment else ()


def _is_reusable(request: Invoke, call: Prepared) -> bool:
    cls = call.cls
    if not 0 < len(request.text) <= LONGEST or call.options.sensitive or call.options.notify or cls.fetches:
        return False
    if issubclass(cls, Action) and cls.reconnects:
        return False
    return not cls.ships or (cls.ships == "file" and call.args.get("content") is not None)
