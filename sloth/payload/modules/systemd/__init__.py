"""systemd: what units are, whether they run, and that the manager has read what is written."""

from sloth.payload.modules.systemd.actions import DaemonReload, Reload, Restart
from sloth.payload.modules.systemd.service import Disable, Enable, Mask, Service, Start, Stop, Unmask
from sloth.payload.modules.systemd.unit import Unit

__all__ = [
    "DaemonReload",
    "Disable",
    "Enable",
    "Mask",
    "Reload",
    "Restart",
    "Service",
    "Start",
    "Stop",
    "Unit",
    "Unmask",
]
