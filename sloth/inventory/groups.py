"""The groups of inventory files: who is in them, and in which order their settings apply."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sloth.frozen import frozen
from sloth.inventory.document import Document
from sloth.inventory.patterns import select
from sloth.inventory.settings import Settings, read_settings
from sloth.suggest import did_you_mean

_GROUP_KEYS = ("hosts", "groups", "priority")


@frozen
class Part:
    """What one file says of a group; hosts, groups: as written."""

    document: Document
    hosts: list[str]
    groups: list[str]


@dataclass(slots=True)
class GroupDraft:
    """A group while the inventory is being read.

    Attributes:
        parts: of each file that defines it; `members` and `depth` are what they come to.
        depth: the longest way to it from a group without parents.
    """

    name: str
    parts: list[Part]
    priority: int | None
    settings: Settings
    members: frozenset[str] = frozenset()
    depth: int = 0
    parents: list[str] = field(default_factory=list)

    @property
    def groups(self) -> list[str]:
        """The child groups, each once."""
        return list(dict.fromkeys(child for part in self.parts for child in part.groups))

    @property
    def where(self) -> list[str]:
        """The positions of its tables."""
        return [part.document.where("groups", self.name) for part in self.parts]

    def add(self, other: GroupDraft) -> None:
        """Merge what a later file says of the same group."""
        self.parts += other.parts
        self.priority = self.priority if other.priority is None else other.priority
        self.settings = self.settings.overridden_by(other.settings)


def read_groups(documents: Sequence[Document], hosts: Collection[str]) -> list[GroupDraft]:
    """Return the groups in the order of the files, each with its members. Raises InventoryError."""
    drafts: dict[str, GroupDraft] = {}
    for document in documents:
        for name, value in document.table(document.data.get("groups", {}), "groups").items():
            draft = _draft(document, name, value, hosts)
            if name in drafts:
                drafts[name].add(draft)
            else:
                drafts[name] = draft
    for draft in drafts.values():
        for part in draft.parts:
            for child in part.groups:
                if child not in drafts:
                    hint = did_you_mean(child, drafts) or ("a host belongs in hosts = [...]" if child in hosts else "")
                    path = ("groups", draft.name, "groups")
                    raise part.document.error(f"there is no group {child}", *path, hint=hint)
        for child in draft.groups:
            drafts[child].parents.append(draft.name)
    _resolve_members(drafts, hosts)
    _resolve_depths(drafts)
    return list(drafts.values())


def by_precedence(drafts: Collection[GroupDraft]) -> list[GroupDraft]:
    """Return the groups so that settings of later ones win: by priority, then children after parents, then by name."""
    return sorted(drafts, key=lambda draft: (draft.priority or 0, draft.depth, draft.name))


def _draft(document: Document, name: str, value: object, hosts: Collection[str]) -> GroupDraft:
    path = ("groups", name)
    table = dict(document.table(value, *path))
    document.check_name(name, "group", *path)
    if name in hosts:
        raise document.error(f"{name} is the name of a host and of a group", *path)
    lists = {key: document.names(table.pop(key, []), *path, key) for key in ("hosts", "groups")}
    priority = table.pop("priority", None)
    if priority is not None and (not isinstance(priority, int) or isinstance(priority, bool)):
        raise document.error("priority must be a whole number", *path, "priority")
    settings = read_settings(document, table, path, f"group {name}", extra=_GROUP_KEYS)
    return GroupDraft(name, [Part(document, lists["hosts"], lists["groups"])], priority, settings)


def _resolve_members(drafts: dict[str, GroupDraft], hosts: Collection[str]) -> None:
    """Set the members of each group, those of its child groups too. Raises InventoryError for a cycle."""
    done: dict[str, frozenset[str]] = {}

    def visit(name: str, above: tuple[str, ...]) -> frozenset[str]:
        draft = drafts[name]
        if name in above:
            cycle = " -> ".join([*above[above.index(name) :], name])
            raise draft.parts[0].document.error(f"the groups have a cycle: {cycle}", "groups", name, "groups")
        if name in done:
            return done[name]
        members = {host for child in draft.groups for host in visit(child, (*above, name))}
        for part in draft.parts:
            if part.hosts:
                # A group's hosts may name other groups, as "@web"; those must come earlier or be its children.
                members |= select(part.hosts, hosts, done, part.document.where("groups", name, "hosts"))
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
