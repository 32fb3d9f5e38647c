"""Loads an inventory: finds its sources, and brings together what they define."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.frozen import frozen
from sloth.inventory.document import Document
from sloth.inventory.groups import GroupDraft, by_precedence, read_groups
from sloth.inventory.model import Group
from sloth.inventory.patterns import expand
from sloth.inventory.resolve import Evaluate, HostDraft, Hosts
from sloth.inventory.settings import Settings, read_settings
from sloth.inventory.sources import STDIN, TABLES, is_host_list, read_sources
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.inventory.content import Content
    from sloth.inventory.vars_files import VarsFiles


def find_inventory(options: Sequence[str]) -> tuple[Path, ...]:
    """Return the sources to use: the options, else $SLOTH_INVENTORY, which may be several with colons between.

    When neither is given, it is ./inventory.toml or ~/.sloth-runner/inventory.toml; () when there are none. Raises
    InventoryError when one that was named does not exist.
    """
    for named, origin in ((options, "--inventory"), (_from_environment(), "$SLOTH_INVENTORY")):
        for name in named:
            if name == STDIN:
                if named.count(STDIN) > 1:
                    raise InventoryError("standard input can be read once", hint=f"{origin} names it several times")
            elif not os.path.exists(name) and not is_host_list(name):  # False also for a name that cannot be one
                raise InventoryError(f"inventory {name} not found", hint=_not_found(name, origin))
        if named:
            return tuple(map(Path, named))
    for path in (Path("inventory.toml"), Path.home() / ".sloth-runner" / "inventory.toml"):
        if path.is_file():
            return (path,)
    return ()


def _not_found(name: str, origin: str) -> str:
    try:
        beside = os.listdir(os.path.dirname(name) or ".")
    except (OSError, ValueError):
        beside = []
    near = did_you_mean(os.path.basename(name), beside)
    return near or f"{origin} names it; a list of hosts has a comma: {name},"


def _from_environment() -> Sequence[str]:
    value = os.environ.get("SLOTH_INVENTORY", "")
    return [value] if Path(value).is_file() else [name for name in value.split(os.pathsep) if name]


@frozen
class Loaded:
    """What the sources of an inventory come to. warnings: grows while hosts are resolved."""

    hosts: Hosts
    groups: Mapping[str, Group]
    warnings: list[str]


def load(names: Sequence[str | Path], evaluate: Evaluate | None = None) -> Loaded:
    """Return the hosts and the groups of an inventory.

    What several sources define is merged: for each setting and each variable the last one wins, and the members of a
    group add up, as with several inventories of Ansible. evaluate: for connection settings with Jinja in them. Raises
    InventoryError: what is wrong, file and line, and the nearest valid key.
    """
    sources = read_sources(names)
    warnings: list[str] = []
    drafts: dict[str, HostDraft] = {}
    defaults: list[Settings] = []
    for part in sources.parts:
        if isinstance(part, Document):
            defaults.append(_read_defaults(part))
            for name, (settings, where) in _read_hosts(part).items():
                draft = drafts.setdefault(name, HostDraft())
                draft.where.append(where)
                draft.layers.append(_constant(settings))
        else:
            warnings += part.warnings
            for name, line in part.lines.items():
                draft = drafts.setdefault(name, HostDraft())
                draft.where.append(part.where(line))
                draft.layers.append(_layer(part, name))
    groups = read_groups(sources.parts, drafts)
    files = _vars_files(sources.directories, warnings.append)
    hosts = Hosts(drafts, by_precedence(groups), defaults, files, evaluate, _once(warnings))
    position = {name: number for number, name in enumerate(drafts)}
    return Loaded(hosts, {draft.name: _group(draft, position) for draft in groups}, warnings)


def _constant(settings: Settings) -> Callable[[], Settings]:
    return lambda: settings


def _layer(content: Content, name: str) -> Callable[[], Settings]:
    from sloth.inventory.variable_settings import settings_of

    return lambda: settings_of(content.hosts[name], content.where, "host")


def _once(warnings: list[str]) -> Callable[[str], None]:
    def warn(text: str) -> None:
        if text not in warnings:
            warnings.append(text)

    return warn


def _vars_files(directories: Iterable[Path], warn: Callable[[str], None]) -> VarsFiles | None:
    found = [path for path in directories if (path / "host_vars").is_dir() or (path / "group_vars").is_dir()]
    if not found:
        return None
    from sloth.inventory.vars_files import VarsFiles

    return VarsFiles(found, warn)


def _read_defaults(document: Document) -> Settings:
    for key in document.data:
        if key not in TABLES:
            raise document.error(f"unknown key '{key}'", key, hint=did_you_mean(key, TABLES) or _hint(document, key))
    return read_settings(
        document, document.table(document.data.get("defaults", {}), "defaults"), ("defaults",), "defaults"
    )


def _hint(document: Document, key: str) -> str:
    if isinstance(document.data[key], dict):
        return f"a group is [groups.{key}], a host [hosts.{key}]"
    return "an inventory has the tables defaults, hosts and groups"


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
        where = document.where(*path)
        for name, address in zip(names, _addresses(document, settings, names, path), strict=True):
            document.check_name(name, "host", *path)
            if name in found:
                raise document.error(f"the host {name} is defined twice", *path)
            if name == "all":
                raise document.error("a host cannot be named 'all', which selects all hosts", *path)
            own = settings.with_address(address) if address is not None else settings
            found[name] = (own, where)
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


def _group(draft: GroupDraft, position: dict[str, int]) -> Group:
    members = tuple(sorted(draft.members, key=position.__getitem__))
    settings = reduce(Settings.overridden_by, draft.layers, Settings())
    origins = {"name": ", ".join(draft.where), **settings.origins}
    return Group(draft.name, members, tuple(draft.groups), settings.vars, origins)
