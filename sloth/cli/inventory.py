"""`sloth-runner inventory`: what the inventory file comes to, and where each value came from."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from sloth.errors import UsageError
from sloth.inventory import Host, Inventory, find_inventory

_HIDDEN = ("name", "vars", "groups", "origins")


@click.group()
def inventory() -> None:
    """Look at the inventory."""


@inventory.command("list")
@click.argument("pattern", default="all")
@click.option("-i", "--inventory", "path", metavar="FILE", help="The inventory (TOML).")
@click.option("--vars", "details", is_flag=True, help="Each host's settings and variables, and where each came from.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def list_hosts(pattern: str, path: str | None, details: bool, output: str) -> None:
    """List hosts and groups, as resolved.

    PATTERN selects hosts: names, web*, web[01:20], @group, !name, comma lists.
    """
    found = find_inventory(path)
    if found is None:
        raise UsageError(
            "there is no inventory", hint="write ./inventory.toml, or name one with -i or $SLOTH_INVENTORY"
        )
    everything = Inventory.read(found)
    hosts = everything.select(pattern, "PATTERN")
    if output == "json":
        click.echo(json.dumps(_document(everything, hosts), indent=2, ensure_ascii=True))
    elif details:
        _show_details(hosts)
    else:
        _show_table(everything, hosts)


def _settings(host: Host) -> dict[str, Any]:
    values = {field.name: getattr(host, field.name) for field in dataclasses.fields(host)}
    return {name: value for name, value in values.items() if name not in _HIDDEN and value not in (None, ())}


def _document(everything: Inventory, hosts: tuple[Host, ...]) -> dict[str, Any]:
    return {
        "inventory": str(everything.path),
        "hosts": {
            host.name: {
                "settings": _settings(host),
                "vars": host.vars,
                "groups": list(host.groups),
                "origins": dict(host.origins),
            }
            for host in hosts
        },
        "groups": {
            name: {"hosts": list(group.hosts), "groups": list(group.groups), "vars": group.vars}
            for name, group in everything.groups.items()
        },
    }


def _show_table(everything: Inventory, hosts: tuple[Host, ...]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("HOST", "ADDRESS", "USER", "BECOME", "GROUPS"):
        table.add_column(heading, overflow="fold")
    for host in hosts:
        address = host.address + (f":{host.port}" if host.port else "")
        where = "(this machine)" if host.connection == "local" else address
        table.add_row(host.name, escape(where), host.user or "", host.become or "", escape(", ".join(host.groups)))
    console.print(table)
    if everything.groups:
        groups = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("GROUP", "HOSTS", "OF GROUPS"):
            groups.add_column(heading)
        for name, group in everything.groups.items():
            groups.add_row("@" + name, str(len(group.hosts)), ", ".join("@" + child for child in group.groups))
        console.print()
        console.print(groups)


def _show_details(hosts: tuple[Host, ...]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for host in hosts:
        console.print(f"[bold]{host.name}[/bold]  {escape(' '.join('@' + name for name in host.groups))}")
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        values = {**_settings(host), **{f"vars.{name}": value for name, value in host.vars.items()}}
        for name, value in values.items():
            shown = value if isinstance(value, str) else json.dumps(value, default=str)
            table.add_row(name, escape(shown), f"[dim]{escape(host.origins.get(name, 'built in'))}[/dim]")
        console.print(table)
