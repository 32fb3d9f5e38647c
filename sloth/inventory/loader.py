"""Loads an inventory file: finds it, expands its ranges of hosts, and merges what defaults, groups and hosts set."""

from __future__ import annotations

import os
from collections.abc import Iterable
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
    "port", "user", "identity_files", "python", "become_method", "host_keys", "known_hosts", "proxy_jump",
    "ssh_config", "connect_timeout", "connection", "password_env",
)  # fmt: skip


def find_inventory(option: str | None) -> Path | None:
    """Return the inventory to use: the option, $SLOTH_INVENTORY, ./inventory.toml, ~/.sloth-runner/inventory.toml.

    Return None when there is none. Raises InventoryError when the one that was named does not exist.
    """
    for named, origin in ((option, "--inventory"), (os.environ.get("SLOTH_INVENTORY"), "$SLOTH_INVENTORY")):
        if named:
            if not Path(named).is_file():
                raise InventoryError(f"inventory {named} not found", hint=f"{origin} names it")
            return Path(named)
    for path in (Path("inventory.toml"), Path.home() / ".sloth-runner" / "inventory.toml"):
        if path.is_file():
            return path
    return None


def load(path: Path) -> tuple[dict[str, Host], dict[str, Group]]:
    """Return the hosts and the groups of an inventory file.

    Raises InventoryError: what is wrong, file and line, and the nearest valid key.
    """
    document = Document(path)
    for key in document.data:
        if key not in _TABLES:
            raise document.error(f"unknown key '{key}'", key, hint=did_you_mean(key, _TABLES))
    defaults = read_settings(
        document, document.table(document.data.get("defaults", {}), "defaults"), ("defaults",), "defaults"
    )
    own = _read_hosts(document)
    drafts = read_groups(document, own)
    groups_of: dict[str, list[GroupDraft]] = {name: [] for name in own}
    for draft in by_precedence(drafts):
        for name in draft.members:
            groups_of[name].append(draft)
    hosts = {
        name: _host(name, [defaults, *(draft.settings for draft in groups_of[name]), settings], groups_of[name])
        for name, settings in own.items()
    }
    position = {name: number for number, name in enumerate(own)}
    groups = {draft.name: _group(draft, position) for draft in drafts}
    return hosts, groups


def _read_hosts(document: Document) -> dict[str, Settings]:
    """Return the hosts by name, ranges expanded, each with the settings of its own table."""
    found: dict[str, Settings] = {}
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
            found[name] = settings.with_address(address) if address is not None else settings
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


def _host(name: str, layers: Iterable[Settings], groups: list[GroupDraft]) -> Host:
    """Return the host to which these layers of settings come; later ones win."""
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
        origins=_origins(merged),
        **values,
    )


def _origins(merged: Settings) -> dict[str, str]:
    origins = dict(merged.origins)
    if merged.become_user is not None and merged.become is not False:
        origins["become"] = origins["become_user"]
    return origins


def _group(draft: GroupDraft, position: dict[str, int]) -> Group:
    members = tuple(sorted(draft.members, key=position.__getitem__))
    return Group(draft.name, members, tuple(draft.groups), draft.settings.vars)
