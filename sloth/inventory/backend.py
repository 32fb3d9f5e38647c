"""The table [backend] of an inventory: where controllers keep what they share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sloth.errors import InventoryError
from sloth.frozen import frozen
from sloth.inventory.document import Document
from sloth.inventory.tables import TableKey, is_flag, is_text, read_table, with_files_below
from sloth.reading import read_file

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


KEYS = {
    "url": TableKey(
        is_text,
        "a URL such as etcd://host:2379/prefix",
        "none: this machine alone",
        "Where shared values, locks, run records and copies of hosts' states are kept for all controllers. "
        "$SLOTH_BACKEND and `--backend` override it. A relative path in it (`?ca=`) begins at the inventory's "
        "directory. Credentials do not belong here.",
    ),
    "encrypt": TableKey(
        is_flag,
        "true or false",
        "false",
        "Encrypt every value with your key before it is sent to the backend.",
    ),
}


def read_backend(document: Document) -> BackendSetting | None:
    """Return the table [backend] of a file; None when it has none. Raises InventoryError with file and line."""
    table = read_table(document, BACKEND, KEYS)
    if table is None:
        return None
    url = with_files_below(table.get("url", ""), document.base)
    return BackendSetting(url, table.get("encrypt", False), document.where(BACKEND, "url"))


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
