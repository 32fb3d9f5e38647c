"""Where the data come from: the controller's database, its replicas, and the inventory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from sloth.errors import SlothError
from sloth.inventory import Inventory
from sloth.state.storage import Storage
from sloth.web.data.database import ReadOnly

RELOAD = 10.0  # seconds between two looks at whether the inventory's files have changed


class Source:
    """What the functions of data/ read. It is used by several threads.

    Attributes:
        database: the controller's, read-only.
        directory: the controller's.
        storage: opens what the controller keeps and shares, anew each time.
        plans: files of saved plans.
        fetch_problem: why what other controllers have delivered cannot be fetched, "" when it can.
        index_problem: why what is new cannot be read, "" when it can.
    """

    def __init__(
        self,
        directory: Path,
        read_inventory: Callable[[], Inventory] | None = None,
        storage: Callable[[], Storage] | None = None,
        plans: tuple[Path, ...] = (),
    ) -> None:
        self.storage = storage or (lambda: Storage(directory))
        self.plans = plans
        self.fetch_problem = ""
        self.index_problem = ""
        self.directory = directory
        self.database = ReadOnly(directory)
        self._read_inventory = read_inventory
        self._inventory: Inventory | None = None
        self._problem = ""
        self._stamp: tuple[float, ...] = ()
        self._looked = 0.0
        self._lock = threading.Lock()

    @property
    def inventory(self) -> Inventory | None:
        """The inventory as its files are now; None when there is none, or none that can be read."""
        with self._lock:
            if self._read_inventory is not None and time.monotonic() - self._looked > RELOAD:
                self._reload(self._read_inventory)
            return self._inventory

    @property
    def problem(self) -> str:
        """Why the inventory cannot be read, "" when it can; an older one stays in use."""
        return self._problem

    def replica_path(self, agent: str) -> Path:
        """Return the path of an agent's replica, whether or not there is one."""
        return self.directory / "replicas" / f"{agent}.db"

    def _reload(self, read: Callable[[], Inventory]) -> None:
        stamp = _stamp(self._inventory.paths) if self._inventory is not None else ()
        if self._inventory is None or stamp != self._stamp:
            try:
                self._inventory = read()
                self._problem = ""
                self._stamp = _stamp(self._inventory.paths)
            except SlothError as error:
                self._problem = str(error)
        self._looked = time.monotonic()


def _stamp(paths: tuple[Path, ...]) -> tuple[float, ...]:
    """Return when files and what is in directories have changed."""
    found = []
    for path in paths:
        for one in (path, *(sorted(path.rglob("*")) if path.is_dir() else ())):
            try:
                found.append(one.stat().st_mtime)
            except OSError:
                found.append(0.0)
    return tuple(found)
