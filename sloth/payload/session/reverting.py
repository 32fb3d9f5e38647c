"""Takes back what was not confirmed: by the watchdog, by the session itself, or by the next one."""

import os

from sloth.payload.kernel.record import Context
from sloth.payload.kernel.revert import Revert
from sloth.payload.lib.host import Host, state_directory
from sloth.payload.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from sloth.payload.kernel.content import Content
    from sloth.payload.kernel.record import Asset
    from sloth.payload.kernel.values import Rows
    from sloth.payload.session.confirmation import Confirmation, Pending


class NoLink(object):
    """Stands for the connection to a controller where there is none."""

    def pull(self, index: "int", asset: "Asset") -> "Iterator[bytes]":
        raise OSError("no controller is connected")

    def give(self, content: "Content") -> "None":
        raise OSError("no controller is connected")

    def output(self, stream: "str", data: "bytes") -> "None":
        pass

    def cancelled(self) -> "bool":
        return False


def revert(confirmation: "Confirmation", pending: "Pending", store: "Store", host: "Host") -> "Rows":
    """Take the changes back and remove the note of them; return what became of each. Raises StoreError."""
    context = Context(run=pending.run, site=pending.site, who=pending.who, origin="the host itself: %s" % pending.why)
    calls = [(call.handler, call.name, call.args) for call in pending.handlers]
    rows = [restored.shown() for restored in Revert(store, host, context).revert(pending.run, pending.tasks, calls)]
    if pending.site:
        handlers = [name for name in pending.tasks if name != pending.task and name not in pending.keep]
        store.handlers.settle(pending.site, handlers)
    store.commit()
    with confirmation.lock():
        confirmation.remove()
    return rows


def revert_alone(confirmation: "Confirmation", pending: "Pending") -> "Rows":
    """Do the same without a session, and leave a report for the next one. Raises StoreError."""
    path = os.path.join(state_directory(confirmation.account), "%s.db" % pending.agent)
    store = Store(path)
    try:
        host = Host(NoLink(), store.signatures)
        rows = revert(confirmation, pending, store, host)
    finally:
        store.close()
    if rows:
        confirmation.report(pending, rows)
    return rows
