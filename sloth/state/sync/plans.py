"""Saved plans in a backend: the bytes of their files, under a name."""

from __future__ import annotations

from functools import partial

from sloth.errors import StateError
from sloth.state.backends.backend import Backend, BackendError
from sloth.state.backends.documents import patiently
from sloth.state.sync import entries
from sloth.state.sync.entries import plan_key

TRIES = 10


async def write(backend: Backend, name: str, data: bytes) -> None:
    """Write a plan, which replaces one of the same name. Raises BackendError."""
    key = plan_key(name)
    for _ in range(TRIES):
        entry = await patiently(partial(backend.read, key))
        if entry is not None and entry.value == data:  # also after a lost answer
            return
        if await patiently(partial(backend.write, key, data, entry.version if entry is not None else None)) is not None:
            return
    raise BackendError(f"{backend.url}: {key} is written by others all the time")


async def read(backend: Backend, name: str) -> bytes:
    """Return a plan. Raises StateError when there is none."""
    entry = await patiently(partial(backend.read, plan_key(name)))
    if entry is None:
        raise StateError(f"no plan @{name} in {backend.url}", hint="see sloth-runner plan list")
    return entry.value


async def names(backend: Backend) -> list[str]:
    """Return the names of all plans, sorted."""
    return sorted(entries.name_in(key) for key in await patiently(partial(backend.names, entries.PLANS)))


async def remove(backend: Backend, name: str) -> None:
    """Delete a plan. Raises StateError when there is none."""
    await read(backend, name)
    await patiently(partial(backend.forget, plan_key(name)))
