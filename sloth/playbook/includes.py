"""The files that a file of a site includes, and those that they include."""

from __future__ import annotations

import os
from pathlib import Path

from sloth.errors import SiteError
from sloth.playbook.site import lua_source
from sloth.reading import read_file

DEEPEST = 50  # files that include one another


class Includes:
    """Reads included files, and knows which are being loaded."""

    def __init__(self) -> None:
        self._loading: list[Path] = []  # a file of the site, and after it those that are included

    def begin(self, path: str) -> None:
        """Take note that a file of the site is loaded now."""
        self._loading = [Path(path)]

    def enter(self, name: str, where: str) -> tuple[str, bytes]:
        """Return path and source of a file that is included at `where`. Raises SiteError, also for a circle."""
        target = Path(where.rpartition(":")[0] or self._loading[0]).parent / name
        try:
            data = read_file(target)
            is_circle = any(os.path.samefile(target, other) for other in self._loading if other.exists())
        except OSError as error:
            raise SiteError(f"cannot include {target}: {error.strerror}", where=where) from error
        if is_circle:
            raise SiteError(f"{target} includes itself", where=where)
        if len(self._loading) > DEEPEST:
            raise SiteError(f"cannot include {target}: files include one another too deeply", where=where)
        source = lua_source(data, str(target), where)
        self._loading.append(target)
        return str(target), source

    def leave(self) -> None:
        """Take note that the file that was entered last is loaded."""
        self._loading.pop()
