"""`sloth-runner run`: a site over an inventory."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sloth.cli import backend_option, credentials, engine_option, parameters, sites
from sloth.cli.completed import Completed, completed
from sloth.cli.execute import execute
from sloth.cli.filled import FilledText
from sloth.cli.listing import Listing, list_run
from sloth.cli.output import count, warn
from sloth.cli.prompts import ask, ask_step, is_yes
from sloth.cli.recorded import command_line
from sloth.engine import custom
from sloth.engine.options import Options
from sloth.engine.prompts import Prompts, invented
from sloth.engine.prune import Orphans
from sloth.engine.validate import plans, preflight
from sloth.errors import UsageError
from sloth.frozen import frozen
from sloth.inventory import Host, extra_vars
from sloth.passwords import Passwords
from sloth.playbook import Site, check_syntax
from sloth.report.text import neutral
from sloth.state.storage import Storage

if TYPE_CHECKING:
    from sloth.cli.plan import Saving
    from sloth.engine.run import Run


@frozen
class SiteOptions:
    """The options that run and plan share. output: the format, or (of plan) a file."""

    site: tuple[str, ...]
    site_name: str | None
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
    traces: bool
    web: bool
    extra: tuple[str, ...]
    values: tuple[str, ...]
    forks: int
    lock_wait: float
    modules: str | None
    roles_path: tuple[str, ...]
    key_file: str | None
    passphrase: bool
    strategy: str
    eager: bool
    workers: int | None
    engine: str | None


def _tags_option(*names: str, help: str) -> parameters.Decorator:
    return click.option(*names, multiple=True, metavar="TAGS", shell_complete=completed(Completed.TAGS), help=help)


def site_options(is_required: bool = True, output: object | None = None) -> parameters.Decorator:
    """Return the options of commands about a site, which receive them as `given`.

    is_required: whether a site must be named; output: the type of -o, if it is not only the format of the output.
    """
    return parameters.collect(
        "given",
        SiteOptions,
        parameters.site_option(is_required),
        sites.SITE_NAME,
        parameters.INVENTORY,
        parameters.LIMIT,
        _tags_option("-t", "--tags", help="Run only tasks with one of these tags."),
        _tags_option("--skip-tags", help="Run no task with one of these tags."),
        parameters.reporting if output is None else parameters.reporting_or_saving(output),
        parameters.JUNIT,
        parameters.LOG,
        parameters.PROFILE,
        parameters.TRACES,
        parameters.WEB,
        parameters.EXTRA,
        parameters.VALUES,
        parameters.running,
        backend_option.BACKEND,
        backend_option.NO_LOCK,
        parameters.MODULES,
        sites.ROLES_PATH,
        parameters.KEY_FILE,
        parameters.PASSPHRASE,
        click.option(
            "--strategy",
            type=click.Choice(["free", "linear"]),
            default="free",
            help="How hosts go through the tasks; linear: all of them end a task before one begins the next.",
        ),
        click.option("--eager", is_flag=True, help="Wait for the result of every call before the next one, to debug."),
        engine_option.WORKERS,
        engine_option.ENGINE,
    )


@click.command()
@site_options()
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
@click.option("--confirm", is_flag=True, help="Show what would change, ask once, and then run.")
@click.option(
    "--resume",
    metavar="[RUN]",
    type=FilledText(),
    is_flag=False,
    flag_value="last",
    shell_complete=completed(Completed.RUNS),
    help="Go on where a run has stopped on each host. Default: the newest run of the site.",
)
def run(
    check: bool,
    exit_code: bool,
    prune: bool,
    yes: bool,
    confirm: bool,
    resume: str | None,
    start_at: str | None,
    step: bool,
    listing: str | None,
    given: SiteOptions,
) -> int:
    """Run a site's tasks on the hosts of an inventory.

    --prune removes what an earlier run of this site has created and the site no longer names: files, users, keys,
    lines, blocks, packages. Nothing is pruned on a host where a task failed or was not evaluated, nor with --tags.

    --resume leaves out the hosts that came to their end, and on the others the tasks that had ended. Handlers that are
    owed run. What has changed since (the site, values) is said.

    Exit status: 0 when all is done, 1 a task failed, 2 invalid usage (nothing was touched), 3 changes are pending
    (--check --exit-code), 4 a host was unreachable, 130 interrupted.
    """
    if exit_code and not check:
        raise click.UsageError("--exit-code needs --check")
    if yes and not prune:
        raise click.UsageError("--yes needs --prune")
    if prune and start_at is not None:
        raise click.UsageError("--prune needs the whole site: leave out --start-at")
    if resume is not None and start_at is not None:
        raise click.UsageError("--resume knows where to begin: leave out --start-at")
    if step and not sys.stdin.isatty():
        raise UsageError("--step asks before each task, but there is no terminal to ask on")
    if prune and resume is not None:
        raise click.UsageError("--prune needs the whole site: leave out --resume")
    if prune and (given.tags or given.skip_tags):
        raise click.UsageError("--prune needs the whole site: leave out --tags and --skip-tags")
    if prune and not check and not yes and not sys.stdin.isatty():
        raise UsageError("--prune asks for confirmation, but there is no terminal to ask on", hint="use --yes")
    if confirm and check:
        raise click.UsageError("--check changes nothing: leave out --confirm")
    if confirm and given.output in ("json", "ndjson"):
        raise click.UsageError("--confirm asks a question, which would spoil --output " + given.output)
    if confirm and not sys.stdin.isatty():
        raise UsageError("--confirm asks a question, but there is no terminal to ask on", hint="use plan and apply")
    if confirm and (status := _show_and_ask(given, resume, start_at)) is not None:
        return status
    return run_site(
        given,
        given.output,
        check=check,
        exit_code=exit_code,
        prune=prune and not check,
        yes=yes,
        resume=resume,
        start_at=start_at,
        step=step,
        listing=Listing(listing) if listing else None,
    )


def _show_and_ask(given: SiteOptions, resume: str | None, start_at: str | None) -> int | None:
    """Show what a run would change, and ask whether to go on; return None for yes, else the exit status."""
    pending: list[bool] = []

    def note(run: Run, status: int) -> None:
        pending.append(run.has_changed or run.has_unknown)

    status = run_site(
        given, "plain", check=True, exit_code=False, prune=False, yes=True, resume=resume, start_at=start_at, ended=note
    )
    if status in (1, 2, 130):
        click.echo("nothing was changed", err=True)
        return status
    if not any(pending):
        click.echo("nothing would change", err=True)
        return status
    click.echo("Do this? [y/N]: ", nl=False, err=True)
    if is_yes():
        return None
    click.echo("nothing was changed", err=True)
    return 130


def run_site(
    given: SiteOptions,
    output: str | None,
    *,
    check: bool,
    exit_code: bool,
    prune: bool,
    yes: bool,
    resume: str | None = None,
    start_at: str | None = None,
    step: bool = False,
    listing: Listing | None = None,
    saving: Saving | None = None,
    ended: Callable[[Run, int], None] | None = None,
) -> int:
    """Run the site, or check it; return the exit status.

    output: the kind of report; resume: the run that is resumed; start_at: the first task; step: ask before each one;
    listing: list what would run instead; saving: saves the check as a plan; ended: called with the exit status.
    """
    program = sites.read_site(given.site, given.roles_path, given.site_name)
    check_syntax(program)
    everything = parameters.read_inventory(given.inventory)
    storage = backend_option.storage(everything)
    engine, engine_from, workers = engine_option.engine_and_workers(given.engine, given.workers, everything.engine)
    extra = extra_vars(given.extra, [Path(name) for name in given.values])
    for text in everything.override(extra):
        warn(f"warning: {text}")
    hosts = parameters.limited(everything, given.limit)
    texts = {name.strip(): value for name, _, value in (text.partition("=") for text in given.extra)}
    prompts = Prompts(extra, texts, invented if listing else ask)
    options = Options(
        check=check,
        eager=given.eager,
        linear=given.strategy == "linear",
        forks=given.forks,
        tags=parameters.words(given.tags, "--tags"),
        skip_tags=parameters.words(given.skip_tags),
        start_at={host.name: start_at for host in hosts} if start_at is not None else {},
        lock_wait=given.lock_wait,
        extra=extra,
        custom=custom.load(*sites.site_modules(given.modules, program)),
        prune=prune,
        keys=credentials.keys(given.key_file, given.passphrase),
        passwords=Passwords() if listing else credentials.passwords(),
        prompts=prompts,
        workers=workers if len(hosts) > 1 or engine else 0,
        engine=engine,
        engine_from=engine_from,
        near=engine_option.near(everything.engine, hosts, extra) if engine else {},
        only_near=bool(engine and everything.engine and everything.engine.only_near),
        command=command_line(given, check, prune, start_at, resume, saving.called if saving is not None else ""),
        limit=",".join(given.limit),
    )
    tasks = preflight(program, everything, hosts, options)
    if prompts.answers:  # they are variables of all hosts, as those of -e are
        options = dataclasses.replace(options, extra={**extra, **prompts.answers})
    if resume is not None:
        options, hosts = _resumed(resume, program, options, hosts, storage)
        if not hosts:
            return 0
        tasks = preflight(program, everything, hosts, options)
    if listing is not None:
        return list_run(listing, plans(program, everything, hosts, options), hosts, output == "json")
    is_asking = prune and not yes
    return execute(
        program,
        everything,
        hosts,
        options,
        storage,
        tasks=tasks,
        # A live view would write over the question.
        output=output or ("plain" if is_asking or step else None),
        diff=given.diff,
        verbose=given.verbose,
        exit_code=exit_code,
        junit=given.junit,
        log=given.log,
        profile=given.profile,
        traces=given.traces,
        web=given.web,
        confirm=_confirm if is_asking else None,
        step=ask_step if step else None,
        recorder=saving.recorder if saving is not None else None,
        ended=saving.save if saving is not None else ended,
    )


def _resumed(
    name: str, site: Site, options: Options, hosts: Sequence[Host], storage: Storage
) -> tuple[Options, tuple[Host, ...]]:
    """Return the options and the hosts of a run that goes on where another has stopped; report what has changed."""
    from sloth.cli.syncing import fetch_runs
    from sloth.engine import resume

    fetch_runs(storage, "" if name == "last" else name)
    memory = storage.memory()
    try:
        stopped = resume.find_run(memory, name, site)
        found, names = resume.read(memory, stopped, site, options)
    finally:
        memory.close()
    for text in found.changes:
        warn(f"warning: {text}")
    known = {host.name for host in hosts}
    left = tuple(host for host in hosts if host.name in names and host.name not in found.finished)
    missing = [host for host in names if host not in known and host not in found.finished]
    if missing:
        warn(f"warning: {', '.join(missing)} of run {stopped.run} are left out: the inventory or --limit excludes them")
    by = f", which {stopped.who} began elsewhere" if stopped.source is not None else ""
    said = f"resuming run {stopped.run}{by}: {count(len(left), 'host')} of {len(names)} left"
    click.echo(said if left else f"run {stopped.run} has come to its end on all hosts: nothing is left", err=True)
    return dataclasses.replace(options, resume=found), left


def _confirm(found: Orphans) -> bool:
    """Show what would be removed, and ask whether to go on."""
    for host, orphans in found.items():
        for orphan in orphans:
            click.echo(neutral(f"remove     {orphan.key}  {host}"), err=True)
    total = count(sum(len(orphans) for orphans in found.values()), "state")
    click.echo(f"Remove {total} that the site no longer names? [y/N]: ", nl=False, err=True)
    return is_yes()
