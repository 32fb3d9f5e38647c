"""Reads the TOML inventory: checks every key, expands ranges, resolves groups, and keeps where each value came from."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sloth.errors import InventoryError
from sloth.inventory.model import Group, Host, Inventory
from sloth.inventory.patterns import expand, select
from sloth.inventory.settings import HOST_SETTINGS, Settings, near, settings_of
from sloth.inventory.toml_lines import locate

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\Z")
_GROUP_KEYS = ("hosts", "groups", "priority")


def find_inventory(option: str | None) -> Path | None:
    """Return the inventory to use: the option, $SLOTH_INVENTORY, ./inventory.toml, ~/.sloth-runner/inventory.toml.

    None when there is none. Raises InventoryError when the one that was named is not there.
    """
    for named, origin in ((option, "--inventory"), (os.environ.get("SLOTH_INVENTORY"), "$SLOTH_INVENTORY")):
        if named:
            if not Path(named).is_file():
                raise InventoryError(f"there is no inventory {named}", hint=f"it was named by {origin}")
            return Path(named)
    for path in (Path("inventory.toml"), Path.home() / ".sloth-runner" / "inventory.toml"):
        if path.is_file():
            return path
    return None


@dataclass
class _GroupDraft:
    """A group as written."""

    name: str
    hosts: list[str]
    groups: list[str]
    priority: int
    settings: Settings
    members: frozenset[str] = frozenset()
    depth: int = 0
    parents: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.source = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise InventoryError(f"the inventory {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InventoryError(f"the inventory {path} is not UTF-8 (byte {error.start})") from error
        try:
            self.data = tomllib.loads(self.source)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"at line (\d+)", str(error))
            where = f"{path}:{line[1]}" if line else f"{path}:{self.source.count(chr(10)) + 1}"
            raise InventoryError(re.sub(r" \(at .*\)$", "", str(error)), where=where) from error
        self.lines = locate(self.source)

    def where(self, *path: str) -> str:
        """file:line of a key, or of the nearest table around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return f"{self.path}:{self.lines[path[:end]]}"
        return str(self.path)

    def error(self, message: str, *path: str, hint: str = "") -> InventoryError:
        return InventoryError(message, where=self.where(*path), hint=hint)

    def table(self, value: Any, *path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(f"{'.'.join(path)} must be a table", *path)
        return value

    def read(self) -> Inventory:
        for key in self.data:
            if key not in ("defaults", "hosts", "groups"):
                raise self.error(f"unknown key '{key}'", key, hint=near(key, ("defaults", "hosts", "groups")))
        defaults = settings_of(self, self.table(self.data.get("defaults", {}), "defaults"), ("defaults",), "defaults")
        own = self._hosts()
        drafts = self._groups(own)
        order = sorted(drafts.values(), key=lambda draft: (draft.priority, draft.depth, draft.name))
        by_host: dict[str, list[_GroupDraft]] = {name: [] for name in own}
        for draft in order:
            for name in draft.members:
                by_host[name].append(draft)
        hosts = {
            name: self._host(name, [defaults, *(draft.settings for draft in by_host[name]), mine], by_host[name])
            for name, mine in own.items()
        }
        position = {name: number for number, name in enumerate(own)}
        groups = {
            draft.name: Group(
                draft.name,
                tuple(sorted(draft.members, key=position.__getitem__)),
                tuple(draft.groups),
                draft.settings.vars,
            )
            for draft in drafts.values()
        }
        return Inventory(self.path, hosts, groups)

    def _hosts(self) -> dict[str, Settings]:
        """The hosts by name, ranges expanded, each with its own settings."""
        found: dict[str, Settings] = {}
        for written, value in self.table(self.data.get("hosts", {}), "hosts").items():
            path = ("hosts", written)
            table = {"address": value} if isinstance(value, str) else self.table(value, *path)
            mine = settings_of(self, table, path, "host")
            try:
                names = expand(written)
            except InventoryError as error:
                raise self.error(error.message, *path, hint=error.hint) from None
            addresses = self._addresses(mine, names, path)
            for name, address in zip(names, addresses, strict=True):
                if not _NAME.match(name):
                    raise self.error(
                        f"'{name}' is no name for a host",
                        *path,
                        hint="use letters, digits, '.', '_' and '-'; no dash or dot first",
                    )
                if name in found:
                    raise self.error(f"the host {name} is named twice", *path)
                if name == "all":
                    raise self.error("no host can be named 'all': it means all of them", *path)
                found[name] = mine.with_address(address) if address is not None else mine
        return found

    def _addresses(self, mine: Settings, names: list[str], path: tuple[str, ...]) -> list[str | None]:
        address = mine.values.get("address")
        if address is None:
            return [None] * len(names)
        if len(names) == 1:
            return [address.replace("{name}", names[0])]
        if "{name}" in address:
            return [address.replace("{name}", name) for name in names]
        addresses = expand(address)
        if len(addresses) != len(names):
            raise self.error(
                f"{len(names)} hosts, but {len(addresses)} addresses", *path, "address",
                hint='use the same range in the address, or "{name}"',
            )  # fmt: skip
        return list(addresses)

    def _groups(self, hosts: Mapping[str, Settings]) -> dict[str, _GroupDraft]:
        drafts: dict[str, _GroupDraft] = {}
        for name, value in self.table(self.data.get("groups", {}), "groups").items():
            path = ("groups", name)
            table = dict(self.table(value, *path))
            if not _NAME.match(name):
                raise self.error(f"'{name}' is no name for a group", *path)
            if name in hosts:
                raise self.error(f"{name} is the name of a host and of a group", *path)
            lists = {key: self._strings(table.pop(key, []), *path, key) for key in ("hosts", "groups")}
            priority = table.pop("priority", 0)
            if not isinstance(priority, int) or isinstance(priority, bool):
                raise self.error("priority must be a whole number", *path, "priority")
            mine = settings_of(self, table, path, f"group {name}", extra=_GROUP_KEYS)
            drafts[name] = _GroupDraft(name, lists["hosts"], lists["groups"], priority, mine)
        for draft in drafts.values():
            for child in draft.groups:
                if child not in drafts:
                    hint = near(child, drafts) or ("a host belongs in hosts = [...]" if child in hosts else "")
                    raise self.error(f"there is no group {child}", "groups", draft.name, "groups", hint=hint)
                drafts[child].parents.append(draft.name)
        self._resolve(drafts, hosts)
        return drafts

    def _resolve(self, drafts: dict[str, _GroupDraft], hosts: Mapping[str, Settings]) -> None:
        """Fill in members, those of child groups too, and depth: parents come before children."""
        done: set[str] = set()

        def visit(name: str, above: tuple[str, ...]) -> frozenset[str]:
            if name in above:
                circle = " -> ".join([*above[above.index(name) :], name])
                raise self.error(f"groups go round in a circle: {circle}", "groups", name, "groups")
            draft = drafts[name]
            if name in done:
                return draft.members
            members: set[str] = set()
            for child in draft.groups:
                members |= visit(child, (*above, name))
            if draft.hosts:
                known = {other: drafts[other].members for other in done}
                members |= select(draft.hosts, hosts, known, self.where("groups", name, "hosts"))
            draft.members = frozenset(members)
            done.add(name)
            return draft.members

        for name in drafts:
            visit(name, ())
        depths: dict[str, int] = {}

        def depth(name: str) -> int:
            if name not in depths:
                depths[name] = 1 + max((depth(parent) for parent in drafts[name].parents), default=-1)
            return depths[name]

        for draft in drafts.values():
            draft.depth = depth(draft.name)

    def _strings(self, value: Any, *path: str) -> list[str]:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"{path[-1]} must be a list of names", *path)
        return value

    def _host(self, name: str, layers: Iterable[Settings], groups: list[_GroupDraft]) -> Host:
        values: dict[str, Any] = {}
        variables: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for layer in layers:
            values.update(layer.values)
            variables.update(layer.vars)
            origins.update(layer.origins)
        values.setdefault("address", name)
        if "become_user" in values:
            user = values.pop("become_user")
            values["become"] = user if values.get("become", True) is not False else False
        become = values.pop("become", None)
        values["become"] = "root" if become is True else become or None
        return Host(name=name, vars=variables, groups=tuple(sorted(g.name for g in groups)), origins=origins, **values)


def read(path: Path) -> Inventory:
    """Read an inventory file. Raises InventoryError: what is wrong, file:line, and the nearest right key."""
    return _Reader(path).read()


__all__ = ["HOST_SETTINGS", "find_inventory", "read"]
