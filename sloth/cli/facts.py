"""`sloth-runner facts`: what hosts say of themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import click

from sloth.cli import parameters
from sloth.engine.query import look
from sloth.errors import SlothError, Unreachable
from sloth.inventory import Host
from sloth.report.text import neutral


@click.command()
@click.argument("names", nargs=-1, metavar="[FACT]...")
@parameters.INVENTORY
@parameters.LIMIT
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@parameters.ASK_PASSWORD
@parameters.FORKS
def facts(
    names: tuple[str, ...],
    inventory: str | None,
    limit: tuple[str, ...],
    output: str,
    ask_become_pass: bool,
    forks: int,
) -> int:
    """Show what hosts say of themselves; in a site it is the global `facts`.

    FACT narrows it: sloth-runner facts distribution version --limit 'web*'. Exit status: 4 when a host was unreachable,
    1 when one failed otherwise.
    """
    everything = parameters.read_inventory(inventory)
    hosts = parameters.select(everything, parameters.words(limit) or "all", "--limit")
    password = parameters.ask_password() if ask_become_pass else None
    answers = asyncio.run(_gather(hosts, password, forks))
    told = {name: answer for name, answer in answers.items() if isinstance(answer, dict)}
    for name, answer in answers.items():
        if isinstance(answer, SlothError):
            click.secho(f"{name}: {neutral(str(answer))}", fg="red", err=True)
    known = sorted({fact for answer in told.values() for fact in answer})
    unknown = [name for name in names if told and name not in known]
    if unknown:
        from sloth.suggest import did_you_mean

        hint = did_you_mean(unknown[0], known) or "facts are " + ", ".join(known)
        raise click.UsageError(f"there is no fact {unknown[0]}; {hint}")
    shown = {host: {fact: answer[fact] for fact in names or sorted(answer)} for host, answer in told.items()}
    if output == "json":
        click.echo(json.dumps(shown, indent=2, ensure_ascii=True))
    else:
        _show(shown)
    failures = [answer for answer in answers.values() if isinstance(answer, SlothError)]
    if any(not isinstance(failure, Unreachable) for failure in failures):
        return 1
    return 4 if failures else 0


async def _gather(hosts: Sequence[Host], password: str | None, forks: int) -> dict[str, dict[str, Any] | SlothError]:
    places = asyncio.Semaphore(forks)

    async def one(host: Host) -> dict[str, Any] | SlothError:
        async with places:
            try:
                return await look(host, "facts.gather", {}, become_password=password)
            except SlothError as error:
                return error

    answers = await asyncio.gather(*(one(host) for host in hosts))
    return {host.name: answer for host, answer in zip(hosts, answers, strict=True)}


def _show(shown: dict[str, dict[str, Any]]) -> None:
    for host, values in shown.items():
        click.secho(host, bold=True)
        for name, value in values.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                click.echo(f"  {name}")
                for item in value:
                    words = (f"{key}={_text(part)}" for key, part in item.items() if part not in ("", []))
                    click.echo("    " + " ".join(words))
            else:
                click.echo(f"  {name:<15} {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    return neutral(value) if isinstance(value, str) else json.dumps(value)
