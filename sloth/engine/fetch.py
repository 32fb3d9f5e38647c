"""Where file.fetch stores a host's file on the controller: looked at before, written atomically after."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sloth.engine.assets import hash_file


@dataclass(frozen=True)
class Destination:
    """A file on the controller."""

    path: Path

    def look(self) -> dict[str, str | None]:
        """What is there now: {"sha256": hex, or None when there is no file}."""
        try:
            return {"sha256": hash_file(self.path)}
        except OSError:
            return {"sha256": None}


def destination(site_directory: Path, host: str, args: Mapping[str, Any]) -> Destination:
    """Return where file.fetch puts `args["src"]` of `host`: Ansible's rule.

    Below `dest` as dest/host/full/path; with `flat` at `dest` itself, or in it under its base name when dest ends
    with a slash.
    """
    dest = Path(args["dest"]).expanduser()
    base = dest if dest.is_absolute() else site_directory / dest
    source = str(args["src"])
    if not args.get("flat"):
        return Destination(base / host / source.lstrip("/~"))
    return Destination(base / Path(source).name if str(args["dest"]).endswith("/") else base)


class FileSink:
    """Takes a file's bytes as they come; the old file stays until finish()."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when the directory cannot be made or written."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        self._temporary = Path(name)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def finish(self) -> None:
        """Everything came: put it in place. The mode of a file that is replaced is kept; a new one gets 0644."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        mode = self._path.stat().st_mode & 0o7777 if self._path.exists() else 0o644
        self._temporary.chmod(mode)
        self._temporary.replace(self._path)

    def abort(self) -> None:
        """It will not come to an end: leave no trace."""
        self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()
