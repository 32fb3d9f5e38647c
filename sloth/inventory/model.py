"""Hosts and groups as the rest of the program uses them: everything resolved, nothing left to look up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sloth.inventory import patterns

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


class BecomeMethod(StrEnum):
    """How a session becomes another account."""

    SUDO = "sudo"


class HostKeyPolicy(StrEnum):
    """What to do about a host key that is not known yet."""

    STRICT = "strict"  # refuse it
    ACCEPT_NEW = "accept-new"  # remember it; a changed key is refused all the same


class ConnectionType(StrEnum):
    """How a host is reached."""

    SSH = "ssh"
    LOCAL = "local"  # it is this machine


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """A host of the inventory, with every setting resolved. Hosts are compared by identity.

    Attributes:
        become: the account that tasks run as; None for the account of the login.
        connect_timeout: in seconds.
        ssh_config: the path of a configuration file; None for the user's own, False for none.
        origins: the origin of each setting, and of each variable as "vars.NAME": "inventory.toml:12 (group web)".
    """

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    identity_files: tuple[str, ...] = ()
    python: str | None = None
    become: str | None = None
    become_method: BecomeMethod = BecomeMethod.SUDO
    host_keys: HostKeyPolicy = HostKeyPolicy.STRICT
    known_hosts: str | None = None
    proxy_jump: str | None = None
    ssh_config: str | Literal[False] | None = None
    connect_timeout: float = 15.0
    connection: ConnectionType = ConnectionType.SSH
    password_env: str | None = None
    vars: Mapping[str, Json] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """A group of the inventory.

    Attributes:
        hosts: all its members, those of its child groups too, in inventory order.
        groups: its child groups.
    """

    name: str
    hosts: tuple[str, ...]
    groups: tuple[str, ...]
    vars: Mapping[str, Json]


class Inventory:
    """All hosts, in the order of the file, and all groups."""

    def __init__(self, path: Path | None, hosts: Mapping[str, Host], groups: Mapping[str, Group]) -> None:
        self.path = path
        self.hosts = hosts
        self.groups = groups
        self._members = {name: frozenset(group.hosts) for name, group in groups.items()}
        # Every host evaluates the same few patterns of the site: without a cache that is quadratic in hosts.
        self._selected = lru_cache(maxsize=256)(self._select)

    @classmethod
    def read(cls, path: str | Path) -> Inventory:
        """Read a TOML inventory. Raises InventoryError with file and line."""
        from sloth.inventory.loader import read

        return read(Path(path))

    @classmethod
    def local(cls) -> Inventory:
        """Return the inventory of a run without one: this machine alone, as the agent `local`."""
        origins = {"connection": "no inventory"}
        return cls(None, {"local": Host("local", "localhost", connection=ConnectionType.LOCAL, origins=origins)}, {})

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
