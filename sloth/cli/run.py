"""`sloth-runner run` and `sloth-runner plan`: a site over an inventory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from sloth.cli import parameters
from sloth.cli.completed import Completed, completed
from sloth.cli.execute import execute
from sloth.cli.listing import Listing, list_run
from sloth.cli.output import count, read_line
from sloth.engine import custom
from sloth.engine.options import Options
from sloth.engine.prune import Orphans
from sloth.engine.stepping import Step
from sloth.engine.validate import plans, preflight
from sloth.errors import UsageError
from sloth.frozen import frozen
from sloth.inventory import extra_vars
from sloth.passwords import Passwords
from sloth.playbook import Site, check_syntax
from sloth.report.text import neutral


@frozen
class SiteOptions:
    """The options that run and plan share."""

    site: tuple[str, ...]
    inventory: tuple[str, ...]
    limit: tuple[str, ...]
    tags: tuple[str, ...]
    skip_tags: tuple[str, ...]
    diff: bool
    output: str | None
    verbose: int
    junit: str | None
    log: str | None
    profile: str | None
    extra: tuple[str, ...]
    values: tuple[str, ...]
    forks: int
    lock_wait: float
    modules: str | None
    key_file: str | None
    passphrase: bool
    eager: bool


_site_options = parameters.collect(
    "given",
    SiteOptions,
    parameters.SITE,
    parameters.INVENTORY,
    parameters.LIMIT,
    click.option(
        "-t",
        "--tags",
        multiple=True,
        metavar="TAGS",
        shell_complete=completed(Completed.TAGS),
        help="Run only tasks with one of these tags.",
    ),
    click.option(
        "--skip-tags",
        multiple=True,
        metavar="TAGS",
        shell_complete=completed(Completed.TAGS),
        help="Run no task with one of these tags.",
    ),
    parameters.reporting,
    parameters.JUNIT,
    parameters.LOG,
    parameters.PROFILE,
    parameters.EXTRA,
    parameters.VALUES,
    parameters.running,
    parameters.MODULES,
    parameters.KEY_FILE,
    parameters.PASSPHRASE,
    click.option("--eager", is_flag=True, help="Wait for the result of every call before the next one, to debug."),
)


@click.command()
@_site_options
@parameters.checking
@click.option("--prune", is_flag=True, help="Remove what the site has created and no longer names; asks first.")
@click.option("--yes", is_flag=True, help="With --prune: do not ask for confirmation.")
@click.option(
    "--start-at",
    metavar="TASK",
    shell_complete=completed(Completed.TASKS),
    help="Begin with this task, and leave out those before it.",
)
@click.option("--step", is_flag=True, help="Ask before each task whether to run it.")
@click.option("--list-tasks", "listing", flag_value="tasks", help="List the tasks and their hosts, and run nothing.")
@click.option("--list-hosts", "listing", flag_value="hosts", help="List the hosts, and run nothing.")
@click.option("--list-tags", "listing", flag_value="tags", help="List the tags of the tasks, and run nothing.")
def run(
    check: bool,
    exit_code: bool,
    prune: bool,
    yes: bool,
    start_at: str | None,
    step: bool,
    listing: str | None,
    given: SiteOptions,
) -> int:
    """Run a site's tasks on the hosts of an inventory.

    --prune removes what an earlier run of this site has created and the site no longer names: files, users, keys,
    lines, blocks, packages. Nothing is pruned on a host where a task failed or was not evaluated, nor with --tags.

    Exit status: 0 when all is done, 1 a task failed, 2 invalid usage (nothing was touched), 3 changes are pending
    (--check --exit-code), 4 a host was unreachable, 130 interrupted.
    """
    if exit_code and not check:
        raise click.UsageError("--exit-code needs --check")
    if yes and not prune:
        raise click.UsageError("--yes needs --prune")
    if prune and (given.tags or given.skip_tags):
        raise click.UsageError("--prune needs the whole site: leave out --tags and --skip-tags")
    if prune and not check and not yes and not sys.stdin.isatty():
        raise UsageError("--prune asks for confirmation, but there is no terminal to ask on", hint="use --yes")
    if prune and start_at:
        raise click.UsageError("--prune needs the whole site: leave out --start-at")
    if step and not sys.stdin.isatty():
        raise UsageError("--step asks before each task, but there is no terminal to ask on")
    return _run(
        given,
        check=check,
        exit_code=exit_code,
        prune=prune and not check,
        yes=yes,
        start_at=start_at,
        step=step,
        listing=Listing(listing) if listing else None,
    )


@click.command()
@_site_options
@click.option("--exit-code", is_flag=True, help="Exit with status 3 when changes are pending.")
def plan(exit_code: bool, given: SiteOptions) -> int:
    """Show what a run of a site would change, and what the site no longer names. Nothing is changed.

    This is `run --check`. Exit status: 0; 1 a task would fail; 2 invalid usage; 3 changes are pending (--exit-code);
    4 a host was unreachable.
    """
    return _run(given, check=True, exit_code=exit_code, prune=False, yes=True)


def _run(
    given: SiteOptions,
    *,
    check: bool,
    exit_code: bool,
    prune: bool,
    yes: bool,
    start_at: str | None = None,
    step: bool = False,
    listing: Listing | None = None,
) -> int:
    program = Site.read(*given.site)
    check_syntax(program)
    everything = parameters.read_inventory(given.inventory)
    hosts = parameters.select(everything, parameters.words(given.limit) or "all", "--limit")
    options = Options(
        check=check,
        eager=given.eager,
        forks=given.forks,
        tags=parameters.words(given.tags),
        skip_tags=parameters.words(given.skip_tags),
        start_at={host.name: start_at for host in hosts} if start_at is not None else {},
        lock_wait=given.lock_wait,
        extra=extra_vars(given.extra, [Path(name) for name in given.values]),
        custom=custom.load(*parameters.modules_directories(given.modules, *program.directories)),
        prune=prune,
        keys=parameters.keys(given.key_file, given.passphrase),
        passwords=Passwords() if listing else parameters.passwords(),
    )
    if listing is not None:
        preflight(program, everything, hosts, options)
        return list_run(listing, plans(program, everything, hosts, options), hosts, given.output == "json")
    is_asking = prune and not yes
    return execute(
        program,
        everything,
        hosts,
        options,
        tasks=preflight(program, everything, hosts, options),
        # A live view would write over the question.
        output=given.output or ("plain" if is_asking or step else None),
        diff=given.diff,
        verbose=given.verbose,
        exit_code=exit_code,
        junit=given.junit,
        log=given.log,
        profile=given.profile,
        confirm=_confirm if is_asking else None,
        step=_ask_step if step else None,
    )


async def _ask_step(task: str) -> Step:
    """Ask whether to run a task; the answers are those of Ansible's --step, and no answer is no."""
    click.echo(neutral(f"Run task {task}? [N]o/(y)es/(c)ontinue: "), nl=False, err=True)
    answer = (await read_line(sys.stdin.fileno())).strip().lower()
    if answer in ("c", "continue"):
        return Step.RUN_ALL
    return Step.RUN if answer in ("y", "yes") else Step.SKIP


def _confirm(found: Orphans) -> bool:
    """Show what would be removed, and ask whether to go on."""
    for host, orphans in found.items():
        for orphan in orphans:
            click.echo(neutral(f"remove     {orphan.key}  {host}"), err=True)
    total = count(sum(len(orphans) for orphans in found.values()), "state")
    click.echo(f"Remove {total} that the site no longer names? [y/N]: ", nl=False, err=True)
    # Read from the descriptor: a thread that waits in sys.stdin would crash an interrupted process at its end.
    answer = os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace").strip().lower()
    return answer in ("y", "yes")
