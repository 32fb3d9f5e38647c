"""Saved plans under a name in the backend: what @NAME stands for, where plan and apply take a file."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sloth.cli import backend_option
from sloth.errors import StateError, UsageError

if TYPE_CHECKING:
    from sloth.state.backends.backend import Backend
    from sloth.state.storage import Storage

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def name_of(path: str | Path) -> str | None:
    """Return the name that @NAME has, and None for a file. Raises UsageError for an invalid name."""
    text = str(path)
    if not text.startswith("@"):
        return None
    if not _NAME.fullmatch(text[1:]):
        raise UsageError(f"{text} is not the name of a plan", hint="letters, digits, . _ -: @deploy-42; ./@x is a file")
    return text[1:]


def storage_of(inventory: tuple[str, ...]) -> Storage:
    """Return the storage whose backend has the plans. Raises UsageError when there is none."""
    storage = backend_option.storage_without_hosts(inventory)
    if storage.location is None:
        raise UsageError("a plan with a name needs a backend", hint="use --backend URL, or the name of a file")
    return storage


def with_backend(storage: Storage, work: Callable[[Backend], Awaitable[T]]) -> T:
    """Return what work() does with the backend, which is closed then."""

    async def run() -> T:
        backend = storage.backend()
        assert backend is not None
        try:
            return await work(backend)
        finally:
            await storage.close()

    return asyncio.run(run())


@contextlib.contextmanager
def local_copy(path: Path, inventory: tuple[str, ...]) -> Iterator[Path]:
    """Open the file of a plan: itself, or a copy of what the backend has. Raises StateError, UsageError."""
    name = name_of(path)
    if name is None:
        yield path
        return
    from sloth.state.sync import plans

    data = with_backend(storage_of(inventory), lambda backend: plans.read(backend, name))
    with tempfile.TemporaryDirectory(prefix="sloth-plan-") as directory:
        copy = Path(directory) / path.name
        copy.write_bytes(data)
        try:
            yield copy
        except StateError as error:
            error.message = error.message.replace(f"{directory}/", "")
            raise


def upload(name: str, file: Path, storage: Storage) -> None:
    """Write the plan in a file to the backend; if that fails, keep it in the current directory. Raises StateError."""
    from sloth.state.sync import plans

    data = file.read_bytes()
    try:
        with_backend(storage, lambda backend: plans.write(backend, name, data))
    except StateError as error:
        kept = Path(f"{name}.plan")
        with contextlib.suppress(OSError):
            kept.touch(mode=0o600)
            kept.write_bytes(data)
            raise StateError(f"{error.message}; the plan is kept in {kept}", hint=error.hint) from error
        raise
