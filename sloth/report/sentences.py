"""Sentences for people: why a task was skipped, what a host waits for, who holds a lock."""

from __future__ import annotations

from sloth.dates import local_date
from sloth.engine.events import (
    FAILED,
    FROZEN,
    SKIPPED,
    UNKNOWN,
    UNREACHABLE,
    Handled,
    Phase,
    PhaseKind,
    RunFinished,
    Skip,
    SkipKind,
    TaskFinished,
)
from sloth.payload.session.messages import LockHolder


def skip_sentence(skip: Skip) -> str:
    """Return why a task was skipped."""
    match skip.kind:
        case SkipKind.DEPENDENCY:
            return f"depends on {skip.task}, which failed on {skip.host}"
        case SkipKind.BATCH:
            return f"stopped: it failed on {skip.host}"
        case SkipKind.FATAL:
            return f"stopped: {skip.task} failed on {skip.host}"
        case SkipKind.STEP:
            return "not wanted"
        case SkipKind.ONCE:
            return "runs once, and did on another host"
        case SkipKind.DONE:
            return f"done in run {skip.task}"
    return "when"


def task_reason(event: TaskFinished) -> str:
    """Return why a task was skipped, or cannot be known; "" when it ran."""
    return skip_sentence(event.skip) if event.skip is not None else event.unknown


def phase_sentence(phase: Phase) -> str:
    """Return what a host is busy with."""
    match phase.kind:
        case PhaseKind.LOCKED:
            return f"waiting for {holder_sentence(phase.holder or LockHolder())}"
        case PhaseKind.RETRYING:
            return f"task {phase.task}, try {phase.attempt}"
        case PhaseKind.WORKING:
            return (f"task {phase.task}" if phase.task else "working") + (f": {phase.call}" if phase.call else "")
        case PhaseKind.STOPPING:
            return "stopping"
    return "connecting"


def holder_sentence(holder: LockHolder) -> str:
    """Return who holds a run lock."""
    if not holder.run:
        return "another run"
    since = local_date(holder.since)
    return f"{holder.who} from {holder.origin} (run {holder.run}, process {holder.pid}) since {since}"


def recap_sentence(event: RunFinished, changed: str) -> str:
    """Return the counts of a run; changed: what follows the number of changes."""
    counts = event.summary
    parts = [f"{counts.changed} {changed}", f"{counts.unchanged} unchanged"]
    others: tuple[tuple[int, str], ...] = (
        (counts.failed, FAILED),
        (counts.unreachable, UNREACHABLE),
        (counts.ignored, Handled.IGNORED),
        (counts.rescued, Handled.RESCUED),
        (counts.retried, Handled.RETRIED),
        (counts.skipped, SKIPPED),
        (counts.unknown, UNKNOWN),
        (counts.frozen, FROZEN),
    )
    parts += [f"{count} {word}" for count, word in others if count]
    end = "interrupted: " if event.interrupted else ""
    hosts = f"{counts.hosts} host{'s' * (counts.hosts != 1)}"
    return f"{end}{hosts}: {', '.join(parts)} in {event.seconds:.1f} s"
