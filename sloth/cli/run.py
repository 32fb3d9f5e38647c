"""`sloth-runner run`: a site over an inventory."""

from __future__ import annotations

from pathlib import Path

import click

from sloth.cli import options as shared
from sloth.cli.launch import launch
from sloth.engine import custom
from sloth.engine.options import Options
from sloth.engine.validate import preflight
from sloth.inventory import extra_vars
from sloth.playbook import Site, check_syntax


@click.command()
@click.option("-f", "--file", "site", required=True, metavar="SITE", help="The site: a .sloth file.")
@shared.INVENTORY
@shared.LIMIT
@click.option("-t", "--tags", multiple=True, metavar="TAGS", help="Only tasks with one of these tags.")
@click.option("--skip-tags", multiple=True, metavar="TAGS", help="No task with one of these tags.")
@shared.checking
@shared.reporting
@shared.EXTRA
@shared.VALUES
@shared.running
@click.option("--eager", is_flag=True, help="Wait for every call's answer before the next one (for debugging).")
def run(
    site: str,
    inventory: str | None,
    limit: tuple[str, ...],
    tags: tuple[str, ...],
    skip_tags: tuple[str, ...],
    check: bool,
    exit_code: bool,
    diff: bool,
    output: str | None,
    verbose: int,
    extra: tuple[str, ...],
    values: tuple[str, ...],
    forks: int,
    modules: str | None,
    ask_become_pass: bool,
    lock_wait: float,
    eager: bool,
) -> int:
    """Run a site's tasks over the hosts of an inventory.

    Exit status: 0 done, 1 a task failed, 2 wrong usage (nothing was touched), 3 changes are pending (--check
    --exit-code), 4 a host was unreachable, 130 interrupted.
    """
    if exit_code and not check:
        raise click.UsageError("--exit-code goes with --check")
    program = Site.read(site)
    check_syntax(program)
    everything = shared.read_inventory(inventory)
    hosts = shared.select(everything, shared.words(limit) or "all", "--limit")
    options = Options(
        check=check,
        eager=eager,
        forks=forks,
        tags=shared.words(tags),
        skip_tags=shared.words(skip_tags),
        lock_wait=lock_wait,
        extra=extra_vars(extra, [Path(name) for name in values]),
        custom=custom.load(shared.modules_directory(modules, program.directory)),
        become_password=shared.ask_password() if ask_become_pass else None,
    )
    preflight(program, everything, hosts[0], options.extra)
    return launch(program, everything, hosts, options, output=output, diff=diff, verbose=verbose, exit_code=exit_code)
