"""The table [engine] of an inventory: which processes work on its hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.inventory.tables import TableKey, is_flag, is_text, read_table, with_files_below

if TYPE_CHECKING:
    from sloth.inventory.document import Document
    from sloth.payload.kernel.values import Json

ENGINE = "engine"
TAGS = "tags"  # what [engine] near is when tags of hosts say which workers are near


@frozen
class EngineSetting:
    """The engine that an inventory names.

    Attributes:
        url: "" for none: this machine.
        workers: how many shares of the hosts there are; 0: it does not say.
        near: the variable of hosts that names the workers near them, TAGS for their tags; "": none.
        only_near: whether hosts without such a worker are refused.
        where: "inventory.toml:3", for errors about the URL.
    """

    url: str = ""
    workers: int = 0
    near: str = ""
    only_near: bool = False
    where: str = ""


def _is_number(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


KEYS = {
    "url": TableKey(
        is_text,
        "a URL such as dasks://scheduler:8786",
        "none: this machine",
        "The Dask cluster among whose workers the hosts are divided. $SLOTH_ENGINE and `--engine` override it, `none` "
        "is for no engine. A relative path in it (`?ca=`) begins at the inventory's directory. Credentials do not "
        "belong here.",
    ),
    "workers": TableKey(
        _is_number,
        "a number from 1",
        "all of the cluster; none without a URL",
        "How many workers the hosts are divided among, as by `--workers`, which overrides it; without a URL they are "
        "processes of this machine. Not used with another engine than this one.",
    ),
    "near": TableKey(
        is_text,
        "the name of a variable, or tags",
        "none: workers are not chosen",
        "The variable of hosts whose value is the name, or a resource, of the Dask workers near them: those get these "
        "hosts. With `tags` each tag of a host is such a value.",
    ),
    "only_near": TableKey(
        is_flag,
        "true or false",
        "false",
        "Refuse a run in which a host has no worker near it; else it gets another.",
    ),
}


def read_engine(document: Document) -> EngineSetting | None:
    """Return the table [engine] of a file; None when it has none. Raises InventoryError with file and line."""
    table = read_table(document, ENGINE, KEYS)
    if table is None:
        return None
    if table.get("only_near") and "near" not in table:
        raise document.error("only_near needs near", ENGINE, "only_near", hint='for example near = "region"')
    return EngineSetting(
        with_files_below(table.get("url", ""), document.base),
        table.get("workers", 0),
        table.get("near", ""),
        table.get("only_near", False),
        document.where(ENGINE, "url"),
    )
