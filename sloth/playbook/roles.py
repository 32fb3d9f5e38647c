"""Roles: directories with tasks, their files, templates and modules, that several sites use.

A role NAME is looked for in `roles` beside the site, in the directories of --roles-path, and among the Python packages
that have an entry point of this name in the group `sloth_runner.roles`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import SiteError
from sloth.frozen import frozen
from sloth.payload.kernel.errors import ArgumentError
from sloth.payload.kernel.field import REQUIRED, Field
from sloth.reading import read_file
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

ENTRY_POINTS = "sloth_runner.roles"
ENTRIES = ("init.lua", "role.lua", "init.sloth")
DECLARATION = "role.toml"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_USED = re.compile(rb"""\brole\s*\(?\s*["']([^"'\n]+)["']""")  # role("nginx", ...), in the text of a site
_SETTINGS = ("type", "default", "required", "choices", "help", "aliases")


@frozen
class Role:
    """A role. arguments: None when it does not declare them, and takes any."""

    name: str
    directory: Path
    entry: Path
    arguments: tuple[Field, ...] | None = None
    description: str = ""

    def check(self, given: Mapping[str, Json], where: str) -> JsonObject:
        """Return the arguments with their defaults. Raises SiteError for unknown, missing and mistyped ones."""
        if self.arguments is None:
            return dict(given)
        names = {name: field for field in self.arguments for name in (field.name, *field.aliases)}
        values: JsonObject = {}
        for key, value in given.items():
            if key not in names:
                hint = did_you_mean_or_list(key, sorted(names), "arguments") if names else "it takes none"
                raise SiteError(f"role {self.name} has no argument {key!r}", hint=hint, where=where)
            field = names[key]
            if field.name in values:
                raise SiteError(f"role {self.name} was given {field.name} twice (as {key!r})", where=where)
            try:
                values[field.name] = field.coerce(value)
            except ArgumentError as error:
                raise SiteError(f"role {self.name}: {error.message}", hint=error.hint, where=where) from None
        for field in self.arguments:
            if field.name in values:
                continue
            if field.required:
                raise SiteError(f"role {self.name} needs {field.name}", hint=field.help, where=where)
            if field.default is not None:
                values[field.name] = field.default
        return values


@frozen
class Roles:
    """Where roles are looked for. path: directories of roles, in this order; packages come after them."""

    path: tuple[Path, ...] = ()

    def find(self, name: str, where: str = "") -> Role:
        """Return a role. Raises SiteError with the nearest name when there is none, or it is no valid one."""
        if not _NAME.fullmatch(name):
            raise SiteError(f"{name!r} is not the name of a role", where=where)
        for directory in (*(base / name for base in self.path), *_packaged(name)):
            if directory.is_dir():
                return _read(name, directory, where)
        known = self.names()
        searched = ", ".join(map(str, self.path)) or "no directory"
        hint = did_you_mean_or_list(name, known, "roles") if known else f"searched {searched} and the Python packages"
        raise SiteError(f"there is no role {name}", hint=hint, where=where)

    def names(self) -> list[str]:
        """Return the names of all roles."""
        found = {path.name for base in self.path if base.is_dir() for path in base.iterdir() if _entry(path)}
        return sorted(found | set(_entry_points()))

    def module_directories(self, sources: Sequence[bytes]) -> tuple[Path, ...]:
        """Return the directories of the modules of those roles that these sources of Lua name, and that those use.

        A role whose name is not in the text, but computed, brings no modules.
        """
        found: dict[str, Path] = {}
        pending = list(sources)
        while pending:
            for match in _USED.finditer(pending.pop()):
                name = match[1].decode("utf-8", "replace")
                if name in found:
                    continue
                try:
                    role = self.find(name)
                    pending += [read_file(path) for path in (role.entry, *role.directory.glob("*/*.lua"))]
                except (SiteError, OSError):
                    continue  # it is reported where it is used
                found[name] = role.directory / "modules"
        return tuple(found.values())


def _read(name: str, directory: Path, where: str) -> Role:
    entry = _entry(directory)
    if entry is None:
        raise SiteError(f"{directory} is no role: it has no {ENTRIES[0]}", where=where)
    declaration = directory / DECLARATION
    if not declaration.exists():
        return Role(name, directory, entry)
    try:
        document = tomllib.loads(read_file(declaration).decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SiteError(f"{declaration} cannot be read: {error}", where=where) from error
    for key in document:
        if key not in ("description", "arguments"):
            hint = did_you_mean_or_list(key, ("description", "arguments"), "keys")
            raise SiteError(f"{declaration} has the unknown key {key!r}", hint=hint)
    arguments, description = document.get("arguments", {}), document.get("description", "")
    if not isinstance(arguments, dict) or not isinstance(description, str):
        raise SiteError(f"{declaration}: arguments must be a table, and description a text")
    fields = tuple(_field(declaration, key, value) for key, value in arguments.items())
    return Role(name, directory, entry, fields, description)


def _field(path: Path, name: str, settings: Json) -> Field:
    """Return the declaration of an argument. Raises SiteError."""
    if not isinstance(settings, dict):
        raise SiteError(f'{path}: arguments.{name} must be a table, such as {{ type = "int", default = 80 }}')
    for key in settings:
        if key not in _SETTINGS:
            hint = did_you_mean_or_list(key, _SETTINGS, "settings")
            raise SiteError(f"{path}: arguments.{name} has the unknown setting {key!r}", hint=hint)
    kind = settings.get("type", "str")
    if kind not in Field.TYPES:
        hint = did_you_mean_or_list(str(kind), sorted(Field.TYPES), "types")
        raise SiteError(f"{path}: arguments.{name} has the unknown type {kind!r}", hint=hint)
    required = settings.get("required", False)
    if required is True and "default" in settings:
        raise SiteError(f"{path}: arguments.{name} is required, and has a default")
    help, choices, aliases = settings.get("help", ""), settings.get("choices"), settings.get("aliases", [])
    if not isinstance(help, str) or not isinstance(required, bool):
        raise SiteError(f"{path}: arguments.{name}: help must be a text, and required true or false")
    if not isinstance(choices or [], list) or not isinstance(aliases, list):
        raise SiteError(f"{path}: arguments.{name}: choices and aliases must be lists")
    field = Field(name, kind, REQUIRED if required else None, choices, aliases=tuple(map(str, aliases)), help=help)
    if "default" in settings:
        try:
            field.default = field.coerce(settings["default"])
        except ArgumentError as error:
            raise SiteError(f"{path}: the default of arguments.{name}: {error.message}", hint=error.hint) from None
    return field


def _entry(directory: Path) -> Path | None:
    return next((directory / name for name in ENTRIES if os.path.isfile(directory / name)), None)


def _packaged(name: str) -> Iterator[Path]:
    """Yield the directory of a role in a Python package. The package is not imported."""
    import importlib.util

    value = _entry_points().get(name)
    if value is None:
        return
    module, _, rest = value.partition(":")
    top, *inner = module.split(".")
    found = importlib.util.find_spec(top)
    for location in (found.submodule_search_locations or ()) if found else ():
        yield Path(location, *inner, *filter(None, rest.split(".")))


def _entry_points() -> Mapping[str, str]:
    """Return the entry points of roles: name -> "package", "package.directory"."""
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
