"""What is recorded of a run, as values: its counts, what changed or failed in it, and how it went on each host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sloth.frozen import field_names, frozen
from sloth.payload.kernel.hashing import as_utf8
from sloth.state.backends.untrusted import LATEST, parse

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject


def _columns(row: RunResult | RunHost) -> Iterator[str | float | None]:
    """Return the values of a row's fields. (dataclasses.astuple() looks for further ones in each.)"""
    return (getattr(row, name) for name in field_names(type(row)))


class RunKind(StrEnum):
    """What a record is of."""

    RUN = "run"
    CHECK = "check"
    DRIFT = "drift"


@frozen
class RunResult:
    """What changed or failed in a run: a call, or a task or host without a call that is the cause.

    Secrets are already redacted.

    Attributes:
        task: None for a host.
        key: "" without a call.
        status: "changed", "failed", "unreachable", or what became of a failure: "ignored", "rescued", "retried"; of a
            drift run "drift", "unknown" or "frozen".
        place: the line of the site, "site.sloth:12".
        diff: as JSON, cut to a limit; in the form of Result.diff in engine/events.py.
        at: when it ended, in epoch seconds. diff, seconds and at are None before format 7.
    """

    host: str
    task: str | None
    key: str
    status: str
    reason: str
    place: str
    error: str
    diff: str | None = None
    seconds: float | None = None
    at: float | None = None

    def row(self) -> tuple[str | float | None, ...]:
        """Return the values of its columns."""
        return tuple(storable(value) if isinstance(value, str) else value for value in _columns(self))


@frozen
class RunHost:
    """How a run went on one host.

    Attributes:
        status: as that of HostFinished.
        started: in epoch seconds.
        spans: where its time went, as JSON: see engine/timings.py.
    """

    host: str
    status: str
    started: float | None = None
    seconds: float | None = None
    error: str = ""
    spans: str | None = None

    def row(self) -> tuple[str | float | None, ...]:
        """Return the values of its columns."""
        return tuple(storable(value) if isinstance(value, str) else value for value in _columns(self))


@frozen
class RunCounts:
    """The counts of a run.

    Attributes:
        changed, unchanged: calls.
        failed: tasks that failed on a host, and hosts that failed without one. The run fails if it is above 0.
        skipped: tasks on a host.
        unknown: tasks on a host, and calls, of which a check cannot know what they would do.
        unreachable: hosts.
        ignored: tasks that failed on a host, and have ignore_errors.
        rescued: calls whose failure pcall caught.
        retried: how often tasks were tried again.
        frozen: calls that were left alone because somebody has frozen what they are about.
    """

    changed: int = 0
    failed: int = 0
    unchanged: int = 0
    skipped: int = 0
    unknown: int = 0
    unreachable: int = 0
    ignored: int = 0
    rescued: int = 0
    retried: int = 0
    frozen: int = 0


@frozen
class RunRecord:
    """A run of this controller. What is only known at its end is None until then.

    Attributes:
        hosts: how many there were.
        started: in epoch seconds.
        seconds: how long it took.
        changed, failed, unchanged, ...: as RunCounts; formats before 5 had the first two.
        status: the exit status.
        kind: a RunKind; None before format 7, when only runs were recorded.
        about: how it was called, as JSON: see engine/recording.py.
        source: the backend that it was fetched from; None: it is a run of this controller.
    """

    run: str
    site: str
    who: str
    hosts: int
    started: float
    seconds: float | None = None
    changed: int | None = None
    failed: int | None = None
    status: int | None = None
    unchanged: int | None = None
    skipped: int | None = None
    unknown: int | None = None
    unreachable: int | None = None
    ignored: int | None = None
    rescued: int | None = None
    retried: int | None = None
    frozen: int | None = None
    kind: str | None = None
    about: str | None = None
    source: str | None = None


@frozen
class StoredRun:
    """All that is recorded of a run. given: see RunRecords.begin()."""

    record: RunRecord
    given: str | None
    progress: Sequence[Progress]
    results: Sequence[RunResult]
    hosts: Sequence[RunHost]

    @classmethod
    def read(cls, record: JsonObject, given: str | None, rows: Json) -> StoredRun:
        """Return what a backend has; fields that a later version may have added are left out.

        Nothing of it is trusted to be as we have written it. Raises AttributeError, KeyError, TypeError, ValueError.
        """
        return cls(
            RunRecord(**_known(RunRecord, record)),
            None if given is None else _json_object(given),
            [(str(host), str(task), str(status)) for host, task, status in rows["progress"]],
            [RunResult(**_known(RunResult, row)) for row in rows["results"]],
            [RunHost(**_known(RunHost, row)) for row in rows["hosts"]],
        )


def _known(kind: type[RunRecord] | type[RunResult] | type[RunHost], data: JsonObject) -> dict[str, Any]:
    """Return the fields of a value that are known, after their types were checked. Raises ValueError."""
    found: dict[str, Any] = {}
    for each in fields(kind):
        if each.name in data:
            value, types = data[each.name], str(each.type)
            if types not in _TYPES or not isinstance(value, _TYPES[types]) or isinstance(value, bool):
                raise ValueError(f"{each.name} is no {types}")
            if isinstance(value, int | float) and not _is_storable(value):
                raise ValueError(f"{each.name} is out of range")
            if each.name in ("about", "diff", "spans") and value is not None:
                parse(str(value))
            found[each.name] = value
    if isinstance(found.get("about"), str):
        _json_object(found["about"])
    return found


_NONE = type(None)
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,), "str | None": (str, _NONE), "int": (int,), "int | None": (int, _NONE),
    "float": (int, float), "float | None": (int, float, _NONE),
}  # fmt: skip


def _json_object(text: str) -> str:
    """Return the JSON of an object. Raises TypeError, ValueError when it is none."""
    if not isinstance(parse(text), dict):
        raise ValueError("no object")
    return text


def _is_storable(number: float) -> bool:
    """Return whether a number fits SQLite, and is none that no clock and no counter here can have."""
    return -(2**63) <= number < 2**63 if isinstance(number, int) else abs(number) <= LATEST


Progress = tuple[str, str, str]  # host, task ("": the host itself), status: see engine/resume.py


def storable(value: str | None) -> str | None:
    """Return a text as SQLite takes it."""
    return None if value is None else as_utf8(value)
