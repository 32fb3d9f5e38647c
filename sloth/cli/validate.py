"""`sloth-runner validate`: lists the mistakes of a site, without connecting to a host."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from sloth.cli import parameters, sites
from sloth.cli.output import count, write_json
from sloth.engine import custom
from sloth.engine.validate import validate as find_problems
from sloth.inventory import extra_vars


@click.command()
@parameters.SITE
@parameters.INVENTORY
@parameters.EXTRA
@parameters.VALUES
@parameters.MODULES
@sites.ROLES_PATH
@parameters.TEXT_OR_JSON
def validate(
    site: tuple[str, ...],
    inventory: tuple[str, ...],
    extra: tuple[str, ...],
    values: tuple[str, ...],
    modules: str | None,
    roles_path: tuple[str, ...],
    output: str,
) -> int:
    """Find mistakes in a site and its inventory, without connecting to a host.

    It finds syntax errors, unknown modules, unknown or invalid arguments, missing files and templates, and unknown
    facts, hosts, groups and tasks. What depends on a host is not judged. Exit status: 0 when there are none, else 2.
    """
    hosts = parameters.read_inventory(inventory)
    program = sites.read_site(site, roles_path)
    custom.load(*sites.site_modules(modules, program))
    problems = find_problems(program, hosts, extra_vars(extra, [Path(name) for name in values]), sources=True)
    if output == "json":
        write_json([asdict(problem) for problem in problems])
    else:
        for problem in problems:
            click.echo(f"{problem.where}: {problem.message}" + (f"; hint: {problem.hint}" if problem.hint else ""))
        if not problems:
            click.echo(f"{program.title}: no mistakes found ({count(len(hosts.hosts), 'host')})")
    return 2 if problems else 0
