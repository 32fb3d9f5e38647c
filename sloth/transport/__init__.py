"""SSH and local transport: the only package that imports asyncssh, and only once a host is to be reached by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.inventory import Host
from sloth.transport import bundle
from sloth.transport.assets import Asset
from sloth.transport.become import Become, printed_password
from sloth.transport.bootstrap import Bootstrap
from sloth.transport.connection import Connection, NoFurtherSession, Opening, RemoteProcess
from sloth.transport.in_flight import Sink
from sloth.transport.local import LocalConnection
from sloth.transport.session import Listener, Session

if TYPE_CHECKING:
    from sloth.transport.ssh import Connector

__all__ = [
    "Asset",
    "Become",
    "Bootstrap",
    "Connection",
    "Connector",
    "Listener",
    "LocalConnection",
    "NoFurtherSession",
    "Opening",
    "RemoteProcess",
    "Session",
    "Sink",
    "bundle",
    "connector",
    "engine_connection",
    "printed_password",
]


def connector(password: str | None) -> Connector:
    """Return what connects by SSH; password: of the login, for hosts without one of their own."""
    from sloth.transport.ssh import Connector  # a run on this machine alone needs none

    return Connector(password)


async def engine_connection(host: Host) -> Connection:
    """Return a connection to a container or a directory of this machine. Raises ConnectError."""
    from sloth.transport.engines import EngineConnection  # few runs need it

    connection = EngineConnection(host)
    await connection.open()
    return connection
