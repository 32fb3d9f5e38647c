"""An inventory: the hosts and groups of its files, and the selection of hosts by pattern."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.inventory import patterns
from sloth.inventory.backend import BackendSetting
from sloth.inventory.engine import EngineSetting
from sloth.inventory.loader import load
from sloth.inventory.model import ConnectionType, Group, Host
from sloth.inventory.resolve import Evaluate, Hosts
from sloth.inventory.settings import Deferred

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject


class Inventory:
    """All hosts, in the order of the sources, and all groups.

    Attributes:
        paths: the sources, none for this machine alone.
        warnings: what the sources contain that has no effect; it grows while hosts are resolved.
        backend: where controllers keep what they share; None when no source names one.
        engine: which processes work on the hosts; None when no source says it.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        hosts: Mapping[str, Host],
        groups: Mapping[str, Group],
        warnings: Sequence[str] = (),
        backend: BackendSetting | None = None,
        engine: EngineSetting | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self.warnings = warnings
        self.backend = backend
        self.engine = engine
        self.hosts = hosts
        self.groups = groups
        self._members = {name: frozenset(group.hosts) for name, group in groups.items()}
        # Every host evaluates the same few patterns of the site: without a cache that is quadratic in hosts.
        self._selected = lru_cache(maxsize=256)(self._select)

    @classmethod
    def read(
        cls, *paths: str | Path, evaluate: Evaluate | None = None, warn: Callable[[str], None] = lambda _: None
    ) -> Inventory:
        """Read sources, merged as load() says. Raises InventoryError with file and line."""
        loaded = load(paths, evaluate, warn)
        sources = [Path(path) for path in paths]
        return cls(sources, loaded.hosts, loaded.groups, loaded.warnings, loaded.backend, loaded.engine)

    @classmethod
    def local(cls) -> Inventory:
        """Return the inventory of a run without one: this machine alone, as the agent `local`."""
        origins = {"connection": "no inventory"}
        return cls((), {"local": Host("local", "localhost", connection=ConnectionType.LOCAL, origins=origins)}, {})

    def override(self, variables: JsonObject) -> list[str]:
        """Let `variables`, those of -e, win over all else for every host: connection variables of Ansible's among them
        are settings, and the others are what Jinja in connection variables sees.

        Return why some of them are not obeyed. Raises UsageError for an invalid value.
        """
        if not variables:
            return []
        from sloth.inventory.variable_settings import settings_of_options

        settings, warnings = settings_of_options(variables)
        if isinstance(self.hosts, Hosts):
            self.hosts.override(settings, variables)
        return warnings

    def select(self, pattern: str | Sequence[str], where: str = "") -> tuple[Host, ...]:
        """Return the hosts that `pattern` selects, in inventory order.

        The syntax of patterns and the errors are those of patterns.select(); `where` is the pattern's own position.
        """
        chosen = self._selected(pattern if isinstance(pattern, str) else tuple(pattern), where)
        return tuple(self.hosts[name] for name in self.hosts if name in chosen)

    def contains(self, pattern: str | Sequence[str], host: Host, where: str = "") -> bool:
        """Return whether `pattern` selects `host`."""
        return host.name in self._selected(pattern if isinstance(pattern, str) else tuple(pattern), where)

    def explain(self, host: str, variable: str, setting: str) -> list[tuple[Json, str]]:
        """Return each value that is set for a variable or a setting of a host, and its origin, the last one first."""
        if not isinstance(self.hosts, Hosts):
            return []
        found: list[tuple[Json, str]] = []
        for layer in self.hosts.layers(host):
            if variable in layer.vars:
                found.append((layer.vars[variable], layer.origins.get(f"vars.{variable}", "")))
            elif setting not in ("vars", "origins") and getattr(layer, setting, None) is not None:
                value = getattr(layer, setting)
                value = value.value if isinstance(value, Deferred) else value
                found.append((list(value) if isinstance(value, tuple) else value, layer.origins.get(setting, "")))
        return found[::-1]

    def _select(self, pattern: str | tuple[str, ...], where: str) -> frozenset[str]:
        return patterns.select(pattern, self.hosts, self._members, where, self._tagged)

    def _tagged(self) -> Mapping[str, frozenset[str]]:
        if isinstance(self.hosts, Hosts):
            return self.hosts.tagged()
        tags = {tag for host in self.hosts.values() for tag in host.tags}
        return {tag: frozenset(name for name, host in self.hosts.items() if tag in host.tags) for tag in tags}
