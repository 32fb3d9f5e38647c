"""The names of the hosts of each group, as the runtimes of all hosts get them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

_NAME = 150  # bytes that a name takes in Lua besides its own, while it is read; rather too many


class GroupNames(Mapping[str, Sequence[str]]):
    """The names of the hosts of each group.

    With a thousand hosts there are a thousand runtimes: what any of them needs is made once for all.
    """

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        self._groups = groups
        self.sizes = {name: sum(len(host) * 3 + _NAME for host in hosts) for name, hosts in groups.items()}
        self._lines: dict[bytes, bytes] = {}

    def __getitem__(self, name: str) -> Sequence[str]:
        return self._groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def lines(self, name: bytes) -> bytes:
        """Return the names of a group's hosts, each on a line; nothing for a group that does not exist."""
        lines = self._lines.get(name)
        if lines is None:
            hosts = self._groups.get(name.decode("utf-8", "surrogateescape"), ())
            lines = self._lines[name] = "\n".join(hosts).encode("utf-8", "surrogateescape")
        return lines
