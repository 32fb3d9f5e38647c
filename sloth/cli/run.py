"""`sloth-runner run`: from the command line's options to one Run and one reporter."""

from __future__ import annotations

import asyncio
import getpass
import signal
import sys
from pathlib import Path
from typing import Any

import click

from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.engine.validate import preflight
from sloth.errors import UsageError
from sloth.inventory import Inventory, extra_vars, find_inventory
from sloth.playbook import Site, check_syntax
from sloth.report import make


def _words(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())


@click.command()
@click.option("-f", "--file", "site", required=True, metavar="SITE", help="The site: a .sloth file.")
@click.option(
    "-i",
    "--inventory",
    metavar="FILE",
    help="The inventory (TOML). Without one, the site runs on this machine, as agent `local`.",
)
@click.option(
    "-l", "--limit", multiple=True, metavar="PATTERN", help="Only these hosts: web*, @group, !name, comma lists."
)
@click.option("-t", "--tags", multiple=True, metavar="TAGS", help="Only tasks with one of these tags.")
@click.option("--skip-tags", multiple=True, metavar="TAGS", help="No task with one of these tags.")
@click.option("-C", "--check", is_flag=True, help="Say what would change, and change nothing.")
@click.option("-D", "--diff", is_flag=True, help="Show what changes in files and attributes.")
@click.option("--forks", type=click.IntRange(1), default=50, show_default=True, help="Hosts worked on at once.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["rich", "plain", "json", "ndjson"]),
    help="Default: rich on a terminal, else plain.",
)
@click.option("-v", "--verbose", count=True, help="Show unchanged calls and skipped tasks too; -vv: times and places.")
@click.option("-e", "--extra", multiple=True, metavar="KEY=VALUE", help="Set a variable (above all others).")
@click.option("--values", multiple=True, metavar="FILE", help="Set variables from a TOML or JSON file.")
@click.option("--eager", is_flag=True, help="Wait for every call's answer before the next one (for debugging).")
@click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for the password of sudo, once for all hosts.")
@click.option(
    "--lock-wait",
    type=click.FloatRange(0),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a host on which another run is at work.",
)
@click.option("--exit-code", is_flag=True, help="With --check: exit with 3 when changes are pending.")
def run(
    site: str,
    inventory: str | None,
    limit: tuple[str, ...],
    tags: tuple[str, ...],
    skip_tags: tuple[str, ...],
    check: bool,
    diff: bool,
    forks: int,
    output: str | None,
    verbose: int,
    extra: tuple[str, ...],
    values: tuple[str, ...],
    eager: bool,
    ask_become_pass: bool,
    lock_wait: float,
    exit_code: bool,
) -> int:
    """Run a site's tasks over the hosts of an inventory.

    Exit status: 0 done, 1 a task failed, 2 wrong usage (nothing was touched), 3 changes are pending (--check
    --exit-code), 4 a host was unreachable, 130 interrupted.
    """
    if exit_code and not check:
        raise click.UsageError("--exit-code goes with --check")
    program = Site.read(site)
    check_syntax(program)
    found = find_inventory(inventory)
    hosts_file = Inventory.read(found) if found else Inventory.local()
    hosts = hosts_file.select(_words(limit) or "all", "--limit")
    if not hosts:
        raise UsageError("no host is selected", hint="see sloth-runner inventory list")
    options = Options(
        check=check,
        eager=eager,
        forks=forks,
        tags=_words(tags),
        skip_tags=_words(skip_tags),
        lock_wait=lock_wait,
        extra=extra_vars(extra, [Path(name) for name in values]),
        become_password=_password() if ask_become_pass else None,
    )
    preflight(program, hosts_file, hosts[0], options.extra)
    kind = output or ("rich" if sys.stdout.isatty() else "plain")
    return asyncio.run(_run(program, hosts_file, hosts, options, kind, diff, verbose, exit_code))


def _password() -> str:
    return getpass.getpass("become password: ")


async def _run(
    site: Site, inventory: Inventory, hosts: Any, options: Options, kind: str, diff: bool, verbose: int, exit_code: bool
) -> int:
    reporter: Any = None
    job = Run(site, inventory, hosts, options, lambda event: reporter.emit(event))
    reporter = make(kind, diff=diff, verbosity=verbose, stdout=sys.stdout, stderr=sys.stderr, secrets=job.mask)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, job.interrupt)
    try:
        status = await job.run()
    finally:
        reporter.close()
    return 3 if status == 0 and exit_code and job.changed else status
