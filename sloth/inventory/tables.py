"""Tables of an inventory that are not about hosts: their keys, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from sloth.frozen import frozen
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.inventory.document import Document
    from sloth.payload.kernel.values import Json

_OF_GROUPS = ("hosts", "groups", "vars")
_FILES = ("ca", "cert", "key")  # the options of a URL that name files


@frozen
class TableKey:
    """A key of a table: what its value must be, and its documentation."""

    is_valid: Callable[[Json], bool]
    expected: str
    default: str
    help: str


def is_text(value: Json) -> bool:
    """Return whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def is_flag(value: Json) -> bool:
    """Return whether a value is true or false."""
    return isinstance(value, bool)


def with_files_below(url: str, base: Path) -> str:
    """Return a URL whose files (?ca=, cert=, key=) begin at a directory, as other relative paths of an inventory do."""
    head, mark, query = url.partition("?")
    options = []
    for option in query.split("&"):
        name, equals, value = option.partition("=")
        if name in _FILES and value and not unquote(value).startswith(("/", "~")):
            value = f"{quote(str(base))}/{value}"
        options.append(name + equals + value)
    return head + mark + "&".join(options)


def read_table(document: Document, name: str, keys: Mapping[str, TableKey]) -> Mapping[str, Any] | None:
    """Return a table whose values are valid; None when there is none. Raises InventoryError with file and line."""
    if name not in document.data:
        return None
    table = document.table(document.data[name], name)
    for word, value in table.items():
        key = keys.get(word)
        if key is None:
            group = f"a group is [groups.{name}]" if word in _OF_GROUPS else ""
            hint = group or did_you_mean(word, keys) or f"keys are {', '.join(keys)}"
            raise document.error(f"unknown key '{word}' in [{name}]", name, word, hint=hint)
        if not key.is_valid(value):
            raise document.error(f"{word} must be {key.expected}, not {value!r}", name, word)
    return table
