"""Copies everything from one backend to another one: complete, or to be continued.

While it is not complete, the target has an entry MARK, and no run uses it (refuse_incomplete). A copy reads what the
target has, makes sure that the mark is there, and then writes under the condition that the entry is as it was read: so
of two copies at once, the slower one never writes over what a run has written after the faster one was done.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sloth.errors import StateError
from sloth.state.backends.backend import Backend, BackendError, Entry
from sloth.state.backends.documents import Change, change, load, patiently
from sloth.state.shared_locks import keep_numbers
from sloth.state.sync import entries

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

MARK = "migration"  # an entry of the target while it is not complete: where from, and whether it had other entries
LEFT_OUT = ("locks/", "check/", "sweep")
AT_ONCE = 8
PASSES = 5  # over what was written in the source meanwhile


async def migrate(
    source: Backend, target: Backend, force: bool, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, int]:
    """Copy all entries but locks, and verify that the target has them; return how many there are of each kind.

    The numbers of locks go on in the target. That must have no entries, or those of a copy that was interrupted;
    force: entries of the same name are replaced, and others stay. progress: is called with the numbers of entries that
    are copied, and of all. Raises StateError.
    """
    if source.url == target.url:
        raise StateError(f"{source.url} is both the source and the target")
    await refuse_incomplete(source)
    names = await _names(source)
    if not names:
        raise StateError(f"{source.url} has no entry", hint="check its prefix")
    is_exact = await _mark(source, target, names, force)
    for _ in range(PASSES):
        names = await _names(source)
        try:
            copied = await _copy(source, target, names, progress)
        except _Completed:
            break
        if is_exact:
            copied += await _forget_deleted(source, target, names)
        if not copied:
            break
    else:
        raise BackendError(f"{source.url} is written all the time", hint="let no run use it, and repeat the command")
    missing = set(names) - set(await _names(target))
    if missing:
        raise BackendError(f"{target.url} lacks {min(missing)} and {len(missing) - 1} more", hint="repeat the command")
    await keep_numbers(source, target)
    await patiently(lambda: target.forget(MARK))
    return dict(sorted(Counter(name.partition("/")[0] for name in names).items()))


async def refuse_incomplete(backend: Backend) -> None:
    """Raise BackendError when a backend is the target of a copy that is not complete."""
    mark = await load(backend, MARK)
    if mark is not None:
        origin = _source_of(mark)
        raise BackendError(
            f"{backend.url} is an incomplete copy of {origin}",
            hint=f"complete it: sloth-runner state backend migrate {origin} {backend.url}",
        )


async def _mark(source: Backend, target: Backend, names: list[str], force: bool) -> bool:
    """Mark the target as incomplete; return whether it shall have nothing else than the source. Raises StateError."""
    mark = await load(target, MARK)
    is_exact = not force and (mark is None or _is_exact(mark))
    if not force and (mark is None or _source_of(mark) != source.url):
        await _refuse_others(source, target, names)

    def decide(content: Json, now: float) -> tuple[Change, None]:
        if content is not None and not force and _source_of(content) != source.url:
            raise StateError(f"{target.url} is the target of another copy, of {_source_of(content)}")
        return Change({"source": source.url, "is_exact": is_exact}), None

    await change(target, MARK, decide)
    return is_exact


def _source_of(mark: Json) -> str:
    return str(mark.get("source")) if isinstance(mark, dict) else str(mark)


def _is_exact(mark: Json) -> bool:
    return isinstance(mark, dict) and mark.get("is_exact") is True


class _Completed(Exception):
    """Another copy from the same source has completed the target, and perhaps runs use it already."""


async def _forget_deleted(source: Backend, target: Backend, names: list[str]) -> int:
    """Forget what was copied, and then deleted in the source; return how many entries that were."""
    known = set(names)
    deleted = [name for name in await _names(target) if name not in known and await _read(source, name) is None]
    for name in deleted:
        if await load(target, MARK) is None:
            break
        await patiently(partial(target.forget, name))
    return len(deleted)


async def _names(backend: Backend) -> list[str]:
    names = await patiently(lambda: backend.names(""))
    kept = [name for name in names if not name.startswith(LEFT_OUT) and name != MARK]
    return sorted(kept, key=lambda name: (entries.is_head(name), name))  # pieces come before the heads that name them


async def _refuse_others(source: Backend, target: Backend, names: list[str]) -> None:
    """Raise StateError when the target has something else than the source."""
    known = set(names)
    there = await _names(target)
    for name in there:
        if name not in known or not await _is_same(source, target, name):
            raise StateError(
                f"{target.url} has other data: {len(there)} entries, {name} for one",
                hint="choose another prefix, or replace what has the same name with --force",
            )


async def _is_same(source: Backend, target: Backend, name: str) -> bool:
    one, other = await asyncio.gather(_read(source, name), _read(target, name))
    return one is not None and other is not None and one.value == other.value


async def _copy(source: Backend, target: Backend, names: list[str], progress: Callable[[int, int], None]) -> int:
    """Copy what the target does not have as it is; return how many entries that were."""
    slots = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def one(name: str) -> bool:
        nonlocal done
        async with slots:
            copied = await _copy_one(source, target, name)
        done += 1
        progress(done, len(names))
        return copied

    pieces = [name for name in names if not entries.is_head(name)]
    heads = [name for name in names if entries.is_head(name)]
    copied = await asyncio.gather(*map(one, pieces))
    return sum(copied) + sum(await asyncio.gather(*map(one, heads)))


async def _copy_one(source: Backend, target: Backend, name: str) -> bool:
    entry, there = await asyncio.gather(_read(source, name), _read(target, name))
    if entry is None or (there is not None and there.value == entry.value):
        return False
    if await load(target, MARK) is None:
        raise _Completed
    # After a lost answer the condition fails, and the next pass finds it as it must be.
    await patiently(lambda: target.write(name, entry.value, there.version if there is not None else None))
    return True


async def _read(backend: Backend, name: str) -> Entry | None:
    return await patiently(partial(backend.read, name))
