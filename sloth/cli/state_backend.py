"""`sloth-runner state backend`: checks a backend, shows and restores versions of what is there, and moves it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import click

from sloth.cli import backend_option, credentials, parameters
from sloth.cli.output import confirm, format_time, warn, write_json, write_table
from sloth.errors import StateError, UsageError
from sloth.report.text import neutral

if TYPE_CHECKING:
    from sloth.state.backends.backend import Backend
    from sloth.state.backends.check import Finding
    from sloth.state.backends.location import Location
    from sloth.state.storage import Storage

T = TypeVar("T")
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.group()
def backend() -> None:
    """Check, mend and move what controllers share in a backend.

    The backend is that of --backend, of $SLOTH_BACKEND or of the inventory.
    """


def _storage(inventory: tuple[str, ...]) -> Storage:
    found = backend_option.storage_without_hosts(inventory)
    if found.location is None:
        raise UsageError("no backend is named", hint="use --backend URL, $SLOTH_BACKEND or [backend] of the inventory")
    return found


def _url(storage: Storage) -> str:
    return storage.location.url if storage.location is not None else ""


def _with_backend(storage: Storage, work: Callable[[Backend], Awaitable[T]]) -> T:
    """Return what work() returns of the backend, which must answer, and be complete."""
    from sloth.state.sync.deliver import probe

    async def run() -> T:
        opened = storage.backend()
        assert opened is not None
        try:
            await probe(opened)
            return await work(opened)
        finally:
            await storage.close()

    return asyncio.run(run())


@backend.command()
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.TABLE_OR_JSON
@parameters.KEY_FILE
@parameters.PASSPHRASE
def check(inventory: tuple[str, ...], output: str, key_file: str | None, passphrase: bool) -> int:
    """Check the backend's rights, conditional writes, clock, sizes and speed.

    Exit status: 0; 1 when something is wrong; 2 for an invalid URL.
    """
    from sloth.state.backends.check import Verdict
    from sloth.state.backends.check import check as check_backend

    storage = _storage(inventory)
    findings = _with_backend(storage, check_backend)
    if output == "json":
        write_json({"version": 1, "url": _url(storage), "findings": [_document(finding) for finding in findings]})
    else:
        for finding in findings:
            verdict = finding.verdict.value
            click.secho(f"{verdict:<8}", fg=_COLOURS[verdict], nl=False)
            hint = f"; {finding.hint}" if finding.hint else ""
            click.echo(neutral(f"  {finding.aspect.value:<11}  {finding.text}{hint}"))
    return 1 if any(finding.verdict is Verdict.FAILED for finding in findings) else 0


def _document(finding: Finding) -> dict[str, object]:
    return {
        "aspect": finding.aspect.value,
        "verdict": finding.verdict.value,
        "text": finding.text,
        "hint": finding.hint,
        "seconds": list(finding.seconds),
    }


_KEY = click.argument("key", metavar="KEY")


@backend.command()
@_KEY
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.TABLE_OR_JSON
@parameters.KEY_FILE
@parameters.PASSPHRASE
def versions(key: str, inventory: tuple[str, ...], output: str, key_file: str | None, passphrase: bool) -> None:
    """List the versions of an entry, the newest first. KEY is runs/RUN or replicas/AGENT."""
    from sloth.state.sync import versions as of

    name = of.versioned_key(key)
    found = _with_backend(_storage(inventory), lambda backend: of.versions(backend, name))
    if output == "json":
        write_json([asdict(one) for one in found])
        return
    rows = [(one.version, format_time(one.at), f"{one.by} from {one.origin}", one.what) for one in found]
    write_table(("VERSION", "WRITTEN", "BY", ""), rows)


@backend.command()
@_KEY
@click.argument("version", type=click.IntRange(1))
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.YES
@parameters.KEY_FILE
@parameters.PASSPHRASE
def restore(
    key: str, version: int, inventory: tuple[str, ...], yes: bool, key_file: str | None, passphrase: bool
) -> None:
    """Make a former version of an entry the newest again.

    KEY is runs/RUN or replicas/AGENT.

    A replica is a copy: the host is not changed, and its next change brings the copy up to date again.
    """
    from sloth.state.author import author
    from sloth.state.sync import versions as of

    name, storage = of.versioned_key(key), _storage(inventory)
    confirm(f"Restore version {version} of {name}?", yes)
    number = _with_backend(storage, lambda backend: of.restore(backend, name, version, author()))
    click.echo(f"restored version {version} of {name} as version {number}")


@backend.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--force", is_flag=True, help="Replace entries of the same name that the target has already.")
@click.option("--encrypt/--plain", default=None, help="How values are in the target.  [default: as in the source]")
@parameters.KEY_FILE
@parameters.PASSPHRASE
def migrate(
    source: str, target: str, force: bool, encrypt: bool | None, key_file: str | None, passphrase: bool
) -> None:
    """Copy everything but locks from one backend to another.

    FROM and TO are URLs. Nothing is removed in FROM. A copy that was interrupted is continued by the same command. TO
    must have no other data, unless --force. Let nobody write to FROM meanwhile; what is written is copied, too.
    """
    from sloth.state.backends.location import open_backend, parse
    from sloth.state.sync.migrate import migrate as copy_all

    first, second = parse(source), parse(target)
    keys = credentials.keys(key_file, passphrase)

    async def run() -> dict[str, int]:
        is_sealed = await _is_sealed(first)
        one = open_backend(first, keys if is_sealed else None)
        other = open_backend(second, keys if (is_sealed if encrypt is None else encrypt) else None)
        try:
            return await copy_all(one, other, force, _progress if sys.stderr.isatty() else lambda done, total: None)
        finally:
            await one.close()
            await other.close()

    copied = asyncio.run(run())
    what = ", ".join(f"{number} {kind}" for kind, number in copied.items())
    click.echo(f"copied {first.url} to {second.url}: {what}; all are there")


def _progress(done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        click.echo(f"\r{done} of {total}" + ("\n" if done == total else ""), err=True, nl=False)


async def _is_sealed(location: Location) -> bool:
    from sloth.state.backends.location import open_server
    from sloth.state.backends.sealed import MARK, SALT

    server = open_server(location)
    try:
        for name in await server.names(""):
            entry = await server.read(name) if name != SALT else None
            if entry is not None:
                return entry.value.startswith(MARK)
        return False
    finally:
        await server.close()


@backend.command()
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.TABLE_OR_JSON
@parameters.KEY_FILE
@parameters.PASSPHRASE
def sweep(inventory: tuple[str, ...], output: str, key_file: str | None, passphrase: bool) -> None:
    """Remove what nobody needs any more.

    That is shared values that were deleted or expired a day ago, records of runs that are older than a year but for the
    newest 1,000, and pieces that killed commands have left. The first run of a day does so, too, for 5 seconds.
    """
    from sloth.state.sync.sweep import sweep as sweep_all

    swept = _with_backend(_storage(inventory), sweep_all)
    if output == "json":
        write_json(asdict(swept))
        return
    click.echo(f"removed {swept.values} deleted values, {swept.runs} records of runs and {swept.pieces} pieces")
    if not swept.can_remove:
        warn("warning: deleted values stay: nothing is deleted under a condition by this server, or by way of a proxy")


@backend.command()
@click.argument("agents", metavar="AGENT...", nargs=-1, required=True)
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.YES
@parameters.KEY_FILE
@parameters.PASSPHRASE
def forget(
    agents: tuple[str, ...], inventory: tuple[str, ...], yes: bool, key_file: str | None, passphrase: bool
) -> None:
    """Remove the copies of the states of hosts that are no more.

    AGENT is a host, or host@account. The host is not touched; a later change of it brings its copy back.
    """
    from sloth.state.sync.sweep import forget_host

    storage = _storage(inventory)
    confirm(f"Forget {', '.join(agents)} in the backend?", yes)

    async def work(backend: Backend) -> dict[str, int]:
        return {agent: await forget_host(backend, agent) for agent in agents}

    found = _with_backend(storage, work)
    missing = [agent for agent, number in found.items() if not number]
    if missing:
        raise StateError(f"no replica of {', '.join(missing)} in {_url(storage)}", hint="see state list --cached")
    click.echo(f"forgot {', '.join(agents)}")


@backend.command()
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.KEY_FILE
@parameters.PASSPHRASE
def push(inventory: tuple[str, ...], key_file: str | None, passphrase: bool) -> None:
    """Deliver all runs and replicas of this controller.

    For a new backend, and to mend damaged entries. What the backend has newer is left alone.
    """
    from sloth.state.sync.deliver import Delivery
    from sloth.state.sync.push import make_due

    storage = _storage(inventory)
    memory = storage.memory()
    try:

        async def work(backend: Backend) -> tuple[int, list[str]]:
            left = await make_due(memory, backend)
            assert memory.outbox is not None
            number = len(memory.outbox.waiting())
            await Delivery(memory, backend).flush()
            return number, left

        number, left = _with_backend(storage, work)
    finally:
        memory.close()
    for key in left:
        warn(f"warning: {key} is damaged, and this controller knows an older state: push on another one, or run again")
    if left:
        raise StateError(f"not everything could be mended: {', '.join(left)}")
    click.echo(f"{_url(storage)} has what this controller has: {number} runs and replicas")
