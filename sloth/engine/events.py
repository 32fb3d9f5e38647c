"""What happens in a run, as plain values: the engine emits them, `report` shows them, NDJSON carries them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Results of calls and tasks; hosts may also be UNREACHABLE.
CHANGED = "changed"
UNCHANGED = "unchanged"
SKIPPED = "skipped"
FAILED = "failed"
UNKNOWN = "unknown"
UNREACHABLE = "unreachable"


@dataclass(frozen=True, eq=False)
class Result:
    """One call's outcome on one host: an element of "results" in the JSON document.

    diff: {attribute: {"before": value, "after": value}}; for a text content also {"unified": str}. None: no diff.
    values: the call's own result values (stdout, exit_code, backup_file, ...).
    error: the whole error text for people when failed, else "".
    """

    key: str
    module: str
    status: str
    reason: str = ""
    msg: str = ""
    subject: str = ""  # what the call is about, as the site wrote it
    diff: dict[str, Any] | None = None
    where: str = ""
    seconds: float = 0.0
    error: str = ""
    detail: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Event:
    """Base of all events; `time` is epoch seconds."""

    time: float


@dataclass(frozen=True, eq=False)
class RunStarted(Event):
    """The first event of a run."""

    run_id: str
    site: str
    check: bool
    hosts: tuple[str, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class HostStarted(Event):
    """We begin to work on a host (connect)."""

    host: str


@dataclass(frozen=True, eq=False)
class HostPhase(Event):
    """What a host is doing: "connecting", "waiting for the lock of ...", "task NAME", "file.copy /etc/motd"."""

    host: str
    phase: str


@dataclass(frozen=True, eq=False)
class TaskStarted(Event):
    """A task (or handler) begins on a host."""

    host: str
    task: str
    handler: bool = False


@dataclass(frozen=True, eq=False)
class CallOutput(Event):
    """A running command printed something: raw text, terminal escapes still in it."""

    host: str
    task: str
    call: str
    stream: str
    data: str


@dataclass(frozen=True, eq=False)
class Log(Event):
    """print() and log.* of the site, and warnings. level: "print" "debug" "info" "warn" "error"."""

    host: str
    task: str
    level: str
    text: str
    where: str = ""


@dataclass(frozen=True, eq=False)
class CallFinished(Event):
    """One call is done (also failed, skipped)."""

    host: str
    task: str
    result: Result


@dataclass(frozen=True, eq=False)
class TaskFinished(Event):
    """A task is done on a host. `error` (str) is None unless failed; `ignored`: ignore_errors held."""

    host: str
    task: str
    status: str
    seconds: float
    error: str | None = None
    ignored: bool = False
    handler: bool = False
    reason: str = ""


@dataclass(frozen=True, eq=False)
class OrphansFound(Event):
    """What the site once applied to a host and no longer names.

    orphans: dicts of key, task, status ("planned": --prune removes it, "refused": it cannot) and msg (why not).
    """

    host: str
    orphans: tuple[dict[str, str], ...]


@dataclass(frozen=True, eq=False)
class HostFinished(Event):
    """A host is done: status is changed, unchanged, failed, skipped, unknown or unreachable."""

    host: str
    status: str
    seconds: float
    error: str | None = None


@dataclass(frozen=True, eq=False)
class RunFinished(Event):
    """The last event. summary: hosts, changed, unchanged, failed, skipped, unreachable, unknown (int each).

    Apart from "hosts" and "unreachable" (hosts), the summary counts calls.
    """

    run_id: str
    seconds: float
    summary: dict[str, int]
    interrupted: bool = False
