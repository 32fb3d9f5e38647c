"""The groups of all sources: who is in them, and in which order their settings apply."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from functools import reduce
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.frozen import frozen, mutable
from sloth.inventory.document import Document
from sloth.inventory.patterns import select
from sloth.inventory.settings import Settings, read_settings
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.inventory.content import Content


@frozen
class GroupKey:
    """A key that only groups have, and its documentation."""

    name: str
    value: str
    default: str
    help: str


GROUP_KEYS = (
    GroupKey("hosts", "a pattern or a list of them", "", "The members: names, web*, web[01:20], @group, !name."),
    GroupKey("groups", "a name or a list of them", "", "The child groups, whose members are members of this one, too."),
    GroupKey(
        "priority", "a whole number", "0",
        "Settings of groups with a higher number win; then those of children over parents; then by name.",
    ),
)  # fmt: skip
EVERY, UNGROUPED = "all", "ungrouped"  # the groups that an inventory of Ansible always has


@frozen
class Part:
    """What one source says of a group.

    Attributes:
        where: the position of the group.
        hosts: patterns; hosts_where: their position.
        members: names of hosts.
        children: the child groups, each with its position.
    """

    where: str
    hosts: Sequence[str] = ()
    hosts_where: str = ""
    members: Collection[str] = ()
    children: Mapping[str, str] = field(default_factory=dict)


@mutable
class GroupDraft:
    """A group while the inventory is being read.

    Attributes:
        parts: of each source that defines it; `members` and `depth` are what they come to.
        layers: the settings of each source, in order.
        priority: that of our own files, which counts before the depth; ansible_priority counts after it.
        depth: the longest way to it from a group without parents.
        is_every: it is Ansible's `all`, which has every host.
    """

    name: str
    parts: list[Part]
    layers: list[Settings]
    priority: int | None = None
    ansible_priority: int | None = None
    members: frozenset[str] = frozenset()
    depth: int = 0
    parents: list[str] = field(default_factory=list)
    is_every: bool = False

    @property
    def groups(self) -> list[str]:
        """The child groups, each once."""
        return list(dict.fromkeys(child for part in self.parts for child in part.children))

    @property
    def where(self) -> list[str]:
        """The positions of its tables."""
        return [part.where for part in self.parts if part.where]

    @property
    def settings(self) -> Settings:
        """The settings of all sources, merged."""
        return reduce(Settings.overridden_by, self.layers, Settings())

    def add(self, other: GroupDraft) -> None:
        """Merge what a later source says of the same group."""
        self.parts += other.parts
        self.layers += other.layers
        self.priority = self.priority if other.priority is None else other.priority
        if other.ansible_priority is not None:
            self.ansible_priority = other.ansible_priority


def read_groups(parts: Sequence[Document | Content], hosts: Collection[str]) -> list[GroupDraft]:
    """Return the groups in the order of the sources, each with its members. Raises InventoryError."""
    drafts: dict[str, GroupDraft] = {}
    is_ansible = False
    for part in parts:
        if isinstance(part, Document):
            found = [_draft(part, name, value, hosts) for name, value in _tables(part).items()]
        else:
            is_ansible = True
            found = _of_ansible(part)
        for draft in found:
            if draft.name in drafts:
                drafts[draft.name].add(draft)
            else:
                drafts[draft.name] = draft
    for draft in drafts.values():
        for one in draft.parts:
            for child, where in one.children.items():
                if child not in drafts:
                    hint = did_you_mean(child, drafts) or ("a host belongs in hosts = [...]" if child in hosts else "")
                    raise InventoryError(f"there is no group {child}", where=where, hint=hint)
        for child in draft.groups:
            drafts[child].parents.append(draft.name)
    _resolve_members(drafts, hosts)
    _resolve_depths(drafts)
    if is_ansible:
        _add_implicit(drafts, hosts)
    return list(drafts.values())


def by_precedence(drafts: Collection[GroupDraft]) -> list[GroupDraft]:
    """Return the groups so that settings of later ones win: by priority, then children after parents, then by name.

    Of Ansible's groups those that are deeper count first, and `ansible_group_priority` only within one depth.
    """
    return sorted(drafts, key=_rank)


def _rank(draft: GroupDraft) -> tuple[int, int, int, str]:
    inner = 1 if draft.ansible_priority is None else draft.ansible_priority
    return (draft.priority or 0, draft.depth, inner, draft.name)


def _tables(document: Document) -> Mapping[str, object]:
    return document.table(document.data.get("groups", {}), "groups")


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
    settings = read_settings(document, table, path, f"group {name}", extra=[key.name for key in GROUP_KEYS])
    part = Part(
        document.where(*path),
        hosts=lists["hosts"],
        hosts_where=document.where(*path, "hosts"),
        children=dict.fromkeys(lists["groups"], document.where(*path, "groups")),
    )
    return GroupDraft(name, [part], [settings], priority)


def _of_ansible(content: Content) -> list[GroupDraft]:
    from sloth.inventory.variable_settings import settings_of

    found = []
    for name, group in content.groups.items():
        part = Part(
            content.where(group.line) if group.line or name not in (EVERY, UNGROUPED) else "",
            members=group.hosts,
            children={child: content.where(line) for child, line in group.children.items()},
        )
        settings = settings_of(group.variables, content.where, f"group {name}")
        found.append(GroupDraft(name, [part], [settings], ansible_priority=group.priority))
    return found


def _add_implicit(drafts: dict[str, GroupDraft], hosts: Collection[str]) -> None:
    """Add the groups `all`, which has every host, and `ungrouped`, which has those that no other group has."""
    every = drafts.setdefault(EVERY, GroupDraft(EVERY, [], []))
    rest = drafts.setdefault(UNGROUPED, GroupDraft(UNGROUPED, [], []))
    grouped = frozenset[str]().union(
        *(draft.members for draft in drafts.values() if draft.name not in (EVERY, UNGROUPED))
    )
    rest.members = frozenset(name for name in hosts if name not in grouped)
    top = [draft.name for draft in drafts.values() if not draft.parents and draft is not every]
    every.parts.append(Part("", children=dict.fromkeys(top, "")))
    every.members = frozenset(hosts)
    every.is_every = True
    every.depth = -1  # whatever another group sets takes precedence


def _resolve_members(drafts: dict[str, GroupDraft], hosts: Collection[str]) -> None:
    """Set the members of each group, those of its child groups too. Raises InventoryError for a cycle."""
    done: dict[str, frozenset[str]] = {}

    def visit(name: str, above: tuple[str, ...]) -> frozenset[str]:
        draft = drafts[name]
        if name in above:
            cycle = [*above[above.index(name) :], name]
            where = next(part.children[cycle[1]] for part in draft.parts if cycle[1] in part.children)
            raise InventoryError(f"the groups have a cycle: {' -> '.join(cycle)}", where=where)
        if name in done:
            return done[name]
        members = {host for child in draft.groups for host in visit(child, (*above, name))}
        for part in draft.parts:
            members.update(part.members)
            if part.hosts:
                # A group's hosts may name other groups, as "@web"; those must come earlier or be its children.
                members |= select(part.hosts, hosts, done, part.hosts_where, _no_tags(part))
        draft.members = done[name] = frozenset(members)
        return draft.members

    try:
        for name in drafts:
            visit(name, ())
    except RecursionError:
        raise InventoryError("groups are nested too deeply") from None


def _no_tags(part: Part) -> Callable[[], Mapping[str, frozenset[str]]]:
    def refuse() -> Mapping[str, frozenset[str]]:
        hint = "name its hosts; groups may give tags to their hosts: tags = [...]"
        raise InventoryError("a group cannot be made of tags", where=part.hosts_where, hint=hint)

    return refuse


def _resolve_depths(drafts: dict[str, GroupDraft]) -> None:
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            parents = [parent for parent in drafts[name].parents if parent != EVERY]
            depths[name] = 1 + max((depth(parent) for parent in parents), default=-1)
        return depths[name]

    for draft in drafts.values():
        draft.depth = depth(draft.name)
