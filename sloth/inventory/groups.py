"""The groups of an inventory file: who is in them, and in which order their settings apply."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from sloth.inventory.document import Document
from sloth.inventory.patterns import select
from sloth.inventory.settings import Settings, read_settings
from sloth.suggest import did_you_mean

_GROUP_KEYS = ("hosts", "groups", "priority")


@dataclass(slots=True)
class GroupDraft:
    """A group while the inventory is being read.

    Attributes:
        hosts, groups: as written; `members` and `depth` are what they come to.
        depth: the longest way to it from a group without parents.
    """

    name: str
    hosts: list[str]
    groups: list[str]
    priority: int
    settings: Settings
    members: frozenset[str] = frozenset()
    depth: int = 0
    parents: list[str] = field(default_factory=list)


def read_groups(document: Document, hosts: Collection[str]) -> list[GroupDraft]:
    """Return the groups in the order of the file, each with its members. Raises InventoryError."""
    drafts: dict[str, GroupDraft] = {}
    for name, value in document.table(document.data.get("groups", {}), "groups").items():
        drafts[name] = _draft(document, name, value, hosts)
    for draft in drafts.values():
        for child in draft.groups:
            if child not in drafts:
                hint = did_you_mean(child, drafts) or ("a host belongs in hosts = [...]" if child in hosts else "")
                raise document.error(f"there is no group {child}", "groups", draft.name, "groups", hint=hint)
            drafts[child].parents.append(draft.name)
    _resolve_members(document, drafts, hosts)
    _resolve_depths(drafts)
    return list(drafts.values())


def by_precedence(drafts: Collection[GroupDraft]) -> list[GroupDraft]:
    """Return the groups so that settings of later ones win: by priority, then children after parents, then by name."""
    return sorted(drafts, key=lambda draft: (draft.priority, draft.depth, draft.name))


def _draft(document: Document, name: str, value: object, hosts: Collection[str]) -> GroupDraft:
    path = ("groups", name)
    table = dict(document.table(value, *path))
    document.check_name(name, "group", *path)
    if name in hosts:
        raise document.error(f"{name} is the name of a host and of a group", *path)
    lists = {key: document.names(table.pop(key, []), *path, key) for key in ("hosts", "groups")}
    priority = table.pop("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise document.error("priority must be a whole number", *path, "priority")
    settings = read_settings(document, table, path, f"group {name}", extra=_GROUP_KEYS)
    return GroupDraft(name, lists["hosts"], lists["groups"], priority, settings)


def _resolve_members(document: Document, drafts: dict[str, GroupDraft], hosts: Collection[str]) -> None:
    """Set the members of each group, those of its child groups too. Raises InventoryError for a cycle."""
    done: dict[str, frozenset[str]] = {}

    def visit(name: str, above: tuple[str, ...]) -> frozenset[str]:
        if name in above:
            cycle = " -> ".join([*above[above.index(name) :], name])
            raise document.error(f"the groups have a cycle: {cycle}", "groups", name, "groups")
        if name in done:
            return done[name]
        draft = drafts[name]
        members = {host for child in draft.groups for host in visit(child, (*above, name))}
        if draft.hosts:
            # A group's hosts may name other groups, as "@web"; those must come earlier or be its children.
            members |= select(draft.hosts, hosts, done, document.where("groups", name, "hosts"))
        draft.members = done[name] = frozenset(members)
        return draft.members

    for name in drafts:
        visit(name, ())


def _resolve_depths(drafts: dict[str, GroupDraft]) -> None:
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = 1 + max((depth(parent) for parent in drafts[name].parents), default=-1)
        return depths[name]

    for draft in drafts.values():
        draft.depth = depth(draft.name)
