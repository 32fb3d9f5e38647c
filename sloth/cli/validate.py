"""`sloth-runner validate`: a site's mistakes, one a line, before any host is touched."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sloth.cli import parameters
from sloth.engine import custom
from sloth.engine.validate import validate as find_problems
from sloth.inventory import extra_vars
from sloth.playbook import Site


@click.command()
@click.option("-f", "--file", "site", required=True, metavar="SITE", help="The site: a .sloth file.")
@parameters.INVENTORY
@parameters.EXTRA
@parameters.VALUES
@parameters.MODULES
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def validate(
    site: str,
    inventory: str | None,
    extra: tuple[str, ...],
    values: tuple[str, ...],
    modules: str | None,
    output: str,
) -> int:
    """Find mistakes in a site and its inventory without touching a host.

    Finds syntax errors, unknown modules, unknown or mistyped arguments, unknown hosts, groups and tasks. Exit status 0:
    none found, 2: some.
    """
    hosts = parameters.read_inventory(inventory)
    program = Site.read(site)
    custom.load(parameters.modules_directory(modules, program.directory))
    problems = find_problems(program, hosts, extra_vars(extra, [Path(name) for name in values]))
    if output == "json":
        click.echo(json.dumps([vars(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            click.echo(f"{problem.where}: {problem.message}" + (f"; hint: {problem.hint}" if problem.hint else ""))
        if not problems:
            click.echo(f"{site}: no mistakes found ({len(hosts.hosts)} host{'s' * (len(hosts.hosts) != 1)})")
    return 2 if problems else 0
