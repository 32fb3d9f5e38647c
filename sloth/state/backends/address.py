"""The address of a server, as backends have them."""

from __future__ import annotations

from sloth.frozen import frozen


@frozen
class Address:
    """The address of one server."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return "host:port", with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
