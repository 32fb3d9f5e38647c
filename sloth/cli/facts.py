"""`sloth-runner facts`: shows facts of hosts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from sloth.cli import credentials, parameters
from sloth.cli.output import exit_status, warn, write_error, write_json
from sloth.engine.query import Agent, Query
from sloth.errors import SlothError, StateError
from sloth.report.text import neutral
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

CALL = "facts.gather"


@click.command()
@click.argument("names", nargs=-1, metavar="[FACT]...")
@parameters.INVENTORY
@parameters.LIMIT
@parameters.TABLE_OR_JSON
@parameters.PASSWORDS
@parameters.FORKS
def facts(
    names: tuple[str, ...],
    inventory: tuple[str, ...],
    limit: tuple[str, ...],
    output: str,
    forks: int,
) -> int:
    """Show facts of hosts. A site finds them in the global `facts`.

    FACT selects some of them: sloth-runner facts distribution version --limit 'web*'. Exit status: 0, 1 when a host
    failed, 4 when a host was unreachable.
    """
    hosts = parameters.limited(parameters.read_inventory(inventory), limit)
    query = Query(passwords=credentials.passwords(), forks=forks)
    answers = asyncio.run(query.calls([Agent(host) for host in hosts], CALL))
    errors = {host: answer for host, answer in answers.items() if isinstance(answer, SlothError)}
    found = {host: answer for host, answer in answers.items() if not isinstance(answer, SlothError)}
    _keep(query, found)
    for host, error in errors.items():
        write_error(host, error)
    known = sorted({fact for answer in found.values() for fact in answer})
    unknown = [name for name in names if found and name not in known]
    if unknown:
        raise click.UsageError(f"unknown fact {unknown[0]}; {did_you_mean_or_list(unknown[0], known, 'facts')}")
    selected = {host: {fact: answer[fact] for fact in names or sorted(answer)} for host, answer in found.items()}
    if output == "json":
        write_json(selected)
    else:
        _show(selected)
    return exit_status(errors.values())


def _keep(query: Query, found: Mapping[str, JsonObject]) -> None:
    """Keep facts for the web UI. That this cannot be done is a warning."""
    try:
        memory = query.storage.memory()
        try:
            memory.keep_facts(found)
        finally:
            memory.close()
    except StateError as error:
        warn(f"the controller cannot keep these facts: {error}")


def _show(hosts: Mapping[str, JsonObject]) -> None:
    for host, values in hosts.items():
        click.secho(host, bold=True)
        for name, value in values.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                click.echo(f"  {name}")
                for item in value:
                    words = (f"{key}={_text(part)}" for key, part in item.items() if part not in ("", []))
                    click.echo("    " + " ".join(words))
            else:
                click.echo(f"  {name:<15} {_text(value)}")


def _text(value: Json) -> str:
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    return neutral(value) if isinstance(value, str) else json.dumps(value)
