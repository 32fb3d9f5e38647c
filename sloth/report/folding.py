"""Brings together hosts whose texts differ in nothing but the host's name, so that one line stands for all of them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import field
from typing import Generic, TypeVar

from sloth.frozen import mutable

K = TypeVar("K", bound=Hashable)
# A host's name in a text is one word: not a part of "HOSTNAME", "/srv/web1" or "web1.db".
_WORD = r"[\w/]+(?:[.-]+[\w/]+)*"  # compiled when it is used: most runs fold nothing
COMPARED = 50  # groups that a text is compared with; when there are more, folding does not make them readable


@mutable
class _Group(Generic[K]):
    """Hosts with one text; `words` and `gaps` are those of the first of them, and `names` where its name stands."""

    key: K
    words: Sequence[str]
    gaps: Sequence[str]
    text: str
    hosts: list[str]
    names: frozenset[int] = frozenset()


@mutable
class Folding(Generic[K]):
    """Texts of hosts, folded.

    Two texts are alike when they have the same key, and differ only in words which, in each of them, are the name of
    its host. So "a: no such file a" of a host called "a" never loses its last word to another host's name.
    """

    _groups: dict[tuple[K, int], list[_Group[K]]] = field(default_factory=dict)
    _order: list[_Group[K]] = field(default_factory=list)

    def add(self, key: K, host: str, text: str) -> bool:
        """Add the text of a host; only texts with equal keys are folded. Return whether it is unlike those before."""
        words, gaps = re.findall(_WORD, text), re.split(_WORD, text)
        bucket = self._groups.setdefault((key, len(words)), [])
        for group in bucket[:COMPARED]:
            names = _differences(group, host, words) if group.gaps == gaps else None
            if names is not None:
                group.names |= names
                group.hosts.append(host)
                return False
        group = _Group(key, words, gaps, text, [host])
        bucket.append(group)
        self._order.append(group)
        return True

    def groups(self) -> Iterator[tuple[K, str, list[str]]]:
        """Yield (key, text, hosts) in the order in which they came; in the text of several, "the host" is each."""
        for group in self._order:
            yield group.key, _text(group), group.hosts


def _differences(group: _Group[K], host: str, words: Sequence[str]) -> frozenset[int] | None:
    """Return where the words differ from the group's, when all of these are names of the hosts; else None."""
    found = set()
    for at, (ours, theirs) in enumerate(zip(words, group.words, strict=True)):
        if at in group.names:
            if ours != host:
                return None
        elif ours != theirs:
            if ours != host or theirs != group.hosts[0]:
                return None
            found.add(at)
    if found and len(group.hosts) > 1:
        return None  # those that are alike so far have a fixed word there
    return frozenset(found)


def _text(group: _Group[K]) -> str:
    if len(group.hosts) == 1:
        return group.text
    words = ["the host" if at in group.names else word for at, word in enumerate(group.words)]
    return "".join(gap + word for gap, word in zip(group.gaps, [*words, ""], strict=True))
