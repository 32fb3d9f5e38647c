"""What an inventory comes to, in one shape for ours and for the output of `ansible-inventory --list`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sloth.inventory import Inventory
from sloth.inventory.templated import written

Listing = dict[str, Any]


def of_ours(inventory: Inventory) -> Listing:
    """Return the members of each group that is not empty, and the variables of each host."""
    groups = {name: sorted(group.hosts) for name, group in inventory.groups.items() if group.hosts}
    hosts = {name: {key: written(value) for key, value in host.vars.items()} for name, host in inventory.hosts.items()}
    return {"groups": groups, "hosts": hosts}


def of_ansible(document: Mapping[str, Any]) -> Listing:
    """Return the same of what ansible-inventory has printed."""

    def members(name: str) -> set[str]:
        group = document.get(name, {})
        own = set(group.get("hosts", ()))
        return own.union(*(members(child) for child in group.get("children", ())))

    known = [name for name in document if name != "_meta"]
    groups = {name: sorted(found) for name in known if (found := members(name))}
    hostvars = document["_meta"]["hostvars"]
    names = set(hostvars).union(*map(set, groups.values()))
    return {"groups": groups, "hosts": {name: _plain(hostvars.get(name, {})) for name in sorted(names)}}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"__ansible_vault"}:
        return "(encrypted with ansible-vault)"
    if value.keys() == {"__ansible_unsafe"}:
        return value["__ansible_unsafe"]
    return {key: _plain(item) for key, item in value.items()}
