"""Stores a file that a host sends on the controller: compared before the transfer, written atomically after it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sloth.engine.assets import hash_file
from sloth.frozen import frozen
from sloth.reading import expanduser

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments


@frozen
class Destination:
    """A file on the controller."""

    path: Path

    def look(self) -> dict[str, str | None]:
        """Return {"sha256": hex}, with None when the file does not exist or cannot be read."""
        return {"sha256": store.hash_of(self.path)}


def destination(site_directory: Path, host: str, args: Arguments) -> Destination:
    """Return where the file `args["src"]` of `host` goes, by the rule of Ansible's fetch.

    It goes below `dest`, as dest/host/full/path; with `flat` to `dest` itself, or into it under its base name when
    dest ends with a slash.
    """
    dest = expanduser(args["dest"])
    base = dest if dest.is_absolute() else site_directory / dest
    source = str(args["src"])
    if not args.get("flat"):
        return Destination(base / host / source.lstrip("/~"))
    return Destination(base / Path(source).name if str(args["dest"]).endswith("/") else base)


class Sink(Protocol):
    """Takes a file's bytes as they come. The old file stays until finish()."""

    def write(self, data: bytes) -> None:
        """Append bytes. Raises OSError."""

    def finish(self) -> None:
        """Replace the old file. Raises OSError."""

    def abort(self) -> None:
        """Remove what was written; the old file stays."""


class FileSink(Sink):
    """Writes a file of this machine. Every OSError that it raises names that file."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when the directory cannot be made or written."""
        self._path = path
        with self._naming():
            path.parent.mkdir(parents=True, exist_ok=True)
            # The longest name that a file system allows leaves no room for more.
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:50]}.", dir=path.parent)
        self._temporary = Path(name)
        self._file = os.fdopen(descriptor, "wb")

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename, error.filename2 = str(self._path), None
            raise

    def write(self, data: bytes) -> None:
        """Append bytes. Raises OSError."""
        with self._naming():
            self._file.write(data)

    def finish(self) -> None:
        """Replace the old file, whose mode is kept; a new one gets 0644. Raises OSError; then the old file stays."""
        try:
            with self._naming():
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                mode = self._path.stat().st_mode & 0o7777 if self._path.exists() else 0o644
                self._temporary.chmod(mode)
                self._temporary.replace(self._path)
        except OSError:
            self.abort()
            raise

    def abort(self) -> None:
        """Remove what was written; the old file stays."""
        with contextlib.suppress(OSError):  # a full disk: what is still to be written does not matter
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()


class Store:
    """The files of the machine of the run."""

    def hash_of(self, path: Path) -> str | None:
        """Return the SHA-256 of a file, None when there is none that can be read."""
        try:
            return hash_file(path, path.stat().st_size)
        except OSError:
            return None

    def sink(self, path: Path) -> Sink:
        """Return what writes a file. Raises OSError when its directory cannot be made or written."""
        return FileSink(path)


store = Store()  # a worker on another machine has another one
