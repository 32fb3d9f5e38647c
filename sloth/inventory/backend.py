"""The table [backend] of an inventory: where controllers keep what they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.frozen import frozen
from sloth.inventory.document import Document
from sloth.reading import read_file
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

BACKEND = "backend"


@frozen
class BackendSetting:
    """The backend that an inventory names.

    Attributes:
        url: "" when it only says how another one, of the command line, is to be used.
        encrypt: whether values are encrypted before they are sent there.
        where: "inventory.toml:3", for errors about the URL.
    """

    url: str = ""
    encrypt: bool = False
    where: str = ""


@frozen
class BackendKey:
    """A key of [backend]: what its value must be, and its documentation."""

    is_valid: Callable[[Json], bool]
    expected: str
    default: str
    help: str


KEYS = {
    "url": BackendKey(
        lambda value: isinstance(value, str) and bool(value),
        "a URL such as etcd://host:2379/prefix",
        "none: this machine alone",
        "Where shared values, locks, run records and copies of hosts' states are kept for all controllers. "
        "$SLOTH_BACKEND and `--backend` override it. Credentials do not belong here.",
    ),
    "encrypt": BackendKey(
        lambda value: isinstance(value, bool),
        "true or false",
        "false",
        "Encrypt every value with your key before it is sent to the backend.",
    ),
}


def read_backend(document: Document) -> BackendSetting | None:
    """Return the table [backend] of a file; None when it has none. Raises InventoryError with file and line."""
    if BACKEND not in document.data:
        return None
    table = document.table(document.data[BACKEND], BACKEND)
    for name, value in table.items():
        key = KEYS.get(name)
        if key is None:
            group = "a group is [groups.backend]" if name in ("hosts", "groups", "vars") else ""
            hint = group or did_you_mean(name, KEYS) or f"keys are {', '.join(KEYS)}"
            raise document.error(f"unknown key '{name}' in [backend]", BACKEND, name, hint=hint)
        if not key.is_valid(value):
            raise document.error(f"{name} must be {key.expected}, not {value!r}", BACKEND, name)
    return BackendSetting(table.get("url", ""), table.get("encrypt", False), document.where(BACKEND, "url"))


def find_backend(paths: Iterable[Path]) -> BackendSetting | None:
    """Return what the TOML files among the sources of an inventory say of the backend: the last one counts.

    For commands that need no hosts: programs among the sources are not run, and nothing else of the files is checked.
    """
    found = None
    for path in paths:
        for file in sorted(path.rglob("*.toml")) if path.is_dir() else [path] if path.suffix == ".toml" else []:
            try:
                data = read_file(file, pipes=False)
            except OSError as error:
                raise InventoryError(f"cannot read the inventory {file}: {error.strerror}") from error
            if BACKEND.encode() in data:  # else there is no need to parse it
                found = read_backend(Document(file, data.decode("utf-8-sig", "replace"))) or found
    return found
