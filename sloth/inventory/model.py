"""Hosts and groups as the rest of the program sees them: resolved, frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from sloth.inventory import patterns


@dataclass(frozen=True, eq=False)
class Host:
    """One agent: how to reach it and what is known of it.

    become: the account that tasks run as, None for the one we log in as. connect_timeout: seconds. origins: for each
    setting, and for each variable as "vars.NAME", where its value came from.
    """

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    identity_files: tuple[str, ...] = ()
    python: str | None = None
    become: str | None = None
    become_method: str = "sudo"
    host_keys: str = "strict"
    known_hosts: str | None = None
    proxy_jump: str | None = None
    ssh_config: str | bool | None = None
    connect_timeout: float = 15.0
    connection: str = "ssh"
    password_env: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A group: `hosts` are all its members, those of its groups too, in inventory order."""

    name: str
    hosts: tuple[str, ...]
    groups: tuple[str, ...]
    vars: Mapping[str, Any]


class Inventory:
    """All hosts in the order of the file, and the groups."""

    def __init__(self, path: Path | None, hosts: Mapping[str, Host], groups: Mapping[str, Group]) -> None:
        self.path = path
        self.hosts = hosts
        self.groups = groups
        self._members = {name: frozenset(group.hosts) for name, group in groups.items()}
        self._selected = lru_cache(maxsize=256)(self._select)

    @classmethod
    def read(cls, path: str | Path) -> Inventory:
        """Read a TOML inventory; raise InventoryError with file and line."""
        from sloth.inventory.loader import read

        return read(Path(path))

    @classmethod
    def local(cls) -> Inventory:
        """This machine alone, as agent `local`: what a run without an inventory works on."""
        host = Host("local", "localhost", connection="local", origins={"connection": "no inventory"})
        return cls(None, {"local": host}, {})

    def select(self, pattern: str | Sequence[str], where: str = "") -> tuple[Host, ...]:
        """Return the hosts that `pattern` selects, in inventory order; see patterns.select for its form and errors."""
        chosen = self._selected(pattern if isinstance(pattern, str) else tuple(pattern), where)
        return tuple(host for name, host in self.hosts.items() if name in chosen)

    def contains(self, pattern: str | Sequence[str], host: Host, where: str = "") -> bool:
        """Whether `pattern` selects `host`."""
        return host.name in self._selected(pattern if isinstance(pattern, str) else tuple(pattern), where)

    def _select(self, pattern: str | tuple[str, ...], where: str) -> frozenset[str]:
        return patterns.select(pattern, self.hosts, self._members, where)
