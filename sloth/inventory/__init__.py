"""The inventory: which hosts there are, how to reach them, and what is known of each."""

from sloth.inventory.loader import find_inventory, read
from sloth.inventory.model import Group, Host, Inventory
from sloth.inventory.patterns import expand, matches
from sloth.inventory.variables import extra_vars

__all__ = ["Group", "Host", "Inventory", "expand", "extra_vars", "find_inventory", "matches", "read"]
