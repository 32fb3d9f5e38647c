"""What hosts can be grouped by: groups, variables of the inventory, and facts that runs have gathered."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from sloth.frozen import mutable
from sloth.inventory import Inventory
from sloth.inventory.templated import Encrypted, written
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

GROUP = "group"
LONGEST = 120  # characters of a value
MOST = 2000  # names
DEEPEST = 3  # of tables in facts
HIDDEN = ("(encrypted)", "(hidden: its name is that of a secret)")
_SECRET = re.compile(r"pass|secret|token|credential|private|api_?key|(^|_)key$", re.I)


@mutable
class Traits:
    """The traits of hosts: name -> host -> value."""

    values: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return (GROUP, *sorted(self.values)[:MOST])

    def of(self, name: str) -> Mapping[str, str]:
        """Return the value of each host that has one."""
        return self.values.get(name, {})

    def add(self, name: str, host: str, value: str) -> None:
        self.values.setdefault(name, {})[host] = value


_lock = threading.Lock()
_cached: tuple[object, Traits] | None = None


def traits(source: Source) -> Traits:
    """Return the traits of all hosts. They are kept until the inventory or a fact changes."""
    global _cached
    inventory = source.inventory
    newest = source.database.row("SELECT count(*), max(at) FROM facts")
    stamp = (source.directory, id(inventory), tuple(newest) if newest else ())
    with _lock:
        if _cached is None or _cached[0] != stamp:
            found = Traits()
            if inventory is not None:
                _read_variables(inventory, found)
            _read_facts(source, found)
            _cached = (stamp, found)
        return _cached[1]


def _read_variables(inventory: Inventory, found: Traits) -> None:
    for name, host in inventory.hosts.items():
        for variable, value in host.vars.items():
            text = shown_variable(variable, value)
            if text not in HIDDEN and not isinstance(value, dict):
                found.add(f"var:{variable}", name, text[:LONGEST])


def shown_variable(name: str, value: Json) -> str:
    """Return a variable as text. One that is encrypted, or whose name is that of a secret, is hidden."""
    if isinstance(value, Encrypted):
        return HIDDEN[0]
    if _SECRET.search(name):
        return HIDDEN[1]
    if isinstance(value, str):
        return value
    plain = written(value)
    return plain if isinstance(plain, str) else json.dumps(_without_secrets(plain), default=str, ensure_ascii=False)


def _without_secrets(value: Json) -> Json:
    """Return plain data in which what tables have under the name of a secret is hidden."""
    if isinstance(value, dict):
        return {key: HIDDEN[1] if _SECRET.search(str(key)) else _without_secrets(item) for key, item in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


def _read_facts(source: Source, found: Traits) -> None:
    for row in source.database.rows("SELECT host, facts FROM facts"):
        try:
            facts = json.loads(row["facts"])
        except (ValueError, RecursionError):
            continue
        for name, text in flat(facts):
            found.add(f"fact:{name}", row["host"], text[:LONGEST])


def flat(value: Json, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield what is in facts by its path: ("os.name", "debian")."""
    if isinstance(value, dict) and depth < DEEPEST:
        for key, item in value.items():
            yield from flat(item, f"{name}.{key}" if name else str(key), depth + 1)
    elif value is not None and name:
        yield name, value if isinstance(value, str) else json.dumps(value, sort_keys=True)
