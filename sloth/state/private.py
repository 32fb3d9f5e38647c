"""Writes files that are private to their owner: whole under their name, or not there at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType

from sloth.errors import StateError


class PrivateFile:
    """A file in the making, beside `path`, which it becomes by commit(); until then whatever is at `path` stays.

    mode: its permissions. exclusive: refuse when there is something at `path`. Leaving a `with` block without commit()
    aborts. Everything raises StateError.
    """

    def __init__(self, path: Path, *, mode: int = 0o600, exclusive: bool = False) -> None:
        self.path = path
        self._reserved = False
        self._open = True
        try:
            if exclusive:
                # An empty file takes the name, so that two writers cannot both believe that it was free.
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
                self._reserved = True
            else:
                # A link stays one: what it leads to is replaced.
                self.path = path = Path(os.path.realpath(path))
                if path.exists() and not path.is_file():
                    raise StateError(f"{path} is no regular file", hint="give another name")
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
            self._temporary = Path(name)
            os.fchmod(descriptor, mode)
            self._file = os.fdopen(descriptor, "wb")
        except FileExistsError:
            raise StateError(f"{path} exists already", hint="move it away, or give another name") from None
        except OSError as error:
            if self._reserved:
                path.unlink(missing_ok=True)
            raise StateError(f"{path} cannot be written: {error.strerror}", hint=_hint(path)) from error

    def write(self, data: bytes) -> None:
        """Append `data`."""
        try:
            self._file.write(data)
        except OSError as error:
            raise StateError(f"{self.path} cannot be written: {error.strerror}") from error

    def commit(self) -> None:
        """Make it durable, and give it its name."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.rename(self._temporary, self.path)
            self._open = False
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            self.abort()
            raise StateError(f"{self.path} cannot be written: {error.strerror}") from error

    def abort(self) -> None:
        """Remove what was written so far; does nothing after commit()."""
        if not self._open:
            return
        self._open = False
        try:
            self._file.close()
        except OSError:
            pass  # a full disk: what could not be flushed is not wanted any more
        self._temporary.unlink(missing_ok=True)
        if self._reserved:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> PrivateFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def write_private(path: Path, data: bytes, *, mode: int = 0o600, exclusive: bool = False) -> None:
    """Write a whole file; see PrivateFile. Raises StateError."""
    with PrivateFile(path, mode=mode, exclusive=exclusive) as file:
        file.write(data)
        file.commit()


def _hint(path: Path) -> str:
    return "" if path.parent.is_dir() else f"make the directory {path.parent} first"
