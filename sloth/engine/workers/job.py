"""What a worker is given when it starts: over its socket, so that nothing of it is on a disk or in a command line."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from sloth.engine.options import Options
from sloth.errors import SlothError
from sloth.frozen import frozen
from sloth.inventory import Group, Host, Inventory
from sloth.playbook import Site
from sloth.state.backends.location import Location
from sloth.state.keys import Keys
from sloth.state.storage import Storage


@frozen
class Job:
    """A part of a run.

    Attributes:
        hosts: the names of those to work on.
        others: those of the other workers.
        forks: how many to work on at the same time.
        is_stepping: whether the user is asked before each task.
        secrets: what must be hidden from the beginning.
        environment: that of the run's process. The worker's own was almost empty when it was started.
    """

    run_id: str
    site: Site
    options: Options
    inventory: Known
    hosts: tuple[str, ...]
    others: frozenset[str]
    forks: int
    is_stepping: bool
    secrets: tuple[str, ...]
    directory: Path
    location: Location | None
    keys: Keys | None
    environment: Mapping[str, str] = field(repr=False)

    def storage(self) -> Storage:
        """Return the controller's storage, which all workers share: they are on the same machine."""
        return Storage(self.directory, self.location, self.keys)


@frozen
class Known:
    """An inventory of which every host is resolved."""

    paths: tuple[Path, ...]
    hosts: Mapping[str, Host]
    groups: Mapping[str, Group]

    @classmethod
    def of(cls, inventory: Inventory) -> Known:
        """Return what workers need to know of an inventory. A host that cannot be resolved is none of the run's."""
        hosts = {}
        for name in inventory.hosts:
            try:
                hosts[name] = inventory.hosts[name]
            except SlothError:
                continue
        return cls(inventory.paths, hosts, dict(inventory.groups))

    def inventory(self) -> Inventory:
        """Return it as an inventory."""
        return Inventory(self.paths, self.hosts, self.groups)


def travelling(options: Options) -> Options:
    """Return options as a worker can get them: a passphrase that is typed is asked for now, once for all."""
    return dataclasses.replace(options, keys=travelling_keys(options.keys) or Keys(), workers=0)


def travelling_keys(keys: Keys | None) -> Keys | None:
    """Return keys whose passphrase need not be typed any more."""
    if keys is None or keys.passphrase is None:
        return keys
    return Keys(keys.key_file, functools.partial(str, keys.passphrase()))


_BARE = ("PATH", "HOME", "TMPDIR", "LANG", "TZ")
_BARE_PREFIXES = ("PYTHON", "LD_", "LC_")


def bare_environment() -> dict[str, str]:
    """Return what a process needs to start: /proc shows it to whoever is the same user, as it was then."""
    return {name: value for name, value in os.environ.items() if name in _BARE or name.startswith(_BARE_PREFIXES)}
