"""Fill a state file as the kernel would."""

from __future__ import annotations

from typing import Any

from sloth.payload.kernel.hashing import canonical
from sloth.payload.kernel.record import Context, Record
from sloth.payload.kernel.redact import NOTHING
from sloth.payload.kernel.status import Reason
from sloth.payload.state.store import Store

CONTEXT = Context(run="r", site="s", task="t", who="w", origin="o")


def record(
    store: Store,
    key: str,
    checksum: str = "c",
    desired: Any = None,
    observed: Any = None,
    changed: bool = True,
    run: str = "",
    site: str = "",
    task: str = "",
    place: str = "",
    calls: list[dict[str, Any]] | None = None,
    first: tuple[Any, ...] | None = None,
) -> None:
    """Record a resource."""
    redact = store.redactor.redact
    store.records.remember(
        key,
        checksum,
        redact(desired or {}),
        redact(observed or {}),
        changed,
        Context(run=run, site=site, task=task, where=place),
        None if calls is None else canonical(calls),
        None if first is None else redact(first[0]).json,
        store.records.get(key),
    )


def remember(
    store: Store,
    key: str,
    reason: str,
    before: Any,
    after: Any,
    diff: Any = None,
    context: Context = CONTEXT,
    call: dict[str, Any] | None = None,
    was: Record | None = None,
) -> None:
    """Add a change to the history."""
    redact = store.redactor.redact
    text = None if call is None else canonical(call)
    shown = NOTHING if diff is None else redact(diff)
    store.history.add(key, Reason(reason), redact(before), redact(after), shown, context, text, was)
