"""`sloth-runner inventory`: shows what an inventory resolves to, and where each value comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sloth.cli import parameters
from sloth.cli.completed import Completed, completed
from sloth.cli.output import write_json, write_table
from sloth.inventory import ConnectionType, Host, Inventory
from sloth.report.text import neutral

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

_NO_SETTINGS = ("name", "vars", "groups", "origins")  # fields of Host that no key of the file sets


@click.group()
def inventory() -> None:
    """Show the inventory."""


@inventory.command("list")
@click.argument("pattern", default="all", shell_complete=completed(Completed.HOSTS))
@parameters.AGENT_INVENTORY
@click.option("--vars", "details", is_flag=True, help="Show each host's settings and variables, and their origins.")
@parameters.TABLE_OR_JSON
def list_hosts(pattern: str, inventory: tuple[str, ...], details: bool, output: str) -> None:
    """List hosts and groups, with everything resolved.

    PATTERN selects hosts: names, web*, web[01:20], @group, !name, comma lists.
    """
    hint = "create ./inventory.toml, or use -i FILE or $SLOTH_INVENTORY"
    everything = parameters.require_inventory(inventory, hint)
    hosts = everything.select(pattern, "PATTERN")
    if output == "json":
        write_json(_document(everything, hosts))
    elif details:
        _show_details(hosts)
    else:
        _show_table(everything, hosts)


def _settings(host: Host) -> JsonObject:
    values = {field.name: getattr(host, field.name) for field in dataclasses.fields(host)}
    return {name: value for name, value in values.items() if name not in _NO_SETTINGS and value not in (None, ())}


def _document(everything: Inventory, hosts: Sequence[Host]) -> JsonObject:
    return {
        "inventory": ", ".join(map(str, everything.paths)),
        "inventories": [str(path) for path in everything.paths],
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
            name: {
                "hosts": list(group.hosts),
                "groups": list(group.groups),
                "vars": group.vars,
                "origins": dict(group.origins),
            }
            for name, group in everything.groups.items()
        },
    }


def _show_table(everything: Inventory, hosts: Sequence[Host]) -> None:
    rows = []
    for host in hosts:
        address = host.address + (f":{host.port}" if host.port else "")
        match host.connection:
            case ConnectionType.LOCAL:
                address = "(this machine)"
            case ConnectionType.SSH:
                pass
            case engine:
                address = f"{engine}:{host.address}"
        origin = host.origins["name"]
        rows.append((host.name, address, host.user or "", host.become or "", ", ".join(host.groups), origin))
    write_table(("HOST", "ADDRESS", "USER", "BECOME", "GROUPS", "DEFINED"), rows)
    if everything.groups:
        click.echo()
        write_table(
            ("GROUP", "HOSTS", "CHILD GROUPS", "DEFINED"),
            [
                ("@" + name, len(group.hosts), ", ".join("@" + child for child in group.groups), group.origins["name"])
                for name, group in everything.groups.items()
            ],
        )


def _show_details(hosts: Sequence[Host]) -> None:
    for host in hosts:
        groups = " ".join("@" + name for name in host.groups)
        origin = click.style(neutral(host.origins["name"]), dim=True)
        click.echo("  ".join(filter(None, (click.style(host.name, bold=True), groups, origin))))
        values = {**_settings(host), **{f"vars.{name}": value for name, value in host.vars.items()}}
        texts = {
            name: neutral(value if isinstance(value, str) else json.dumps(value, default=str))
            for name, value in values.items()
        }
        left = max(map(len, texts), default=0)
        middle = min(40, max(map(len, texts.values()), default=0))  # a longer value only moves its own origin
        for name, text in texts.items():
            origin = click.style(neutral(host.origins.get(name, "built in")), dim=True)
            click.echo(f"  {name:<{left}}  {text:<{middle}}  {origin}")
