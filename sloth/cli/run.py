"""`sloth-runner run` and `sloth-runner plan`: a site over an inventory."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from sloth.cli import parameters
from sloth.cli.execute import launch
from sloth.engine import custom
from sloth.engine.options import Options
from sloth.engine.prune import Orphans
from sloth.engine.validate import preflight
from sloth.errors import UsageError
from sloth.inventory import extra_vars
from sloth.playbook import Site, check_syntax
from sloth.report.text import neutral


def _of_a_site(command: parameters.Command) -> parameters.Command:
    """The options of both."""
    for option in (
        click.option("--eager", is_flag=True, help="Wait for every call's answer before the next one (for debugging)."),
        parameters.PASSPHRASE,
        parameters.KEY_FILE,
        parameters.MODULES,
        parameters.running,
        parameters.VALUES,
        parameters.EXTRA,
        parameters.JUNIT,
        parameters.reporting,
        click.option("--skip-tags", multiple=True, metavar="TAGS", help="No task with one of these tags."),
        click.option("-t", "--tags", multiple=True, metavar="TAGS", help="Only tasks with one of these tags."),
        parameters.LIMIT,
        parameters.INVENTORY,
        click.option("-f", "--file", "site", required=True, metavar="SITE", help="The site: a .sloth file."),
    ):
        command = option(command)
    return command


@click.command()
@_of_a_site
@parameters.checking
@click.option("--prune", is_flag=True, help="Remove what the site once made and no longer names; asks first.")
@click.option("--yes", is_flag=True, help="With --prune: do not ask.")
def run(check: bool, exit_code: bool, prune: bool, yes: bool, **given: Any) -> int:
    """Run a site's tasks over the hosts of an inventory.

    --prune removes what an earlier run of this site created and the site no longer names: files, users, keys, lines,
    blocks, packages. Nothing is pruned on a host where a task failed or was not evaluated, nor with --tags.

    Exit status: 0 done, 1 a task failed, 2 wrong usage (nothing was touched), 3 changes are pending (--check
    --exit-code), 4 a host was unreachable, 130 interrupted.
    """
    if exit_code and not check:
        raise click.UsageError("--exit-code goes with --check")
    if yes and not prune:
        raise click.UsageError("--yes goes with --prune")
    if prune and (given["tags"] or given["skip_tags"]):
        raise click.UsageError("--prune needs the whole site: leave out --tags and --skip-tags")
    if prune and not check and not yes and not sys.stdin.isatty():
        raise UsageError("--prune asks first, and there is no terminal to ask on", hint="give --yes")
    return _go(check=check, exit_code=exit_code, prune=prune and not check, yes=yes, **given)


@click.command()
@_of_a_site
@click.option("--exit-code", is_flag=True, help="Exit with 3 when changes are pending.")
def plan(exit_code: bool, **given: Any) -> int:
    """Show what a run of a site would change, and what the site no longer names; nothing is changed.

    The same as `run --check`. Exit status: 0, 1 a task would fail, 2 wrong usage, 3 changes are pending (--exit-code),
    4 a host was unreachable.
    """
    return _go(check=True, exit_code=exit_code, prune=False, yes=True, **given)


def _go(
    site: str,
    inventory: str | None,
    limit: tuple[str, ...],
    tags: tuple[str, ...],
    skip_tags: tuple[str, ...],
    check: bool,
    exit_code: bool,
    prune: bool,
    yes: bool,
    diff: bool,
    output: str | None,
    junit: str | None,
    verbose: int,
    extra: tuple[str, ...],
    values: tuple[str, ...],
    forks: int,
    modules: str | None,
    ask_become_pass: bool,
    lock_wait: float,
    key_file: str | None,
    passphrase: bool,
    eager: bool,
) -> int:
    program = Site.read(site)
    check_syntax(program)
    everything = parameters.read_inventory(inventory)
    hosts = parameters.select(everything, parameters.words(limit) or "all", "--limit")
    options = Options(
        check=check,
        eager=eager,
        forks=forks,
        tags=parameters.words(tags),
        skip_tags=parameters.words(skip_tags),
        lock_wait=lock_wait,
        extra=extra_vars(extra, [Path(name) for name in values]),
        custom=custom.load(parameters.modules_directory(modules, program.directory)),
        prune=prune,
        keys=parameters.keys(key_file, passphrase),
        become_password=parameters.ask_password() if ask_become_pass else None,
    )
    preflight(program, everything, hosts[0], options.extra)
    asks = prune and not yes
    if asks and output is None:
        output = "plain"  # a live view would write over the question
    return launch(
        program, everything, hosts, options, output=output, diff=diff, verbose=verbose, exit_code=exit_code,
        junit=junit, confirm=_confirm if asks else None,
    )  # fmt: skip


def _confirm(found: Orphans) -> bool:
    """Show what would be removed, and ask."""
    for host, rows in found.items():
        for row in rows:
            click.echo(neutral(f"remove     {row.key}  {host}"), err=True)
    count = sum(len(rows) for rows in found.values())
    question = f"Remove {'these ' + str(count) if count > 1 else 'this'}, which the site no longer names?"
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    # Read from the descriptor: a thread that waits in sys.stdin would crash an interrupted process at its end.
    answer = os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace").strip().lower()
    return answer in ("y", "yes")
