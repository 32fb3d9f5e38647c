"""The inventory: which hosts there are, how to reach them, and their variables."""

from sloth.inventory.backend import BackendSetting, find_backend
from sloth.inventory.inventory import Inventory
from sloth.inventory.loader import find_inventory
from sloth.inventory.model import BecomeMethod, ConnectionType, Group, Host, HostKeyPolicy
from sloth.inventory.patterns import expand, matches
from sloth.inventory.patterns import items as pattern_items
from sloth.inventory.settings import read_become
from sloth.inventory.variables import extra_vars

__all__ = [
    "BackendSetting",
    "BecomeMethod",
    "ConnectionType",
    "Group",
    "Host",
    "HostKeyPolicy",
    "Inventory",
    "expand",
    "extra_vars",
    "find_backend",
    "find_inventory",
    "matches",
    "pattern_items",
    "read_become",
]
