"""`sloth-runner call` and `sloth-runner exec`: one call on some hosts, without a site."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from sloth.cli import parameters
from sloth.cli.execute import launch
from sloth.engine import custom
from sloth.engine.modules import find_call
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.playbook import Site, arguments, one_call
from sloth.report.grouped import Grouped, GroupedDocument


def made(
    module: str, words: Sequence[str], modules: str | None, become: bool | str
) -> tuple[Site, Mapping[str, bytes]]:
    """The site that makes one call, from the words of the command line, and the custom modules. Raises UsageError."""
    files = custom.load(parameters.modules_directory(modules, Path.cwd()))
    return one_call(module, arguments(find_call(module), words), become or None), files


@click.command()
@click.argument("hosts")
@click.argument("module")
@click.argument("words", nargs=-1, metavar="[NAME=VALUE]...")
@parameters.INVENTORY
@parameters.checking
@parameters.reporting
@parameters.BECOME
@parameters.BECOME_USER
@parameters.MODULES
@parameters.running
def call(
    hosts: str,
    module: str,
    words: tuple[str, ...],
    inventory: str | None,
    check: bool,
    exit_code: bool,
    diff: bool,
    output: str | None,
    verbose: int,
    become: bool,
    become_user: str | None,
    forks: int,
    modules: str | None,
    ask_become_pass: bool,
    lock_wait: float,
) -> int:
    """Make one call on some hosts, and remember it like a site's.

    \b
    sloth-runner call 'web*' file.lineinfile path=/etc/motd line=hi --check --diff
    sloth-runner call local user.create deploy groups=sudo,docker
    sloth-runner call @db pkg.install '["postgresql", "pgbackrest"]' --become

    HOSTS is a pattern (web*, @group, !name, comma lists; local is this machine), MODULE a name that `sloth-runner doc`
    lists. A list is written with commas or as JSON, a table as JSON. Exit status as of `run`.
    """
    if exit_code and not check:
        raise click.UsageError("--exit-code goes with --check")
    site, files = made(module, words, modules, become_user or become)
    everything = parameters.read_inventory(inventory)
    selected = parameters.select(everything, hosts, "HOSTS")
    options = Options(
        check=check,
        forks=forks,
        lock_wait=lock_wait,
        custom=files,
        become_password=parameters.ask_password() if ask_become_pass else None,
    )
    return launch(
        site, everything, selected, options, output=output, diff=diff, verbose=verbose or 1, exit_code=exit_code
    )


@click.command(name="exec")
@click.argument("hosts")
@click.argument("command", nargs=-1, required=True)
@parameters.INVENTORY
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="End the command then.")
@parameters.BECOME
@parameters.BECOME_USER
@parameters.running
def execute(
    hosts: str,
    command: tuple[str, ...],
    inventory: str | None,
    output: str,
    timeout: float | None,
    become: bool,
    become_user: str | None,
    forks: int,
    ask_become_pass: bool,
    lock_wait: float,
) -> int:
    """Run a command on some hosts; hosts that answer the same are shown together.

    \b
    sloth-runner exec 'web*' -- uptime
    sloth-runner exec @db -- 'du -sh /var/lib/* | sort -h | tail -3'

    One word is given to a shell, several are a program and its arguments. HOSTS is a pattern (web*, @group, !name,
    comma lists; local is this machine). Exit status as of `run`: 1 when the command failed on some host.
    """
    args: dict[str, object] = {"cmd": command[0] if len(command) == 1 else list(command)}
    if timeout:
        args["timeout"] = timeout
    site = one_call("exec.run", args, become_user or become or None)
    everything = parameters.read_inventory(inventory)
    selected = parameters.select(everything, hosts, "HOSTS")
    options = Options(
        forks=forks,
        lock_wait=lock_wait,
        become_password=parameters.ask_password() if ask_become_pass else None,
    )
    kind = GroupedDocument if output == "json" else Grouped

    def grouped(job: Run) -> Grouped:
        return kind(sys.stdout, sys.stderr)

    return launch(site, everything, selected, options, reporter=grouped)
