"""The files in `host_vars` and `group_vars` beside an inventory: YAML, JSON and TOML."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.frozen import frozen
from sloth.inventory.templated import VAULT, VAULT_HINT
from sloth.reading import read_file

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

EXTENSIONS = ("", ".yml", ".yaml", ".json", ".toml")  # in this order; the first file found for a name is read
DEEPEST = 20  # directories


@frozen
class VarsFile:
    """A file that was read. lines: of its variables; is_sealed: it is encrypted as a whole."""

    path: str
    variables: dict[str, Json]
    lines: dict[str, int]
    is_plain: bool  # texts in it are no templates, as in our own inventories
    is_sealed: bool = False

    def where(self, name: str) -> str:
        line = self.lines.get(name)
        return f"{self.path}:{line}" if line else self.path


class VarsFiles:
    """The files of some directories, each read once. warn: is called for keys that are defined twice, and the like."""

    def __init__(self, directories: Sequence[Path], warn: Callable[[str], None]) -> None:
        self._names: dict[tuple[Path, str], frozenset[str]] = {}
        self._found: dict[tuple[str, str], tuple[VarsFile, ...]] = {}
        self._directories = tuple(directories)
        self._warn = warn
        self._kinds = {
            kind: [path for path in directories if (path / kind).is_dir()] for kind in ("host_vars", "group_vars")
        }

    def of(self, kind: str, name: str) -> tuple[VarsFile, ...]:
        """Return the files of a host or group, in their order; kind: `host_vars` or `group_vars`."""
        return tuple(file for directory in self._kinds[kind] for file in self.within(directory, kind, name))

    def directories(self, kind: str) -> Sequence[Path]:
        """Return the directories that have one of this kind in them."""
        return self._kinds[kind]

    def within(self, directory: Path, kind: str, name: str) -> tuple[VarsFile, ...]:
        """Return the files of a host or group in one directory."""
        root = directory / kind
        key = (str(root), name)
        if key not in self._found:
            self._found[key] = tuple(self._read(path) for path in self._paths(root, name))
        return self._found[key]

    def _paths(self, root: Path, name: str) -> list[Path]:
        known = self._names.get((root, ""))
        if known is None:
            known = self._names[(root, "")] = frozenset(os.listdir(root))
        for extension in EXTENSIONS:
            if name + extension in known:
                path = root / (name + extension)
                return _within(path, 0) if path.is_dir() else [path]
        return []

    def _read(self, path: Path) -> VarsFile:
        return read_vars_file(path, self._warn)


def _within(path: Path, depth: int) -> list[Path]:
    """Return the files of a directory of variables, and of those in it."""
    if depth > DEEPEST:
        raise InventoryError(f"more than {DEEPEST} directories in one another", where=str(path))
    found: list[Path] = []
    for name in sorted(os.listdir(path)):
        if name.startswith(".") or name.endswith("~"):
            continue
        inner, extension = path / name, os.path.splitext(name)[1]
        if inner.is_dir():
            found += _within(inner, depth + 1) if not extension else ()
        elif extension in EXTENSIONS and inner.is_file():
            found.append(inner)
    return found


def read_vars_file(path: Path, warn: Callable[[str], None] = lambda _: None) -> VarsFile:
    """Read a file of variables. Raises InventoryError with its line."""
    try:
        text = read_file(path, pipes=True).decode("utf-8-sig")
    except OSError as error:
        raise InventoryError(f"cannot read the variables in {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InventoryError(f"the file is not UTF-8 (byte {error.start})", where=str(path)) from None
    return parse_vars(text, path, path.suffix == ".toml", warn)


def parse_vars(text: str, path: Path, is_toml: bool, warn: Callable[[str], None] = lambda _: None) -> VarsFile:
    """Return the variables of a text that is TOML, or else YAML or JSON."""
    name = str(path)
    if text.startswith(VAULT):
        return VarsFile(name, {}, {}, is_plain=False, is_sealed=True)
    if is_toml:
        from sloth.inventory.document import parse_toml
        from sloth.inventory.toml_lines import locate

        data = parse_toml(text, name)
        lines = {path[0]: line for path, line in locate(text).items() if len(path) == 1}
        return VarsFile(name, data, lines, is_plain=True)
    from sloth.inventory.yaml_text import load_data

    table = load_data(text, name, warn)
    if table is None:
        return VarsFile(name, {}, {}, is_plain=False)
    if not isinstance(table, dict):
        raise InventoryError(f"{name} must contain a table of variables, not {_kind(table)}", where=f"{name}:1")
    lines = getattr(table, "lines", {})
    return VarsFile(name, dict(table), lines, is_plain=False)


def _kind(value: Json) -> str:
    return "a list" if isinstance(value, list) else f"{value!r:.60}"


def refuse_vault(text: str, name: str) -> None:
    """Raise InventoryError when an inventory is encrypted as a whole."""
    if text.startswith(VAULT):
        raise InventoryError("the inventory is encrypted with ansible-vault", where=f"{name}:1", hint=VAULT_HINT)
