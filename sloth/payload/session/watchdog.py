"""The process that takes changes back when nobody confirms them. It needs neither controller nor session."""

import os
import signal
import time

from sloth.payload.kernel.errors import Locked, StoreError
from sloth.payload.lib.host import home_of
from sloth.payload.session.confirmation import Confirmation, Phase, end_process, is_running
from sloth.payload.session.messages import LockHolder
from sloth.payload.session.reverting import revert_alone
from sloth.payload.session.run_lock import RunLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.session.confirmation import Pending

POLL = 0.2  # seconds between two looks
END = 5.0  # seconds that a session has to end before it is killed
LOCK = 30.0  # seconds to wait for the run lock; after that it is done without: somebody may be locked out
ATTEMPTS = 5  # when the state file cannot be used
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(account: "str") -> "None":
    """Watch until the changes are confirmed, or take them back; account: the account's directory."""
    os.umask(0o022)
    os.environ.setdefault("PATH", PATH)
    os.environ.setdefault("HOME", home_of(os.geteuid()))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    confirmation = Confirmation(account)
    confirmation.watch(wait=True)  # one that has just done its work may live for a moment more
    _watch(confirmation)


def _watch(confirmation: "Confirmation") -> "None":
    begun = time.monotonic()
    while True:
        pending = confirmation.read()
        if pending is None:
            return
        if pending.phase is Phase.REVERTING:
            is_due = not is_running(pending.claimant, pending.claimed)
        else:
            is_due = confirmation.seconds_left(pending, begun) <= 0
        if is_due:
            claimed = confirmation.claim(_reason(pending))
            if claimed is not None:
                # A session that waits for the run lock asks its holder to end: not this one.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                _take_back(confirmation, claimed)
                return
        time.sleep(POLL)


def _reason(pending: "Pending") -> "str":
    if pending.phase is Phase.WAITING:
        return "not confirmed by a new connection within %g seconds" % pending.seconds
    return "the controller was not heard for %g seconds" % pending.seconds


def _take_back(confirmation: "Confirmation", pending: "Pending") -> "None":
    for pid, started in [(pending.pid, pending.started), *confirmation.sessions()]:
        end_process(pid, started, END)
    lock = RunLock(confirmation.account)
    holder = LockHolder(run=pending.run, who=pending.who, origin="watchdog", link=-1)
    try:
        lock.acquire(holder, LOCK, lambda other: None, lambda: False)
    except (Locked, StoreError):
        pass
    for attempt in range(1, ATTEMPTS + 1):
        try:
            revert_alone(confirmation, pending)
            break
        except StoreError as error:
            if attempt == ATTEMPTS:
                confirmation.report(pending, [], error.message)
            time.sleep(attempt)
    lock.release()
