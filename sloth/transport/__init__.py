"""SSH and local transport: the only package that imports asyncssh, and only once a host is to be reached by it."""

from sloth.transport import bundle
from sloth.transport.assets import Asset
from sloth.transport.bootstrap import Become, Bootstrap
from sloth.transport.connection import Connection, NoFurtherSession, RemoteProcess
from sloth.transport.in_flight import Sink
from sloth.transport.local import LocalConnection
from sloth.transport.session import Listener, Session
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
    "RemoteProcess",
    "Session",
    "Sink",
    "bundle",
]
