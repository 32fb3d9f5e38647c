"""Writes an inventory as one of our own TOML files, with a comment for whatever cannot be carried over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields
from typing import TYPE_CHECKING

from sloth.errors import SlothError
from sloth.frozen import mutable
from sloth.inventory.connection import NAMES
from sloth.inventory.groups import EVERY, UNGROUPED
from sloth.inventory.inventory import Inventory
from sloth.inventory.model import Group, Host
from sloth.inventory.settings import HOST_SETTINGS
from sloth.inventory.templated import Encrypted, Templated, written

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_KEYS = {setting.attribute: key for key, setting in HOST_SETTINGS.items()}
_DEFAULT = {one.name: one.default for one in fields(Host)}
Evaluated = Callable[[Host, str, Templated], "Json"]


class _NotToml(Exception):
    """A value that TOML cannot express."""


@mutable
class _Table:
    """A table of the file: keys, variables, and comments on what is missing."""

    keys: JsonObject = field(default_factory=dict)
    variables: JsonObject = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)


def to_toml(inventory: Inventory, evaluate: Evaluated) -> str:
    """Return the text of a file with the same hosts, groups, settings and variables.

    evaluate: returns the value that a variable with Jinja in it has for a host; raises SlothError when it depends on
    more than the inventory. Such values are written for each host, since our own files have no templates.
    """
    left_out = {EVERY, UNGROUPED, *inventory.hosts}  # a group of ours cannot have the name of a host
    groups = {name: group for name, group in inventory.groups.items() if name not in left_out}
    every = inventory.groups.get(EVERY)
    tables = {name: _group_table(group, groups) for name, group in groups.items()}
    defaults = _Table()
    if every is not None:
        _add_variables(defaults, every.vars)
    effective = _effective(inventory, groups, tables, defaults)
    hosts = {name: _host_table(host, effective(host), evaluate) for name, host in inventory.hosts.items()}
    return _text(inventory, defaults, tables, hosts)


def _effective(
    inventory: Inventory, groups: Mapping[str, Group], tables: Mapping[str, _Table], defaults: _Table
) -> Callable[[Host], JsonObject]:
    """Return what gives the variables that a host has from the written defaults and groups alone."""
    depths: dict[str, int] = {}
    parents = {name: [one for one, group in groups.items() if name in group.groups] for name in groups}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = 1 + max(map(depth, parents[name]), default=-1)
        return depths[name]

    members: dict[str, list[str]] = {name: [] for name in inventory.hosts}
    for name in sorted(groups, key=lambda name: (depth(name), name)):
        for host in groups[name].hosts:
            members[host].append(name)

    def of(host: Host) -> JsonObject:
        found = dict(defaults.variables)
        for name in members[host.name]:
            found.update(tables[name].variables)
        return found

    return of


def _group_table(group: Group, groups: Mapping[str, Group]) -> _Table:
    table = _Table()
    children = [child for child in group.groups if child in groups]
    covered = {host for child in children for host in groups[child].hosts}
    own = [host for host in group.hosts if host not in covered]
    if own or not children:
        table.keys["hosts"] = own
    if children:
        table.keys["groups"] = children
    _add_variables(table, group.vars)
    return table


def _add_variables(table: _Table, variables: Mapping[str, Json]) -> None:
    for name, value in variables.items():
        if _is_setting(name) or isinstance(value, (Templated, Encrypted)):
            continue  # for each host
        _add(table, name, value, table.comments)


def _is_setting(name: str) -> bool:
    return name in NAMES or name.startswith("ansible_")


def _add(table: _Table, name: str, value: Json, comments: list[str]) -> None:
    try:
        _value(value)
    except _NotToml as reason:
        comments.append(f"not carried over: {name} = {_short(value)} ({reason})")
    else:
        table.variables[name] = value


def _host_table(host: Host, inherited: JsonObject, evaluate: Evaluated) -> _Table:
    table = _Table()
    for attribute, key in _KEYS.items():
        if attribute == "address":
            if host.address != host.name:
                table.keys[key] = host.address
        elif hasattr(host, attribute):
            value = getattr(host, attribute)
            if value not in (None, ()) and value != _DEFAULT[attribute]:
                table.keys[key] = list(value) if isinstance(value, tuple) else value
    for name, value in host.vars.items():
        if name in NAMES:
            continue  # it has become a setting
        if name.startswith("ansible_"):
            table.comments.append(f"not carried over: {name} = {_short(value)} (it has no effect here)")
            continue
        plain: Json = value
        if isinstance(value, Encrypted):
            table.comments.append(f"not carried over: {name} (encrypted with ansible-vault; see sloth-runner secret)")
            continue
        if isinstance(value, Templated):
            try:
                plain = evaluate(host, name, value)
                table.comments.append(f"{name} was {_short(value)}")
            except SlothError as error:
                table.comments.append(f"not carried over: {name} = {_short(value)} ({error.message})")
                continue
        if name not in inherited or inherited[name] != plain or type(inherited[name]) is not type(plain):
            _add(table, name, plain, table.comments)
    for path in host.sealed:
        table.comments.append(f"not carried over: the variables in {path} (encrypted with ansible-vault)")
    return table


def _text(inventory: Inventory, defaults: _Table, groups: Mapping[str, _Table], hosts: Mapping[str, _Table]) -> str:
    lines = [f"# Written by sloth-runner inventory import from {', '.join(map(str, inventory.paths))}."]
    lines += [f"# {warning}" for warning in inventory.warnings]
    lines += [
        f"# not carried over: the group {name} (a host has the same name)"
        for name in inventory.groups
        if name in inventory.hosts
    ]
    common = _common(hosts)
    defaults.keys.update(common)
    lines += _section(("defaults",), defaults, "") if defaults.keys or defaults.variables or defaults.comments else []
    for name, table in hosts.items():
        table.keys = {key: value for key, value in table.keys.items() if key not in common}
        lines += _section(("hosts", name), table, "")
    for name, table in groups.items():
        lines += _section(("groups", name), table, "")
    return "\n".join(lines) + "\n"


def _common(hosts: Mapping[str, _Table]) -> JsonObject:
    """Return the settings that all hosts share."""
    tables = list(hosts.values())
    if len(tables) < 2:
        return {}
    return {
        key: value
        for key, value in tables[0].keys.items()
        if key not in ("address", "tags") and all(key in one.keys and one.keys[key] == value for one in tables[1:])
    }


def _section(path: Sequence[str], table: _Table, indent: str) -> list[str]:
    name = ".".join(map(_key, path))
    lines = ["", f"[{name}]", *(f"# {' '.join(comment.split())}" for comment in table.comments)]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in table.keys.items()]
    if table.variables:
        lines += [f"[{name}.vars]"]
        lines += [f"{_key(key)} = {_value(value)}" for key, value in table.variables.items()]
    return lines


def _key(name: str) -> str:
    return name if _BARE.match(name) else _string(name)


def _string(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _NotToml("it is no Unicode text") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Json) -> str:
    """Return a value as TOML. Raises _NotToml."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            text = repr(value)
            return text if any(mark in text for mark in ".en") else text + ".0"
        case str():
            return _string(str(value))
        case list():
            return "[" + ", ".join(map(_value, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{_key(str(key))} = {_value(item)}" for key, item in value.items()) + "}"
        case None:
            raise _NotToml("TOML has no null")
    raise _NotToml("TOML has nothing like it")


def _short(value: Json) -> str:
    text = json.dumps(written(value), ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:197] + "..."
