"""An inventory: the hosts and groups of its files, and the selection of hosts by pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from sloth.inventory import patterns
from sloth.inventory.loader import load
from sloth.inventory.model import ConnectionType, Group, Host


class Inventory:
    """All hosts, in the order of the files, and all groups. paths: the files, none for this machine alone."""

    def __init__(self, paths: Sequence[Path], hosts: Mapping[str, Host], groups: Mapping[str, Group]) -> None:
        self.paths = tuple(paths)
        self.hosts = hosts
        self.groups = groups
        self._members = {name: frozenset(group.hosts) for name, group in groups.items()}
        # Every host evaluates the same few patterns of the site: without a cache that is quadratic in hosts.
        self._selected = lru_cache(maxsize=256)(self._select)

    @classmethod
    def read(cls, *paths: str | Path) -> Inventory:
        """Read TOML inventories, merged as load() says. Raises InventoryError with file and line."""
        files = [Path(path) for path in paths]
        return cls(files, *load(files))

    @classmethod
    def local(cls) -> Inventory:
        """Return the inventory of a run without one: this machine alone, as the agent `local`."""
        origins = {"connection": "no inventory"}
        return cls((), {"local": Host("local", "localhost", connection=ConnectionType.LOCAL, origins=origins)}, {})

    def select(self, pattern: str | Sequence[str], where: str = "") -> tuple[Host, ...]:
        """Return the hosts that `pattern` selects, in inventory order.

        The syntax of patterns and the errors are those of patterns.select(); `where` is the pattern's own position.
        """
        chosen = self._selected(pattern if isinstance(pattern, str) else tuple(pattern), where)
        return tuple(host for name, host in self.hosts.items() if name in chosen)

    def contains(self, pattern: str | Sequence[str], host: Host, where: str = "") -> bool:
        """Return whether `pattern` selects `host`."""
        return host.name in self._selected(pattern if isinstance(pattern, str) else tuple(pattern), where)

    def _select(self, pattern: str | tuple[str, ...], where: str) -> frozenset[str]:
        return patterns.select(pattern, self.hosts, self._members, where)
