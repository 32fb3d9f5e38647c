"""Loads inventory files: finds them, expands ranges of hosts, and merges what files, defaults, groups and hosts set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from sloth.errors import InventoryError
from sloth.inventory.document import Document
from sloth.inventory.groups import GroupDraft, by_precedence, read_groups
from sloth.inventory.model import Group, Host
from sloth.inventory.patterns import expand
from sloth.inventory.settings import Settings, read_settings
from sloth.suggest import did_you_mean

_TABLES = ("defaults", "hosts", "groups")
_SAME_IN_HOST = (
    "port", "user", "identity_files", "python", "become_method", "become_password_command", "host_keys", "known_hosts",
    "proxy_jump", "ssh_config", "connect_timeout", "connection", "password_env",
)  # fmt: skip


def find_inventory(options: Sequence[str]) -> tuple[Path, ...]:
    """Return the inventory files to use: the options, else $SLOTH_INVENTORY, which may be several with colons between.

    When neither is given, it is ./inventory.toml or ~/.sloth-runner/inventory.toml; () when there are none. Raises
    InventoryError when one that was named does not exist.
    """
    for named, origin in ((options, "--inventory"), (_from_environment(), "$SLOTH_INVENTORY")):
        for name in named:
            if not os.path.exists(name):  # False also for a name that cannot be one
                raise InventoryError(f"inventory {name} not found", hint=f"{origin} names it")
        if named:
            return tuple(map(Path, named))
    for path in (Path("inventory.toml"), Path.home() / ".sloth-runner" / "inventory.toml"):
        if path.is_file():
            return (path,)
    return ()


def _from_environment() -> Sequence[str]:
    value = os.environ.get("SLOTH_INVENTORY", "")
    return [value] if Path(value).is_file() else [name for name in value.split(os.pathsep) if name]


def load(paths: Sequence[Path]) -> tuple[dict[str, Host], dict[str, Group]]:
    """Return the hosts and the groups of inventory files.

    What several files define is merged table by table: for each setting and each variable the last file wins, and the
    members of a group add up, as with several inventories of Ansible. Raises InventoryError: what is wrong, file and
    line, and the nearest valid key.
    """
    documents = [Document(path) for path in paths]
    defaults = reduce(Settings.overridden_by, map(_read_defaults, documents))
    own: dict[str, Settings] = {}
    defined: dict[str, list[str]] = {}  # host -> where its tables are
    for document in documents:
        for name, (settings, where) in _read_hosts(document).items():
            own[name] = own[name].overridden_by(settings) if name in own else settings
            defined.setdefault(name, []).append(where)
    drafts = read_groups(documents, own)
    groups_of: dict[str, list[GroupDraft]] = {name: [] for name in own}
    for draft in by_precedence(drafts):
        for name in draft.members:
            groups_of[name].append(draft)
    hosts = {
        name: _host(
            name,
            [defaults, *(draft.settings for draft in groups_of[name]), settings],
            groups_of[name],
            ", ".join(defined[name]),
        )
        for name, settings in own.items()
    }
    position = {name: number for number, name in enumerate(own)}
    groups = {draft.name: _group(draft, position) for draft in drafts}
    return hosts, groups


def _read_defaults(document: Document) -> Settings:
    for key in document.data:
        if key not in _TABLES:
            raise document.error(f"unknown key '{key}'", key, hint=did_you_mean(key, _TABLES))
    return read_settings(
        document, document.table(document.data.get("defaults", {}), "defaults"), ("defaults",), "defaults"
    )


def _read_hosts(document: Document) -> dict[str, tuple[Settings, str]]:
    """Return the hosts by name, ranges expanded, each with the settings of its own table and where that is."""
    found: dict[str, tuple[Settings, str]] = {}
    for written, value in document.table(document.data.get("hosts", {}), "hosts").items():
        path = ("hosts", written)
        table = {"address": value} if isinstance(value, str) else document.table(value, *path)
        settings = read_settings(document, table, path, "host")
        try:
            names = expand(written)
        except InventoryError as error:
            raise document.error(error.message, *path, hint=error.hint) from None
        for name, address in zip(names, _addresses(document, settings, names, path), strict=True):
            document.check_name(name, "host", *path)
            if name in found:
                raise document.error(f"the host {name} is defined twice", *path)
            if name == "all":
                raise document.error("a host cannot be named 'all', which selects all hosts", *path)
            own = settings.with_address(address) if address is not None else settings
            found[name] = (own, document.where(*path))
    return found


def _addresses(document: Document, settings: Settings, names: list[str], path: tuple[str, ...]) -> Iterable[str | None]:
    """Return an address for each of `names`, which one table defines together."""
    address = settings.address
    if address is None:
        return [None] * len(names)
    if len(names) == 1 or "{name}" in address:
        return [address.replace("{name}", name) for name in names]
    addresses = expand(address)
    if len(addresses) != len(names):
        raise document.error(
            f"{len(names)} hosts, but {len(addresses)} addresses", *path, "address",
            hint='use the same range in the address, or "{name}"',
        )  # fmt: skip
    return addresses


def _host(name: str, layers: Iterable[Settings], groups: list[GroupDraft], where: str) -> Host:
    """Return the host to which these layers of settings come; later ones win. where: it is defined."""
    merged = reduce(Settings.overridden_by, layers)
    values: dict[str, Any] = {  # typed in Settings as in Host, but for None: there it means "not set"
        name: value for name in _SAME_IN_HOST if (value := getattr(merged, name)) is not None
    }
    return Host(
        name=name,
        address=merged.address or name,
        become=merged.account(),
        vars=merged.vars,
        groups=tuple(sorted(group.name for group in groups)),
        origins={"name": where, **_origins(merged)},
        **values,
    )


def _origins(merged: Settings) -> dict[str, str]:
    origins = dict(merged.origins)
    if merged.become_user is not None and merged.become is not False:
        origins["become"] = origins["become_user"]
    return origins


def _group(draft: GroupDraft, position: dict[str, int]) -> Group:
    members = tuple(sorted(draft.members, key=position.__getitem__))
    origins = {"name": ", ".join(draft.where), **draft.settings.origins}
    return Group(draft.name, members, tuple(draft.groups), draft.settings.vars, origins)
