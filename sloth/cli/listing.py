"""`run --list-tasks`, `--list-hosts` and `--list-tags`: what a run would do where, without connecting to a host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import click

from sloth.cli.output import write_json, write_table
from sloth.inventory import Host
from sloth.playbook import Task
from sloth.report.text import hosts as fold_hosts
from sloth.report.text import neutral


class Listing(StrEnum):
    """What is listed instead of a run."""

    TASKS = "tasks"
    HOSTS = "hosts"
    TAGS = "tags"


def list_run(what: Listing, plans: Mapping[str, Sequence[Task]], hosts: Sequence[Host], json: bool) -> int:
    """Write what a run would do. plans: the tasks of each host, in the order in which they would run."""
    match what:
        case Listing.HOSTS:
            return _write_names([host.name for host in hosts], json)
        case Listing.TAGS:
            tags = sorted({tag for plan in plans.values() for task in plan for tag in task.tags})
            return _write_names(tags, json)
    tasks: dict[tuple[str, str], tuple[Task, list[str]]] = {}
    for host, plan in plans.items():
        for task in plan:
            tasks.setdefault((task.name, task.where), (task, []))[1].append(host)
    if json:
        write_json(
            [
                {"name": task.name, "tags": list(task.tags), "hosts": names, "where": task.where}
                for task, names in tasks.values()
            ]
        )
    elif not tasks:
        click.echo("no task would run")
    else:
        rows = [(task.name, fold_hosts(names), ", ".join(task.tags), task.where) for task, names in tasks.values()]
        write_table(("TASK", "HOSTS", "TAGS", "DECLARED"), rows)
    return 0


def _write_names(names: Sequence[str], json: bool) -> int:
    if json:
        write_json(list(names))
    else:
        for name in names:
            click.echo(neutral(name))
    return 0
