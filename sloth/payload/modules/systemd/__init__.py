"""Systemd units: whether they are enabled, active and masked, their files, and the manager that reads these."""

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
