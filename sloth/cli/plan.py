"""`sloth-runner plan`, `plan show` and `apply`: what a run would do, kept in a file, shown and done."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sloth.cli import backend_option, credentials, parameters, shared_plans
from sloth.cli.engine_option import NO_ENGINE
from sloth.cli.output import confirm, warn, write_json
from sloth.cli.run import SiteOptions, run_site, site_options
from sloth.engine.events import FAILED
from sloth.errors import UsageError
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.engine.plans.file import SavedPlan
    from sloth.engine.plans.recorder import Recorder
    from sloth.engine.run import Run
    from sloth.state.keys import Keys

FORMATS = ("rich", "plain", "json", "ndjson")
SAVED = click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))


class _FormatOrFile(click.ParamType):  # type: ignore[type-arg]  # older versions of click have no type argument
    """The format of the output, or the file of the plan: -o json, -o deploy.plan."""

    name = "format|file"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in FORMATS and not re.search(r"[./]|^@", value):
            hint = did_you_mean(value, FORMATS) or "a file has a name such as deploy.plan"
            self.fail(f"{value!r} is neither a format ({', '.join(FORMATS)}) nor a file; {hint}", param, ctx)
        return value


@click.group(invoke_without_command=True)
@site_options(is_required=False, output=_FormatOrFile())
@click.option("--exit-code", is_flag=True, help="Exit with status 3 when changes are pending.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="Save the plan, as -o FILE does.")
@click.option("--encrypt", is_flag=True, help="Encrypt the saved plan with your key, or a passphrase.")
@click.pass_context
def plan(ctx: click.Context, exit_code: bool, out: str | None, encrypt: bool, given: SiteOptions) -> int:
    """Show what a run of a site would change, and what the site no longer names. Nothing is changed.

    This is `run --check`. With -o FILE (a name with a dot or a slash) it is saved: the exact calls, the files that go
    with them, and what was found on each host. Secrets are in it as references, never as values. `plan show FILE` shows
    it, `apply FILE` does it. Where a task would fail, nothing is saved. With -o @NAME it is saved in the backend, and
    @NAME takes the place of FILE everywhere.

    Exit status: 0; 1 a task would fail; 2 invalid usage; 3 changes are pending (--exit-code); 4 a host was unreachable.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    if not given.site:
        raise click.MissingParameter(ctx=ctx, param_type="option", param_hint="'-f' / '--file'")
    kind, path = given.output, out
    if kind is not None and kind not in FORMATS:
        if out is not None and out != kind:
            raise click.UsageError(f"two files for the plan: {kind} and {out}")
        kind, path = None, kind
    if encrypt and path is None:
        raise click.UsageError("--encrypt needs -o FILE")
    saving = None
    if path is not None:
        if given.workers or given.engine not in (None, NO_ENGINE):
            option = "workers" if given.workers else "engine"
            warn(f"warning: one process records a plan: --{option} has no effect with -o")
        given = dataclasses.replace(given, workers=0, engine=NO_ENGINE)
        keys = credentials.keys(given.key_file, given.passphrase, again=True) if encrypt else None
        name = shared_plans.name_of(path)
        if name is not None:
            return _save_in_backend(given, kind, exit_code, name, keys)
        saving = Saving(Path(path), keys)
        saving.check_place()
    return run_site(given, kind, check=True, exit_code=exit_code, prune=False, yes=True, saving=saving)


def _save_in_backend(given: SiteOptions, kind: str | None, exit_code: bool, name: str, keys: Keys | None) -> int:
    storage = shared_plans.storage_of(given.inventory)
    with tempfile.TemporaryDirectory(prefix="sloth-plan-") as directory:
        saving = Saving(Path(directory) / f"@{name}", keys, f"@{name}")
        status = run_site(given, kind, check=True, exit_code=exit_code, prune=False, yes=True, saving=saving)
        if saving.said:
            shared_plans.upload(name, saving.path, storage)
            click.echo(saving.said, err=True)
    return status


class Saving:
    """Saves the plan of a check that has ended.

    Attributes:
        path: the file.
        called: what people call it.
        said: what is said of it when it was written under a name, instead of being printed.
    """

    def __init__(self, path: Path, keys: Keys | None, name: str = "") -> None:
        """keys: encrypt it; name: what people call it, if not by its path."""
        from sloth.engine.plans.recorder import Recorder

        self.recorder: Recorder = Recorder()
        self.path = path
        self.said = ""
        self.called = name or str(path)
        self._is_named = bool(name)
        self._keys = keys

    def check_place(self) -> None:
        """Raise UsageError if the file cannot be written: before the check rather than after it."""
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise UsageError(f"cannot write {self.path}: {self.path.parent} is not a directory, or it is one itself")

    def save(self, run: Run, status: int) -> None:
        """Write the plan. Raises StateError, CallError."""
        from sloth.engine.plans.file import write_plan
        from sloth.engine.plans.make import make_plan

        if status not in (0, 4) or any(self.recorder.status(host.name) is FAILED for host in run.hosts):
            click.echo(f"{self.called} was not written: the check did not succeed", err=True)
            return
        plan = make_plan(self.recorder, run.hosts, run.site, run.options, run.secrets)
        if not plan.hosts:
            click.echo(f"{self.called} was not written: no host was reached", err=True)
            return
        write_plan(self.path, plan, self.recorder.contents, self._keys)
        is_unknown = any(host.unknowns() for host in plan.hosts.values())
        how = ", encrypted" if self._keys is not None else ""
        words = f"{self.called}{' --allow-unknown' if is_unknown else ''}"
        said = f"wrote {self.called}{how}; apply it with: sloth-runner apply {words}"
        if self._is_named:
            self.said = said  # it is not where it belongs yet
        else:
            click.echo(said, err=True)


def _read(path: Path, key_file: str | None, passphrase: bool, inventory: tuple[str, ...]) -> SavedPlan:
    from sloth.engine.plans.file import read_plan

    with shared_plans.local_copy(path, inventory) as file:
        saved = read_plan(file, credentials.keys(key_file, passphrase))
    click.get_current_context().call_on_close(saved.spool.close)
    return saved


@plan.command("list")
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.TABLE_OR_JSON
def list_plans(inventory: tuple[str, ...], output: str) -> None:
    """List the plans that are saved in the backend."""
    from sloth.report.text import neutral
    from sloth.state.sync import plans

    names = shared_plans.with_backend(shared_plans.storage_of(inventory), plans.names)
    if output == "json":
        write_json([f"@{name}" for name in names])
    else:
        click.echo("\n".join(neutral(f"@{name}") for name in names) or "no plan is saved in the backend")


@plan.command()
@SAVED
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.YES
def delete(path: Path, inventory: tuple[str, ...], yes: bool) -> None:
    """Delete a plan that is saved in the backend; FILE is @NAME."""
    from sloth.state.sync import plans

    name = shared_plans.name_of(path)
    if name is None:
        raise UsageError(f"{path} is a file, which rm deletes", hint="@NAME is a plan in the backend")
    storage = shared_plans.storage_of(inventory)
    confirm(f"Delete the plan @{name}?", yes)
    shared_plans.with_backend(storage, lambda backend: plans.remove(backend, name))


@plan.command("show")
@SAVED
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.DIFF
@parameters.output("text", "json", "markdown", default="text")
@parameters.KEY_FILE
@parameters.PASSPHRASE
def show(
    path: Path, inventory: tuple[str, ...], diff: bool, output: str, key_file: str | None, passphrase: bool
) -> int:
    """Show a saved plan: on the terminal, as JSON, or as Markdown for a merge request. No host is contacted."""
    from sloth.report import plans
    from sloth.report.text import neutral

    found = _read(path, key_file, passphrase, inventory).plan
    if output == "json":
        write_json(plans.document(found))
    elif output == "markdown":
        click.echo(neutral(plans.markdown(found)))
    else:
        for text, style in plans.lines(found, diff):
            settings = {"bold": True} if style == "bold" else {"dim": True} if style == "dim" else {"fg": style or None}
            click.secho(neutral(text), **settings)
    return 0


@click.command()
@SAVED
@parameters.INVENTORY
@parameters.LIMIT
@click.option("--allow-unknown", is_flag=True, help="Also do what is not known before it is done.")
@parameters.checking
@parameters.reporting
@parameters.JUNIT
@parameters.running
@backend_option.BACKEND
@backend_option.NO_LOCK
@parameters.KEY_FILE
@parameters.PASSPHRASE
def apply(
    path: Path,
    inventory: tuple[str, ...],
    limit: tuple[str, ...],
    allow_unknown: bool,
    check: bool,
    exit_code: bool,
    diff: bool,
    output: str | None,
    verbose: int,
    junit: str | None,
    forks: int,
    lock_wait: float,
    key_file: str | None,
    passphrase: bool,
) -> int:
    """Do what a saved plan says, and nothing else. The site is not needed; the inventory and the secrets are.

    Before anything is touched on a host, all calls of the plan are checked there again. A host that has changed since,
    or to which the plan was applied before, is refused: nothing happens there, and the error says what differs. With
    --check it stays at that. What a plan leaves open (what commands do, and what depends on their results) needs
    --allow-unknown.

    Exit status: 0 when all is done, 1 a call failed, 2 invalid usage (nothing was touched), 3 the plan did not fit some
    host any more, 4 a host was unreachable, 130 interrupted.
    """
    from sloth.cli.execute import execute
    from sloth.cli.recorded import applying
    from sloth.engine import custom
    from sloth.engine.options import Options
    from sloth.engine.plans.make import site_of
    from sloth.engine.plans.recorder import Recorder
    from sloth.report.plans import has_unknowns

    if exit_code and not check:
        raise click.UsageError("--exit-code needs --check")
    saved = _read(path, key_file, passphrase, inventory)
    everything = parameters.read_inventory(inventory)
    missing = [name for name in saved.plan.hosts if name not in everything.hosts]
    if missing:
        raise UsageError(f"the plan is for {', '.join(missing)}, which the inventory does not have", hint="use -i")
    selected = parameters.limited(everything, limit) if limit else everything.hosts.values()
    hosts = tuple(host for host in selected if host.name in saved.plan.hosts)
    if not hosts:
        raise UsageError("the plan has nothing for these hosts", hint=f"it is for {', '.join(saved.plan.hosts)}")
    if not allow_unknown and not check and has_unknowns(saved.plan, [host.name for host in hosts]):
        raise UsageError(
            "the plan has parts that are not known before they are done",
            hint=f"see them with sloth-runner plan show {path}, then use --allow-unknown",
        )
    with tempfile.TemporaryDirectory(prefix="sloth-plan-") as directory:
        options = Options(
            check=check,
            forks=forks,
            lock_wait=lock_wait,
            custom=custom.load(custom.unpack(saved.plan.custom, Path(directory))),
            keys=credentials.keys(key_file, passphrase),
            passwords=credentials.passwords(),
            command=applying(path, inventory, limit, allow_unknown=allow_unknown, check=check),
            limit=",".join(limit),
            plan=saved.plan.id,
        )
        return execute(
            site_of(saved),
            everything,
            hosts,
            options,
            backend_option.storage(everything),
            output=output,
            diff=diff,
            verbose=verbose,
            exit_code=exit_code,
            junit=junit,
            plan=saved,
            recorder=Recorder() if check else None,
        )
