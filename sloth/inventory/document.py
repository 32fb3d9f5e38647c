"""The inventory file as TOML, and the line of everything in it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.inventory.toml_lines import locate
from sloth.reading import read_file

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\Z")
_POSITION = re.compile(r" \(at (?:line (?P<line>\d+)|end).*\)$")


class Document:
    """The parsed file. Its errors name the file, and the line of the key they are about."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises InventoryError when it cannot be read or is not TOML."""
        self.path = path
        try:
            source = read_file(path, pipes=True).decode("utf-8")
        except OSError as error:
            raise InventoryError(f"cannot read the inventory {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InventoryError(f"the inventory {path} is not UTF-8 (byte {error.start})") from error
        try:
            self.data: JsonObject = tomllib.loads(source)
        except RecursionError:
            raise InventoryError("tables or arrays are nested too deeply", where=str(path)) from None
        except tomllib.TOMLDecodeError as error:
            # Up to Python 3.13 the message is the only thing that has the position.
            position = _POSITION.search(str(error))
            line = position["line"] if position and position["line"] else str(source.count("\n") + 1)
            raise InventoryError(_POSITION.sub("", str(error)), where=f"{path}:{line}") from error
        self._lines = locate(source)

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
