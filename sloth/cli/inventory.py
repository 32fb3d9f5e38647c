"""`sloth-runner inventory`: shows what an inventory resolves to, and where each value comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sloth.cli import parameters
from sloth.cli.completed import Completed, completed
from sloth.cli.output import count, write_json, write_table
from sloth.errors import SlothError, UsageError
from sloth.inventory import ConnectionType, Host, Inventory
from sloth.inventory.templated import Encrypted, Templated, written
from sloth.report.text import neutral
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

_NO_SETTINGS = ("name", "vars", "groups", "origins", "sealed", "source")  # fields of Host that no key of the file sets
_HINT = "create ./inventory.toml, or use -i FILE or $SLOTH_INVENTORY"
_ATTRIBUTES = {"identity_file": "identity_files"}


@click.group()
def inventory() -> None:
    """Show the inventory, explain its values, and import others."""


@inventory.command("list")
@click.argument("pattern", default="all", shell_complete=completed(Completed.HOSTS))
@parameters.AGENT_INVENTORY
@click.option("--vars", "details", is_flag=True, help="Show each host's settings and variables, and their origins.")
@parameters.TABLE_OR_JSON
def list_hosts(pattern: str, inventory: tuple[str, ...], details: bool, output: str) -> None:
    """List hosts and groups, with everything resolved.

    PATTERN selects hosts: names, web*, web[01:20], @group, tag:edge, !name, comma lists. Variables with Jinja in them
    are shown as they are written; `inventory explain` evaluates them.
    """
    everything = parameters.require_inventory(inventory, _HINT)
    hosts = everything.select(pattern, "PATTERN")
    if output == "json":
        write_json(_document(everything, hosts))
    elif details:
        _show_details(hosts)
    else:
        _show_table(everything, hosts)


@inventory.command()
@click.argument("host")
@click.argument("name", metavar="VAR")
@parameters.AGENT_INVENTORY
@parameters.TEXT_OR_JSON
def explain(host: str, name: str, inventory: tuple[str, ...], output: str) -> None:
    """Show where a variable or a setting of a host comes from, and what it overrides.

    Each value is shown with its file and line, the one that is used first. VAR is the name of a variable, or of a
    setting such as address or user.
    """
    everything = parameters.require_inventory(inventory, _HINT)
    if host not in everything.hosts:
        raise UsageError(f"the inventory has no host {host}", hint=did_you_mean(host, everything.hosts))
    resolved = everything.hosts[host]
    found = everything.explain(host, name, _ATTRIBUTES.get(name, name))
    settings = _settings(resolved)
    if not found and name not in settings:
        known = [*resolved.vars, *settings]
        hint = did_you_mean(name, known) or "see sloth-runner inventory list --vars"
        if resolved.sealed:
            hint = f"{', '.join(resolved.sealed)} may have it, and is encrypted with ansible-vault"
        raise UsageError(f"{host} has no variable or setting {name}", hint=hint)
    value: Json = resolved.vars.get(name, settings.get(name))
    evaluated, problem = _evaluated(resolved, name, value)
    if output == "json":
        values = [{"value": written(value), "origin": origin} for value, origin in found]
        write_json({"host": host, "name": name, "value": evaluated, "error": problem, "values": values})
        return
    if not found:
        click.echo(f"{_shown(value)}  built in")
        return
    texts = [neutral(_shown(written(value))) for value, _ in found]
    width = min(60, max(map(len, texts)))
    for number, (text, (_, origin)) in enumerate(zip(texts, found, strict=True)):
        mark = "used      " if number == 0 else "overridden"
        line = f"{mark}  {text:<{width}}  {neutral(origin)}"
        click.secho(line, dim=number > 0)
    if problem:
        click.echo(f"evaluated   not known: {neutral(problem)}")
    elif isinstance(value, Templated):
        click.echo(f"evaluated   {neutral(_shown(evaluated))}")


@inventory.command()
@click.argument("group", required=False)
@parameters.AGENT_INVENTORY
def graph(group: str | None, inventory: tuple[str, ...]) -> None:
    """Show the groups and their hosts as a tree; with GROUP, that group alone."""
    everything = parameters.require_inventory(inventory, _HINT)
    groups = everything.groups
    name = group.removeprefix("@") if group else None
    if name is not None and name not in groups:
        raise UsageError(f"there is no group {name}", hint=did_you_mean(name, groups))
    children = {child for one in groups.values() for child in one.groups}
    tops = [name] if name is not None else [one for one in groups if one not in children]
    seen: set[str] = set()
    for top in tops:
        click.echo(f"@{top}")
        _show_tree(everything, top, "", seen)
    if name is None:
        grouped = {host for one in groups.values() for host in one.hosts}
        for host in everything.hosts:
            if host not in grouped:
                click.echo(host)


def _show_tree(everything: Inventory, name: str, indent: str, seen: set[str]) -> None:
    group = everything.groups[name]
    covered = {host for child in group.groups for host in everything.groups[child].hosts}
    rows = [(f"@{child}", child) for child in group.groups]
    rows += [(host, "") for host in group.hosts if host not in covered]
    for number, (text, child) in enumerate(rows):
        is_last = number == len(rows) - 1
        more = " (as above)" if child in seen and everything.groups[child].hosts else ""
        click.echo(f"{indent}{'└── ' if is_last else '├── '}{neutral(text)}{more}")
        if child and child not in seen:
            seen.add(child)
            _show_tree(everything, child, indent + ("    " if is_last else "│   "), seen)


@inventory.command("import")
@parameters.AGENT_INVENTORY
@click.option("-o", "--output", metavar="FILE", help="The file to write.  [default: stdout]")
@parameters.YES
def import_inventory(inventory: tuple[str, ...], output: str | None, yes: bool) -> None:
    """Write an inventory of any kind as one TOML file of ours.

    Hosts, groups, variables and connection settings are the same; what cannot be carried over is a comment. Variables
    with Jinja in them are evaluated for each host, where the inventory alone is enough for that.
    """
    from pathlib import Path

    from sloth.inventory.export import to_toml

    everything = parameters.require_inventory(inventory, _HINT)
    text = to_toml(everything, parameters.evaluate_variable)
    if output is None:
        click.echo(text, nl=False)
        return
    path = Path(output)
    if path.exists() and not yes:
        raise UsageError(f"{output} exists", hint="use --yes to replace it")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error
    left = text.count("# not carried over")
    more = f"; {count(left, 'comment')} on what is not carried over" if left else ""
    click.echo(f"wrote {count(len(everything.hosts), 'host')} to {output}{more}")


def _evaluated(host: Host, name: str, value: Json) -> tuple[Json, str]:
    """Return the value of a variable, and why it is not known."""
    if isinstance(value, Encrypted):
        return None, str(value.error(name))
    if not isinstance(value, Templated):
        return value, ""
    try:
        return parameters.evaluate_variable(host, name, value), ""
    except SlothError as error:
        return None, str(error)


def _shown(value: Json) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


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
                "vars": written(dict(host.vars)),
                "groups": list(host.groups),
                "origins": dict(host.origins),
            }
            for host in hosts
        },
        "groups": {
            name: {
                "hosts": list(group.hosts),
                "groups": list(group.groups),
                "vars": written(dict(group.vars)),
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
        values = {**_settings(host), **{f"vars.{name}": written(value) for name, value in host.vars.items()}}
        texts = {
            name: neutral(value if isinstance(value, str) else json.dumps(value, default=str))
            for name, value in values.items()
        }
        left = max(map(len, texts), default=0)
        middle = min(40, max(map(len, texts.values()), default=0))  # a longer value only moves its own origin
        for name, text in texts.items():
            origin = click.style(neutral(host.origins.get(name, "built in")), dim=True)
            click.echo(f"  {name:<{left}}  {text:<{middle}}  {origin}")
