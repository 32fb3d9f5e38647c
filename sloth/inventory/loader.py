"""Loads an inventory: finds its sources, and brings together what they define."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.frozen import frozen
from sloth.inventory.backend import BACKEND, BackendSetting, read_backend
from sloth.inventory.document import Document
from sloth.inventory.engine import ENGINE, EngineSetting, read_engine
from sloth.inventory.groups import GroupDraft, by_precedence, read_groups
from sloth.inventory.host_sources import AnsibleHosts, HostSource, TomlHosts
from sloth.inventory.model import Group
from sloth.inventory.resolve import Evaluate, Hosts
from sloth.inventory.settings import Settings, read_settings
from sloth.inventory.sources import STDIN, TABLES, is_host_list, read_sources
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.inventory.content import Content
    from sloth.inventory.vars_files import VarsFiles

Warn = Callable[[str], None]


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
    """What the sources of an inventory come to.

    warnings: grows while hosts are resolved; backend, engine: the last one.
    """

    hosts: Hosts
    groups: Mapping[str, Group]
    warnings: list[str]
    backend: BackendSetting | None
    engine: EngineSetting | None


def load(names: Sequence[str | Path], evaluate: Evaluate | None = None, warn: Warn = lambda _: None) -> Loaded:
    """Return the hosts and the groups of an inventory.

    What several sources define is merged: for each setting and each variable the last one wins, and the members of a
    group add up, as with several inventories of Ansible. evaluate: for connection settings with Jinja in them. warn:
    is called for what has no effect, once each, also while hosts are resolved. Raises InventoryError: what is wrong,
    file and line, and the nearest valid key.
    """
    sources = read_sources(names)
    warnings: list[str] = []
    report = _once(warnings, warn)
    drafts: dict[str, list[HostSource]] = {}
    defaults: list[Settings] = []
    backend, engine = None, None
    for part in sources.parts:
        if isinstance(part, Document):
            defaults.append(_read_defaults(part))
            backend = read_backend(part) or backend
            engine = read_engine(part) or engine
            source: HostSource = TomlHosts(part)
        else:
            for warning in part.warnings:
                report(warning)
            source = AnsibleHosts(part)
        if not any(True for _ in source) and not _has_no_hosts_on_purpose(part):
            report(f"{part.name}: there are no hosts in this inventory")
        for name in source:
            if name in drafts:
                drafts[name].append(source)
            else:
                drafts[name] = [source]
    if not sources.parts:
        report(f"{', '.join(map(str, names))}: there are no inventories in this directory")
    groups = read_groups(sources.parts, drafts)
    files = _vars_files(sources.directories, report)
    hosts = Hosts(drafts, by_precedence(groups), defaults, files, evaluate, report)
    position = {name: number for number, name in enumerate(drafts)}
    return Loaded(hosts, {draft.name: _group(draft, position) for draft in groups}, warnings, backend, engine)


def _has_no_hosts_on_purpose(part: Document | Content) -> bool:
    """Return whether a source has no hosts on purpose."""
    return isinstance(part, Document) and bool(part.data) and part.data.keys() <= {BACKEND, ENGINE}


def _once(warnings: list[str], warn: Warn) -> Warn:
    def report(text: str) -> None:
        if text not in warnings:
            warnings.append(text)
            warn(text)

    return report


def _vars_files(directories: Iterable[Path], warn: Callable[[str], None]) -> VarsFiles | None:
    found = [path for path in directories if (path / "host_vars").is_dir() or (path / "group_vars").is_dir()]
    if not found:
        return None
    from sloth.inventory.vars_files import VarsFiles

    return VarsFiles(found, warn)


def _read_defaults(document: Document) -> Settings:
    for key in document.data:
        if key not in (*TABLES, BACKEND, ENGINE):
            near = did_you_mean(key, (*TABLES, BACKEND, ENGINE))
            raise document.error(f"unknown key '{key}'", key, hint=near or _hint(document, key))
    return read_settings(
        document, document.table(document.data.get("defaults", {}), "defaults"), ("defaults",), "defaults"
    )


def _hint(document: Document, key: str) -> str:
    if isinstance(document.data[key], dict):
        return f"a group is [groups.{key}], a host [hosts.{key}]"
    return "an inventory has the tables defaults, hosts, groups, backend and engine"


def _group(draft: GroupDraft, position: dict[str, int]) -> Group:
    members = tuple(sorted(draft.members, key=position.__getitem__))
    settings = reduce(Settings.overridden_by, draft.layers, Settings())
    origins = {"name": ", ".join(draft.where), **settings.origins}
    return Group(draft.name, members, tuple(draft.groups), settings.vars, origins)
