"""`sloth-runner bootstrap`: installs Python on hosts that have none."""

from __future__ import annotations

import asyncio

import click

from sloth.cli import credentials, parameters
from sloth.cli.output import write_json
from sloth.engine.python_setup import Outcome, Setup, set_up_python
from sloth.report.text import neutral

COLORS = {Setup.INSTALLED: "yellow", Setup.PLANNED: "yellow", Setup.FAILED: "red", Setup.UNREACHABLE: "red"}


@click.command()
@click.argument("hosts")
@parameters.INVENTORY
@click.option("--check", is_flag=True, help="Install nothing; report where Python is missing.")
@parameters.TABLE_OR_JSON
@parameters.PASSWORDS
@parameters.FORKS
def bootstrap(hosts: str, inventory: tuple[str, ...], check: bool, output: str, forks: int) -> int:
    """Install Python on hosts that have none, by plain commands over SSH.

    \b
    sloth-runner bootstrap 'new*' --check
    sloth-runner bootstrap @fresh

    HOSTS is a pattern (web*, @group, !name, comma lists). A host that has a Python which can be used (3.6 or newer,
    with sqlite3) is left alone. Otherwise apt, dnf, yum, zypper, apk or pacman installs it, as the account that the
    inventory names with `become`. Exit status: 0, 1 when a host failed, 4 when a host was unreachable.
    """
    selected = parameters.select(parameters.read_inventory(inventory), hosts, "HOSTS")
    show = _show if output != "json" else lambda outcome: None
    outcomes = asyncio.run(set_up_python(selected, credentials.passwords(), forks, check, show))
    if output == "json":
        write_json({one.host: {"status": one.status.value, "detail": one.detail} for one in outcomes})
    statuses = {one.status for one in outcomes}
    return 1 if Setup.FAILED in statuses else 4 if Setup.UNREACHABLE in statuses else 0


def _show(outcome: Outcome) -> None:
    status = click.style(f"{outcome.status:<11}", fg=COLORS.get(outcome.status, "green"))
    click.echo(f"{status} {outcome.host:<20} {neutral(outcome.detail)}".rstrip())
