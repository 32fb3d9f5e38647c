"""How the web UI is served: the address, who may use it, and which files it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Protocol

from sloth.frozen import frozen
from sloth.inventory import Inventory
from sloth.state.storage import Storage

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Actions(Protocol):
    """What pages can do, besides reading. All raise SlothError."""

    def hosts(self, pattern: str) -> tuple[str, ...]:
        """Return the names of the hosts that a pattern selects."""

    def drift(self, pattern: str, by: str) -> str:
        """Begin to look for drift on hosts, on behalf of `by`; return the id of the run that records it."""

    def holder(self, lock: str, number: int) -> str:
        """Return who holds a lock by a fencing number, and since when. Raises StateError when nobody does any more."""

    def unlock(self, lock: str, number: int) -> str:
        """Release a lock that is held by a fencing number, whoever holds it; return what was done."""

    def freeze(self, host: str, key: str, until: str, why: str) -> str:
        """Let runs leave a resource of a host alone for a while; return what was done."""

    def unfreeze(self, host: str, key: str) -> str:
        """Let runs change a resource of a host again; return what was done."""


@frozen
class Settings:
    """How the web UI is served.

    Attributes:
        directory: the controller's, with controller.db and replicas/.
        token: what a client must know; "" lets everybody in, which only tests and the static export do.
        hosts: the Host headers that are answered, "name:port" or "name" for port 80 and 443.
        secure: whether browsers reach it by HTTPS, here or at a reverse proxy.
        read_inventory: reads the inventory; None: there is none.
        prefix: the path below which a reverse proxy serves it, "" or "/sloth".
        fetch: brings what other controllers have delivered to the backend, and returns why it cannot, or "".
        start: the page that a login leads to.
        storage: opens what the controller keeps and shares; None: no backend.
        plans: files of saved plans.
        actions: what pages can do; None: nothing.
        metrics_public: whether /metrics needs no token.
    """

    directory: Path
    token: str = field(repr=False)
    hosts: tuple[str, ...]
    secure: bool = False
    read_inventory: Callable[[], Inventory] | None = None
    prefix: str = ""
    start: str = "/"
    fetch: Callable[[], str] | None = None
    storage: Callable[[], Storage] | None = None
    plans: tuple[Path, ...] = ()
    actions: Actions | None = None
    metrics_public: bool = False


def host_headers(address: str, port: int, names: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the Host headers of a server at an address: that, `names`, and the names of loopback if it is such."""
    own = f"[{address}]" if ":" in address else address
    found = [own, *names]
    if own in LOOPBACK or own.startswith("127."):
        found += LOOPBACK
    return tuple(dict.fromkeys(name if _has_port(name) else f"{name}:{port}" for name in found)) + names


def _has_port(name: str) -> bool:
    return name.rpartition(":")[2].isdigit() and not name.endswith("]")
