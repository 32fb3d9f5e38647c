"""How the web UI is served: the address, who may use it, and which files it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from pathlib import Path

from sloth.frozen import frozen
from sloth.inventory import Inventory

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@frozen
class Settings:
    """How the web UI is served.

    Attributes:
        directory: the controller's, with controller.db and replicas/.
        token: what a client must know; "" lets everybody in, which only tests and the static export do.
        hosts: the Host headers that are answered, "name:port" or "name" for port 80 and 443.
        secure: whether browsers reach it by HTTPS, here or at a reverse proxy.
        read_inventory: reads the inventory; None: there is none.
        allow_actions: whether pages offer actions.
        prefix: the path below which a reverse proxy serves it, "" or "/sloth".
        start: the page that a login leads to.
    """

    directory: Path
    token: str = field(repr=False)
    hosts: tuple[str, ...]
    secure: bool = False
    read_inventory: Callable[[], Inventory] | None = None
    allow_actions: bool = False
    prefix: str = ""
    start: str = "/"


def host_headers(address: str, port: int, names: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the Host headers of a server at an address: that, `names`, and the names of loopback if it is such."""
    own = f"[{address}]" if ":" in address else address
    found = [own, *names]
    if own in LOOPBACK or own.startswith("127."):
        found += LOOPBACK
    return tuple(dict.fromkeys(name if _has_port(name) else f"{name}:{port}" for name in found)) + names


def _has_port(name: str) -> bool:
    return name.rpartition(":")[2].isdigit() and not name.endswith("]")
