"""What one source of Ansible defines: hosts, groups, and their variables with the line of each."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.frozen import mutable
from sloth.inventory.connection import examine

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

# name -> (value, line); line 0: not known
Variables = dict[str, "tuple[Json, int]"]

# A name becomes part of file names; an IPv6 address is one of Ansible's names, too.
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}|(?=[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:)[0-9A-Fa-f:.]{2,45})\Z")
_GROUP = re.compile(r"[^\s,!@*?\[\]]{1,200}\Z")
IMPLICIT = ("all", "ungrouped")  # groups that every inventory of Ansible has


@mutable
class GroupContent:
    """A group as one source defines it; hosts, children: in their order, each with its line."""

    line: int
    hosts: dict[str, int] = field(default_factory=dict)
    children: dict[str, int] = field(default_factory=dict)
    variables: Variables = field(default_factory=dict)
    priority: int | None = None


class Content:
    """A source that was read.

    Attributes:
        name: the source, for positions.
        directory: where relative paths begin, and `host_vars` and `group_vars` are looked for; None: nowhere.
        hosts: the variables of each host; lines: where each is defined first.
    """

    def __init__(self, name: str, directory: Path | None, earlier: Collection[Content] = ()) -> None:
        """earlier: the sources before this one, whose groups it may extend."""
        self.name = name
        self.directory = directory
        self.hosts: dict[str, Variables] = {}
        self.lines: dict[str, int] = {}
        self.groups: dict[str, GroupContent] = {}
        self.warnings: list[str] = []
        self._earlier = tuple(earlier)
        self._unsupported: set[str] = set()
        self.defined_earlier = {name for other in earlier for name in other.groups} | set(IMPLICIT)

    def where(self, line: int) -> str:
        """Return the position of a line."""
        return f"{self.name}:{line}" if line else self.name

    def error(self, message: str, line: int, hint: str = "") -> InventoryError:
        return InventoryError(message, where=self.where(line), hint=hint)

    def warn(self, message: str, line: int) -> None:
        self.warnings.append(f"{self.where(line)}: {message}")

    def group(self, name: Json, line: int) -> GroupContent:
        """Return a group, a new one when it is not known. Raises InventoryError for an invalid name."""
        if name in self.groups:
            return self.groups[name]
        if not isinstance(name, str) or not _GROUP.match(name):
            hint = "use no blanks, commas, brackets, '!', '@', '*' and '?'"
            raise self.error(f"{name!r} is not a valid group name", line, hint)
        self.groups[name] = GroupContent(line)
        return self.groups[name]

    def add_child(self, group: str, child: str, line: int) -> None:
        """Make a group the child of another."""
        if child == group:
            raise self.error(f"the group {group} cannot be a child of itself", line)
        if child == IMPLICIT[0]:
            raise self.error(f"the group {child}, which has every host, cannot be a child of {group}", line)
        self.group(group, line).children.setdefault(child, line)

    def add_host(self, name: Json, group: str, line: int, port: int | None = None) -> Variables:
        """Return the variables of a host, which becomes a member of the group. Raises InventoryError."""
        variables = self.hosts.get(name) if isinstance(name, str) else None
        if variables is None:
            if not isinstance(name, str) or not _HOST.match(name):
                hint = "use letters, digits, '.', '_' and '-', and ansible_host for the address"
                raise self.error(f"{name!r} is not a valid host name", line, hint)
            if name == "all":
                raise self.error("a host cannot be named 'all', which selects all hosts", line)
            variables = self.hosts[name] = {}
            self.lines[name] = line
            if port is not None and not any(name in other.hosts for other in self._earlier):
                self.set(variables, "ansible_port", port, line)
        self.group(group, line).hosts.setdefault(name, line)
        return variables

    def set(self, variables: Variables, name: str, value: Json, line: int) -> None:
        """Set a variable. Raises InventoryError for a connection variable with an invalid value."""
        if name.startswith(("ansible_", "sloth_")):
            problem = self._examine(name, value, line)
            if problem and problem not in self._unsupported:
                self._unsupported.add(problem)
                self.warn(problem, line)
        variables[name] = (value, line)

    def set_group(self, group: GroupContent, name: str, value: Json, line: int) -> None:
        """Set a variable of a group; `ansible_group_priority` is its priority."""
        if name != "ansible_group_priority":
            self.set(group.variables, name, value, line)
            return
        try:
            group.priority = int(value)
        except (TypeError, ValueError):
            raise self.error(f"ansible_group_priority must be a whole number, not {value!r}", line) from None

    def _examine(self, name: str, value: Json, line: int) -> str:
        try:
            return examine(name, value)
        except ValueError as error:
            raise self.error(str(error), line) from None
