"""The mail room: the only place that imports asyncssh, and only once a host is to be reached by it."""

from sloth.transport import bundle
from sloth.transport.connection import Channel, Link
from sloth.transport.local import LocalLink
from sloth.transport.messages import Asset, Reply
from sloth.transport.session import Session, Sink
from sloth.transport.ssh import Connector

__all__ = ["Asset", "Channel", "Connector", "Link", "LocalLink", "Reply", "Session", "Sink", "bundle"]
