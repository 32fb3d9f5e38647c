"""Patterns that select hosts by how an earlier run ended there: @failed, @changed:RUN, @unreachable."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from sloth.errors import UsageError
from sloth.inventory import pattern_items
from sloth.report.text import neutral
from sloth.state.memory import Memory
from sloth.state.storage import Storage

_ITEM = re.compile(r"(!?)@(failed|changed|unreachable)(?::(.+))?")


def expand(pattern: str | Sequence[str], groups: Collection[str], where: str, storage: Storage) -> str | list[str]:
    """Return a pattern in which the hosts of earlier runs have taken the place of these items.

    Without RUN the newest run of this controller is meant, and where it has made none that of others, which a backend
    has (a CI job's home is new each time). A check is no run. A group of the inventory with such a name
    comes first. Raises UsageError when no host ended so, StateError for a run that is not known.
    """
    items = pattern_items(pattern)
    if not any(_is_meant(item, groups) for item in items):
        return pattern if isinstance(pattern, str) else list(pattern)
    _fetch(storage, [match[3] for item in items if (match := _ITEM.fullmatch(item)) and _is_meant(item, groups)])
    memory = storage.memory()
    try:
        expanded: list[str] = []
        for item in items:
            expanded += _hosts(memory, item, where) if _is_meant(item, groups) else [item]
        return expanded
    finally:
        memory.close()


def _fetch(storage: Storage, names: Collection[str | None]) -> None:
    """Fetch the runs that are named, or the newest ones: they are meant where this controller has made none."""
    if storage.location is not None:
        from sloth.cli.syncing import fetch_runs

        for name in names:
            fetch_runs(storage, "" if name in (None, "last") else str(name))


def _is_meant(item: str, groups: Collection[str]) -> bool:
    match = _ITEM.fullmatch(item)
    return match is not None and (match[3] is not None or match[2] not in groups)


def _hosts(memory: Memory, item: str, where: str) -> list[str]:
    sign, status, name = _ITEM.fullmatch(item).groups()  # type: ignore[union-attr]  # it is meant
    run = (memory.runs.find(name) if name else memory.runs.newest_own()).run
    hosts = dict.fromkeys(result.host for result in memory.runs.results(run) if result.status == status)
    if not hosts and not sign:
        text = f"run {run} failed on no host" if status == "failed" else f"no host was {status} in run {run}"
        raise UsageError(neutral(f"{where}: {text}"), hint="see sloth-runner runs list")
    return [sign + host for host in hosts]
