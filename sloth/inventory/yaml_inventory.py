"""Ansible's YAML inventories, and the JSON that its inventory scripts print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.inventory.content import Content, GroupContent
from sloth.inventory.host_names import read_host
from sloth.inventory.templated import tagged
from sloth.inventory.yaml_text import Table
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

_KEYS = ("hosts", "children", "vars")
DEEPEST = 60  # groups within groups


def is_listing(data: JsonObject) -> bool:
    """Return whether data are the output of an inventory script rather than an inventory: hosts are in lists."""
    groups = [group for group in data.values() if isinstance(group, dict)]
    is_list = any(isinstance(group.get(key), list) for group in groups for key in ("hosts", "children"))
    return is_list or any(isinstance(group, list) for group in data.values())


def read_groups(data: Json, content: Content) -> None:
    """Add what a YAML inventory defines. Raises InventoryError."""
    if not isinstance(data, dict):
        raise content.error("an inventory is a table of groups", 0)
    for name, value in data.items():
        _group(name, value, content, _line(data, name), 0)


def _line(table: Json, key: str) -> int:
    return table.lines.get(key, 0) if isinstance(table, Table) else 0


def _group(name: str, value: Json, content: Content, line: int, depth: int) -> None:
    if depth > DEEPEST:
        raise content.error("groups are nested too deeply", line)
    if value is not None and not isinstance(value, dict):
        hint = f"write {name}: with hosts:, children: or vars: below it"
        raise content.error(f"the group {name} must be a table, not {_short(value)}", line, hint)
    group = content.group(name, line)
    for key, part in (value or {}).items():
        at = _line(value, key)
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS) or "a group has hosts, children and vars"
            content.warn(f"the key {key} of the group {name} has no meaning; {hint}", at)
            continue
        if isinstance(part, str):
            part = {part: None}
        if part is None:
            continue
        if not isinstance(part, dict):
            hint = f"write each name with a colon, without '- ': it is a table; see {key}: in docs/inventory.md"
            raise content.error(f"{key} of the group {name} must be a table, not {_short(part)}", at, hint)
        _part(key, part, name, group, content, at, depth)


def _part(key: str, part: JsonObject, name: str, group: GroupContent, content: Content, line: int, depth: int) -> None:
    for item, inner in part.items():
        at = _line(part, item) or line
        if key == "vars":
            content.set_group(group, item, inner, at)
        elif key == "children":
            _group(item, inner, content, at, depth + 1)
            content.add_child(name, item, at)
        else:
            _hosts(item, inner, name, content, at)


def _hosts(pattern: str, values: Json, group: str, content: Content, line: int) -> None:
    if values is not None and not isinstance(values, dict):
        raise content.error(f"the host {pattern} must be a table of variables, not {_short(values)}", line)
    try:
        names, port = read_host(pattern)
    except ValueError as error:
        raise content.error(str(error), line) from None
    for host in names:
        variables = content.add_host(host, group, line, port)
        for name, value in (values or {}).items():
            content.set(variables, name, value, _line(values or {}, name) or line)


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def read_listing(data: JsonObject, content: Content) -> list[str] | None:
    """Add what an inventory script has printed for --list.

    Returns the hosts whose variables are still to be asked for, with --host; None when `_meta` has them.
    """
    meta = data.get("_meta")
    hostvars = meta.get("hostvars") if isinstance(meta, dict) else None
    if meta is not None and not isinstance(meta, dict):
        raise content.error(f"_meta must be a table, not {_short(meta)}", 0)
    if meta is not None and not isinstance(hostvars, dict):
        raise content.error("_meta must have the table hostvars", 0)
    for name, value in data.items():
        if name != "_meta":
            _listed_group(name, value, content)
    if hostvars is None:
        return list(content.hosts)
    for host in list(content.hosts):
        add_variables(host, hostvars.get(host), content)
    return None


def add_variables(host: str, values: Json, content: Content) -> None:
    """Add the variables of a host from the output of a script."""
    if values is not None and not isinstance(values, dict):
        raise content.error(f"the variables of {host} must be a table, not {_short(values)}", 0)
    variables = content.hosts[host]
    for name, value in (values or {}).items():
        content.set(variables, name, tagged(value, content.name), 0)


def _listed_group(name: str, value: Json, content: Content) -> None:
    group = content.group(name, 0)
    if not isinstance(value, dict):
        value = {"hosts": value}
    elif not any(key in value for key in _KEYS):
        value = {"hosts": [name], "vars": value}
    for key, kind in (("hosts", list), ("children", list), ("vars", dict)):
        if value.get(key) is not None and not isinstance(value[key], kind):
            what = "a list" if kind is list else "a table"
            raise content.error(f"{key} of the group {name} must be {what}, not {_short(value[key])}", 0)
    for host in value.get("hosts") or ():
        content.add_host(host, name, 0)
    for child in value.get("children") or ():
        content.add_child(name, child, 0)
        content.group(child, 0)
    for variable, inner in (value.get("vars") or {}).items():
        content.set_group(group, variable, tagged(inner, content.name), 0)
