"""The inventory file as TOML, and the line of everything in it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.inventory.toml_lines import locate

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\Z")
_POSITION = re.compile(r" \(at (?:line (?P<line>\d+)|end).*\)$")


def parse_toml(source: str, name: str) -> JsonObject:
    """Return the data of a TOML text. Raises InventoryError with the line of a mistake; name: the file's."""
    try:
        return tomllib.loads(source)
    except RecursionError:
        raise InventoryError("tables or arrays are nested too deeply", where=name) from None
    except tomllib.TOMLDecodeError as error:
        # Up to Python 3.13 the message is the only thing that has the position.
        position = _POSITION.search(str(error))
        number = int(position["line"]) if position and position["line"] else source.count("\n") + 1
        lines = source.splitlines()
        hint = _hint(lines[number - 1]) if 0 < number <= len(lines) else ""
        raise InventoryError(_POSITION.sub("", str(error)), where=f"{name}:{number}", hint=hint) from error


def _hint(line: str) -> str:
    """Return what to do about a line that no TOML has, and other formats do."""
    if re.match(r"\s*\[[^\]]+:(vars|children|hosts)\]", line):
        return (
            "this is a section of Ansible's INI: give the file the extension .ini, or see sloth-runner inventory import"
        )
    if re.match(r"\s*[\w.-]+(\s+[\w.]+=\S+)*\s*$", line):
        return "this looks like a line of Ansible's INI: give such a file the extension .ini"
    if re.match(r"\s*(-\s|[\w.-]+:(\s|$)|---)", line):
        return "this looks like YAML: give such a file the extension .yml"
    return ""


class Document:
    """The parsed file. Its errors name the file, and the line of the key they are about."""

    def __init__(self, path: Path, source: str) -> None:
        """Parse the text of a file. Raises InventoryError when it is not TOML."""
        self.path = path
        self.name = str(path)
        self.data = parse_toml(source, str(path))
        self.base = path.resolve().parent  # where relative paths begin
        self._source = source
        self._known: dict[tuple[str, ...], int] | None = None

    @property
    def _lines(self) -> dict[tuple[str, ...], int]:
        if self._known is None:
            self._known = locate(self._source)
        return self._known

    def where(self, *path: str) -> str:
        """Return "file:line" of a key, or of the nearest table around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._lines:
                return f"{self.path}:{self._lines[path[:end]]}"
        return str(self.path)

    def error(self, message: str, *path: str, hint: str = "") -> InventoryError:
        """Return an error about the key at `path`."""
        return InventoryError(message, where=self.where(*path), hint=hint)

    def table(self, value: Json, *path: str) -> JsonObject:
        """Return `value` when it is a table; raise InventoryError otherwise."""
        if not isinstance(value, dict):
            raise self.error(f"{'.'.join(path)} must be a table", *path)
        return value

    def names(self, value: Json, *path: str) -> list[str]:
        """Return a list of strings; one string stands for a list of one. Raises InventoryError for anything else."""
        if isinstance(value, str):
            return [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"{path[-1]} must be a list of names", *path)
        return value

    def check_name(self, name: str, what: str, *path: str) -> None:
        """Raise InventoryError when `name` cannot name a host or group (`what`); it becomes part of file names."""
        if not _NAME.match(name):
            hint = "use letters, digits, '.', '_' and '-'; a name must not begin with '-' or '.'"
            raise self.error(f"'{name}' is not a valid {what} name", *path, hint=hint)
