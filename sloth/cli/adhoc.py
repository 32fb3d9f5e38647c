"""`sloth-runner call` and `sloth-runner exec`: one call on some hosts, without a site."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from sloth.cli import backend_option, credentials, parameters
from sloth.cli.completed import Completed, completed
from sloth.cli.execute import execute
from sloth.cli.facts import CALL as FACTS
from sloth.engine import custom
from sloth.engine.modules import find_call
from sloth.engine.options import Options
from sloth.errors import UsageError
from sloth.playbook import Site, arguments, one_call
from sloth.report.grouped import Grouped, GroupedDocument


def make_site(
    call: str, words: Sequence[str], modules: str | None, become: bool | str
) -> tuple[Site, Mapping[str, bytes]]:
    """Return a site that makes one call, given as the words of a command line, and the sources of custom modules.

    Raises UsageError.
    """
    files = custom.load(*parameters.modules_directories(modules, Path.cwd()))
    cls = find_call(call)
    if call == FACTS:  # in Lua, `facts` is a value and no module
        raise UsageError(f"{FACTS} cannot be called like this", hint="use sloth-runner facts")
    return one_call(call, arguments(cls, words), become or None), files


@click.command()
@click.argument("hosts", shell_complete=completed(Completed.HOSTS))
@click.argument("module", shell_complete=completed(Completed.MODULES))
@click.argument("words", nargs=-1, metavar="[NAME=VALUE]...", shell_complete=completed(Completed.WORDS))
@parameters.INVENTORY
@parameters.checking
@parameters.reporting
@parameters.BECOME
@parameters.BECOME_USER
@parameters.MODULES
@parameters.running
@backend_option.BACKEND
def call(
    hosts: str,
    module: str,
    words: tuple[str, ...],
    inventory: tuple[str, ...],
    check: bool,
    exit_code: bool,
    diff: bool,
    output: str | None,
    verbose: int,
    become: bool,
    become_user: str | None,
    forks: int,
    modules: str | None,
    lock_wait: float,
) -> int:
    """Make one call on some hosts, and record it like one of a site.

    \b
    sloth-runner call 'web*' file.lineinfile path=/etc/motd line=hi --check --diff
    sloth-runner call local user.create deploy groups=sudo,docker
    sloth-runner call @db pkg.install '["postgresql", "pgbackrest"]' --become

    HOSTS is a pattern (web*, @group, !name, comma lists; local is this machine), MODULE a name that `sloth-runner doc`
    lists. A list is written with commas or as JSON, a table as JSON. The exit status is that of `run`.
    """
    if exit_code and not check:
        raise click.UsageError("--exit-code needs --check")
    site, files = make_site(module, words, modules, become_user or become)
    everything = parameters.read_inventory(inventory)
    selected = parameters.select(everything, hosts, "HOSTS")
    options = Options(
        check=check,
        forks=forks,
        lock_wait=lock_wait,
        custom=files,
        passwords=credentials.passwords(),
        command=("call", hosts, module),
        limit=hosts,
    )
    return execute(
        site, everything, selected, options, backend_option.storage(everything), tasks=(module,), output=output,
        diff=diff, verbose=verbose or 1, exit_code=exit_code,
    )  # fmt: skip


@click.command(name="exec")
@click.argument("hosts", shell_complete=completed(Completed.HOSTS))
@click.argument("command", nargs=-1, required=True)
@parameters.INVENTORY
@parameters.TEXT_OR_JSON
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="End the command after this time."
)
@parameters.BECOME
@parameters.BECOME_USER
@parameters.running
@backend_option.BACKEND
def exec_(
    hosts: str,
    command: tuple[str, ...],
    inventory: tuple[str, ...],
    output: str,
    timeout: float | None,
    become: bool,
    become_user: str | None,
    forks: int,
    lock_wait: float,
) -> int:
    """Run a command on some hosts; hosts with the same output are shown together.

    \b
    sloth-runner exec 'web*' -- uptime
    sloth-runner exec @db -- 'du -sh /var/lib/* | sort -h | tail -3'

    A single word is run by a shell; several are a program and its arguments. HOSTS is a pattern (web*, @group, !name,
    comma lists; local is this machine). The exit status is that of `run`: 1 when the command failed on some host.
    """
    args: dict[str, object] = {"cmd": command[0] if len(command) == 1 else list(command)}
    if timeout:
        args["timeout"] = timeout
    site = one_call("exec.run", args, become_user or become or None)
    everything = parameters.read_inventory(inventory)
    selected = parameters.select(everything, hosts, "HOSTS")
    options = Options(
        forks=forks, lock_wait=lock_wait, passwords=credentials.passwords(), command=("exec", hosts), limit=hosts
    )
    reporter = GroupedDocument if output == "json" else Grouped
    return execute(
        site, everything, selected, options, backend_option.storage(everything), tasks=("exec.run",),
        reporter=reporter(sys.stdout, sys.stderr),
    )  # fmt: skip
