"""What happens in a run, as plain values: the engine emits them, `report` shows them, NDJSON carries them.

Everything in an event is redacted already (engine/secrets.py); what is shown of it is cut in `report`.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.payload.kernel.findings import Restored
from sloth.payload.kernel.status import Reason, Status, Word
from sloth.payload.session.messages import LockHolder
from sloth.playbook.requests import LogLevel
from sloth.state.run_records import RunCounts

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Attributes, Diff

# Results of calls and tasks; hosts may also be UNREACHABLE.
CHANGED = Status.CHANGED
UNCHANGED = Status.UNCHANGED
SKIPPED = Status.SKIPPED
FAILED = Status.FAILED
UNKNOWN = Status.UNKNOWN
FROZEN = Status.FROZEN
UNREACHABLE = Status.UNREACHABLE


class SkipKind(Word):
    """Why a task does not run on a host."""

    WHEN = "when"  # its `when` is false
    DEPENDENCY = "dependency"  # a task that it depends on failed
    BATCH = "batch"  # it failed on another host, or on more of them than it may
    FATAL = "fatal"  # a task with any_errors_fatal failed
    STEP = "step"  # the user did not want it, with --step
    ONCE = "once"  # it runs once, and did on another host
    DONE = "done"  # it ended in the run that is resumed, whose id stands for the task


@frozen
class Skip:
    """Why a task does not run: `task` on `host` is what failed, where something did."""

    kind: SkipKind
    task: str = ""
    host: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether something failed, so that what depends on this task must not run either."""
        return self.kind is SkipKind.DEPENDENCY or self.ends_host

    @property
    def ends_host(self) -> bool:
        """Whether no further task runs on the host."""
        return self.kind in (SkipKind.BATCH, SkipKind.FATAL)


class Handled(Word):
    """What keeps the failure of a call or task from being a failure of the run."""

    NONE = ""  # nothing does
    IGNORED = "ignored"  # the task has ignore_errors
    RESCUED = "rescued"  # the site caught it, with pcall
    RETRIED = "retried"  # the task was tried again


class PhaseKind(Word):
    """What a host is busy with besides its tasks."""

    CONNECTING = "connecting"
    LOCKED = "locked"  # another run holds it
    RETRYING = "retrying"  # a task is tried again
    WORKING = "working"  # a task runs; one of its calls takes long
    STOPPING = "stopping"  # the run was interrupted


@frozen
class Phase:
    """What a host is busy with.

    Attributes:
        holder: with LOCKED.
        task: with RETRYING and WORKING.
        attempt: with RETRYING, from 2 on.
        call: with WORKING, the call that takes long, as people name it.
    """

    kind: PhaseKind
    holder: LockHolder | None = None
    task: str = ""
    attempt: int = 0
    call: str = ""


@frozen(eq=False)
class Result:
    """One call's outcome on one host: an element of "results" in the JSON document.

    diff: {attribute: {"before": value, "after": value}}; for a text content also {"unified": str}. None: no diff.
    values: the call's own result values (stdout, exit_code, backup_file, ...).
    handled: of a failure.
    delegated_to: the host on which it was made, where that is another one.
    error: the whole error text for people when failed, else "".
    """

    key: str
    module: str
    status: Status
    reason: Reason = Reason.NONE
    msg: str = ""
    subject: str = ""  # what the call is about, as the site wrote it
    diff: Diff | None = None
    where: str = ""
    seconds: float = 0.0
    error: str = ""
    detail: str = ""
    values: Attributes = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    handled: Handled = Handled.NONE
    delegated_to: str = ""


@frozen
class Summary(RunCounts):
    """The counts of a run and of its hosts."""

    hosts: int = 0


@frozen(eq=False)
class Event:
    """Base of all events; `time` is epoch seconds."""

    time: float


@frozen(eq=False)
class RunStarted(Event):
    """The first event of a run."""

    run_id: str
    site: str
    check: bool
    hosts: tuple[str, ...]
    tasks: tuple[str, ...]
    inventory: tuple[str, ...] = ()  # its sources; none for this machine alone


@frozen(eq=False)
class HostStarted(Event):
    """We begin to work on a host (connect)."""

    host: str


@frozen(eq=False)
class HostPhase(Event):
    """What a host is busy with."""

    host: str
    phase: Phase


@frozen(eq=False)
class SessionOpened(Event):
    """A payload is ready for calls.

    account: the one it runs as, "" for the one we log in as; connect, authenticate: seconds that the connection took,
    0 when an earlier session has opened it; start: seconds from the start of the command on the host until the payload
    was ready, the wait for another run's lock included.
    """

    host: str
    account: str
    connect: float
    authenticate: float
    start: float


@frozen(eq=False)
class TaskStarted(Event):
    """A task (or handler) begins on a host."""

    host: str
    task: str
    handler: bool = False


@frozen(eq=False)
class CallOutput(Event):
    """A running command printed something: raw text, terminal escapes still in it."""

    host: str
    task: str
    call: str
    stream: str
    data: str


@frozen(eq=False)
class Log(Event):
    """The output of print() and log.* in the site, and warnings."""

    host: str
    task: str
    level: LogLevel
    text: str
    where: str = ""


@frozen(eq=False)
class CallFinished(Event):
    """One call is done (also failed, skipped)."""

    host: str
    task: str
    result: Result


@frozen(eq=False)
class TaskFinished(Event):
    """A task is done on a host.

    error: None unless it failed; ignored: ignore_errors held; skip: why it was skipped; unknown: why a check cannot
    know what it would do; retried: how often it was tried again.
    """

    host: str
    task: str
    status: Status
    seconds: float
    error: str | None = None
    ignored: bool = False
    handler: bool = False
    skip: Skip | None = None
    unknown: str = ""
    retried: int = 0


@frozen(eq=False)
class OrphansFound(Event):
    """What the site once applied to a host and no longer names, and what pruning would do (PLANNED, REFUSED)."""

    host: str
    orphans: tuple[Restored, ...]


@frozen(eq=False)
class HostFinished(Event):
    """A host is done: status is changed, unchanged, failed, skipped, unknown or unreachable."""

    host: str
    status: Status
    seconds: float
    error: str | None = None


@frozen(eq=False)
class RunFinished(Event):
    """The last event."""

    run_id: str
    seconds: float
    summary: Summary
    interrupted: bool = False
