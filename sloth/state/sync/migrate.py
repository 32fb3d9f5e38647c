"""Copies everything from one backend to another one: complete, or to be continued."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

from sloth.errors import StateError
from sloth.state.backends.backend import Backend, BackendError, Entry
from sloth.state.backends.documents import Change, change, load, patiently
from sloth.state.sync import entries

MARK = "migration"  # an entry of the target while it is not complete
LEFT_OUT = ("locks/", "check/")
AT_ONCE = 8
PASSES = 5  # over what was written in the source meanwhile


async def migrate(
    source: Backend, target: Backend, force: bool, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, int]:
    """Copy all entries but locks, and verify that the target has them; return how many there are of each kind.

    The target must have none, or those of a copy that was interrupted; force: entries of the same name are replaced,
    and others stay. progress: is called with the numbers of entries that are copied, and of all. Raises StateError.
    """
    if source.url == target.url:
        raise StateError(f"{source.url} is both the source and the target")
    names = await _names(source)
    if not names:
        raise StateError(f"{source.url} has no entry", hint="check its prefix")
    mark = await load(target, MARK)
    if mark != source.url:
        if not force:
            await _refuse_others(source, target, names)
        await change(target, MARK, lambda content, now: (Change(source.url), None))
    for _ in range(PASSES):
        names = await _names(source)
        copied = await _copy(source, target, names, progress)
        if not copied:
            break
    else:
        raise BackendError(f"{source.url} is written all the time", hint="let no run use it, and repeat the command")
    missing = set(names) - set(await _names(target))
    if missing:
        raise BackendError(f"{target.url} lacks {min(missing)} and {len(missing) - 1} more", hint="repeat the command")
    await patiently(lambda: target.forget(MARK))
    return dict(sorted(Counter(name.partition("/")[0] for name in names).items()))


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
    # After a lost answer the condition fails, and the next pass finds it as it must be.
    await patiently(lambda: target.write(name, entry.value, there.version if there is not None else None))
    return True


async def _read(backend: Backend, name: str) -> Entry | None:
    return await patiently(partial(backend.read, name))
