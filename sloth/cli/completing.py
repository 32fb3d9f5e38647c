"""What the shell may complete: hosts, groups, tasks, tags, modules, state keys, runs. Nothing here connects to a host.

Where something cannot be read, nothing is offered: an error would be written over the line that is being typed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from sloth.cli import parameters, sites
from sloth.cli.completed import Completed
from sloth.errors import SlothError
from sloth.inventory import Inventory, find_inventory

if TYPE_CHECKING:
    from sloth.playbook import Task

Given = Mapping[str, Any]  # the options and arguments before the one to complete, as click has read them
_PAST = ("@failed", "@changed", "@unreachable")


def complete(kind: Completed, given: Given, incomplete: str) -> list[str]:
    """Return what `incomplete` may become."""
    head, item = _split(incomplete) if kind in _LISTS else ("", incomplete)
    with contextlib.suppress(SlothError, OSError, click.ClickException):
        names = _NAMES[kind](given)
        return [head + name for name in dict.fromkeys(names) if name.startswith(item)]
    return []


def _split(text: str) -> tuple[str, str]:
    """Split a comma list into what is complete, and its last item without what negates it."""
    head, comma, item = text.rpartition(",")
    sign = "!" if item.startswith("!") else ""
    return head + comma + sign, item.removeprefix("!")


def _hosts(given: Given) -> Iterator[str]:
    inventory = _inventory(given)
    yield from inventory.hosts
    yield from ("@" + name for name in inventory.groups)
    yield from ("all", *_PAST)


def _inventory(given: Given) -> Inventory:
    found = find_inventory(given.get("inventory") or ())
    return Inventory.read(*found, evaluate=parameters.evaluate_setting) if found else Inventory.local()


def _tasks(given: Given) -> list[Task]:
    """Return the tasks of the site that --file names, as its first host loads it."""
    from sloth.engine.options import Options
    from sloth.engine.validate import plans

    inventory = _inventory(given)
    site = sites.read_site(given.get("site") or (), given.get("roles_path") or ())
    first = list(inventory.hosts.values())[:1]
    return [task for tasks in plans(site, inventory, first, Options()).values() for task in tasks]


def _task_names(given: Given) -> Iterator[str]:
    return (task.name for task in _tasks(given))


def _tags(given: Given) -> Iterator[str]:
    return (tag for task in _tasks(given) for tag in task.tags)


def _modules(given: Given) -> Iterator[str]:
    from pathlib import Path

    from sloth.engine import custom
    from sloth.engine.modules import all_calls

    custom.load(*parameters.modules_directories(given.get("modules"), Path.cwd()))
    return (cls.name for cls in all_calls())


def _topics(given: Given) -> Iterator[str]:
    from sloth.playbook.reference import global_names

    yield from ("inventory", "lua", "role", "task", *global_names())
    yield from _modules(given)


def _words(given: Given) -> Iterator[str]:
    """Yield the arguments of the module that `call` names, which are not given yet."""
    from sloth.engine.modules import find_call

    _modules(given)
    used = {word.partition("=")[0] for word in given.get("words") or ()}
    fields = find_call(given.get("module") or given.get("call") or "").fields
    return (f"{field.name}=" for field in fields if field.name not in used)


def _runs(given: Given) -> Iterator[str]:
    from sloth.state.storage import Storage

    memory = Storage().memory()
    try:
        yield from (run.run for run in memory.runs.newest(50))
        yield "last"
    finally:
        memory.close()


def _keys(given: Given) -> Iterator[str]:
    """Yield the keys in the controller's copies of the states of the hosts that --agent names."""
    from sloth.cli.state_source import Source
    from sloth.state import queries
    from sloth.state.local import LOCAL

    pattern = given.get("agent") or LOCAL
    source = Source(pattern, pattern != LOCAL, given.get("inventory") or (), True)
    for rows in source.query(queries.list_records()).values():
        yield from (row.key for row in rows)


_NAMES: Mapping[Completed, Callable[[Given], Iterable[str]]] = {
    Completed.HOSTS: _hosts,
    Completed.TASKS: _task_names,
    Completed.TAGS: _tags,
    Completed.MODULES: _modules,
    Completed.TOPICS: _topics,
    Completed.WORDS: _words,
    Completed.RUNS: _runs,
    Completed.KEYS: _keys,
}
_LISTS: Sequence[Completed] = (Completed.HOSTS, Completed.TAGS)
