"""The files that a site consists of besides its own: included ones and roles, and what those include."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import SiteError
from sloth.frozen import frozen
from sloth.playbook.roles import Role, Roles
from sloth.playbook.site import lua_source
from sloth.reading import of_site, read_file

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

DEEPEST = 50  # files that include one another


@frozen
class _File:
    """A file that is being loaded. prefix: of the names of its tasks and handlers; role: that it belongs to."""

    path: Path
    prefix: str = ""
    role: Role | None = None


class Includes:
    """Reads included files and roles, and knows which are being loaded."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._loading: list[_File] = []  # a file of the site, and after it those that are included
        self._owners: dict[str, Role | None] = {}  # the path of each included file, as Lua names it -> its role

    @property
    def prefix(self) -> str:
        """What the names of tasks begin with that are declared now: the names of their roles."""
        return self._loading[-1].prefix

    def begin(self, path: str) -> None:
        """Take note that a file of the site is loaded now."""
        self._loading = [_File(Path(path))]

    def enter(self, name: str, where: str) -> tuple[str, bytes]:
        """Return path and source of a file that is included at `where`. Raises SiteError, also for a circle."""
        by = where.rpartition(":")[0]
        target = Path(by or self._loading[0].path).parent / name
        target = of_site(target) if target.is_absolute() else target
        return self._enter(target, where, self._loading[-1].prefix, self._owners.get(by))

    def enter_role(self, name: str, given: Mapping[str, Json], label: str, where: str) -> tuple[str, bytes, JsonObject]:
        """Return path and source of a role that is used at `where`, and its arguments. Raises SiteError.

        label: what its tasks are named after; "" for its name.
        """
        role = self._roles.find(name, where)
        values = role.check(given, where)
        prefix = f"{self._loading[-1].prefix}{label or role.name}: "
        path, source = self._enter(role.entry, where, prefix, role)
        return path, source, values

    def _enter(self, target: Path, where: str, prefix: str, role: Role | None) -> tuple[str, bytes]:
        try:
            data = read_file(target)
            is_circle = any(os.path.samefile(target, other.path) for other in self._loading if other.path.exists())
        except OSError as error:
            raise SiteError(f"cannot include {target}: {error.strerror}", where=where) from error
        if is_circle:
            raise SiteError(f"{target} includes itself", where=where)
        if len(self._loading) > DEEPEST:
            raise SiteError(f"cannot include {target}: files include one another too deeply", where=where)
        source = lua_source(data, str(target), where)
        self._loading.append(_File(target, prefix, role))
        self._owners[str(target)] = role
        return str(target), source

    def leave(self) -> None:
        """Take note that the file that was entered last is loaded."""
        self._loading.pop()

    def sources(self, where: str, directory: Path) -> tuple[Path, ...]:
        """Return where files are looked for that are named at a position: beside that file, in its role, in the site.

        directory: that of the site's file.
        """
        path = where.rpartition(":")[0]
        if path not in self._owners:
            return (directory,)
        role = self._owners[path]
        nearest = Path(path).resolve().parent
        return tuple(dict.fromkeys((nearest, *((role.directory.resolve(),) if role else ()), directory)))
