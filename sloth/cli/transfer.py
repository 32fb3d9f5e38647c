"""`sloth-runner state export`, `import`, `verify` and `rekey`: whole states, to a file and back."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import click

from sloth.cli import backend_option, credentials, parameters
from sloth.cli.output import confirm, warn, write_json
from sloth.cli.state_source import AGENT, CACHED, Source, no_replica
from sloth.engine.query import Agent, Query, query_state
from sloth.errors import SlothError, StateError, UsageError
from sloth.passwords import Passwords
from sloth.report.text import neutral
from sloth.state import queries
from sloth.state.author import author
from sloth.state.export import REPLICAS, TABLES, Reader, Writer, pages, writing
from sloth.state.export import rekey as rekey_file
from sloth.state.local import LOCAL, LocalState, ReplicaState
from sloth.state.queries import Loaded, StateQuery

T = TypeVar("T")
LARGEST = 4 * 1024**3  # bytes of one state in an export: a host must end some time


class Ask(Protocol):
    """Queries one state."""

    async def __call__(self, query: StateQuery[T], /) -> list[T]: ...


@contextlib.asynccontextmanager
async def _open(agent: Agent | Path | None, write: bool, passwords: Passwords) -> AsyncIterator[Ask]:
    """Open the state of an agent (a path: its replica; None: that of this machine) for queries."""
    if isinstance(agent, Path):
        with ReplicaState(agent) as replica:

            async def ask_replica(query: StateQuery[T]) -> list[T]:
                return replica.query(query)

            yield ask_replica
        return
    if agent is None:
        with LocalState(write, warn) as state:

            async def ask_local(query: StateQuery[T]) -> list[T]:
                return state.query(query)

            yield ask_local
        return
    async with Query(write=write, warn=warn, passwords=passwords).session(agent) as session:

        async def ask_host(query: StateQuery[T]) -> list[T]:
            return await query_state(session, query)

        yield ask_host


def _replicas(pattern: str, inventory: tuple[str, ...]) -> dict[str, Path]:
    """Return the replicas of the agents that a pattern selects. Raises StateError when one has none."""
    found = Source(pattern, cached=True, inventory=inventory).replicas()
    for name, path in found.items():
        if not path.exists():
            raise no_replica(name)
    return found


def _agents(pattern: str, inventory: tuple[str, ...]) -> dict[str, Agent | None]:
    if pattern == LOCAL:
        return {LOCAL: None}
    return {agent.name: agent for agent in Source(pattern, inventory=inventory).agents()}


@click.command("export")
@AGENT
@CACHED
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@click.option(
    "-o",
    "--file",
    "path",
    required=True,
    metavar="FILE",
    type=click.Path(),
    help="The file to write; only you may read it.",
)
@click.option("--encrypt", is_flag=True, help="Encrypt it with your key, or a passphrase.")
@parameters.KEY_FILE
@parameters.PASSPHRASE
@parameters.PASSWORDS
def export(
    agent: str, cached: bool, inventory: tuple[str, ...], path: str, encrypt: bool, key_file: str | None,
    passphrase: bool,
) -> None:  # fmt: skip
    """Write whole states (records, history, runs, pending handlers, what is frozen) to one file.

    The content that is kept for `rollback` stays on the hosts. The file is written as a whole or not at all: if one of
    several agents does not answer, there is no file. With --cached no host is asked, and it has the records only.
    """
    keys = credentials.keys(key_file, passphrase, again=True) if encrypt or key_file or passphrase else None
    agents: Mapping[str, Agent | Path | None] = _replicas(agent, inventory) if cached else _agents(agent, inventory)
    passwords = credentials.passwords()
    # The key of the hashes of secrets is itself a secret, so a file that is not encrypted leaves it out.
    tables = ["resources"] if cached else [table for table in TABLES if keys is not None or table != "meta"]
    total = 0
    about = {**author(), "from": REPLICAS} if cached else author()
    with writing(Path(path), list(agents), keys, about) as writer:
        for name, one in agents.items():
            total += asyncio.run(_export(name, one, tables, writer, passwords))
    click.echo(f"wrote {total} rows of {', '.join(agents)} to {path}{', encrypted' if keys else ''}", err=True)


async def _export(
    name: str, agent: Agent | Path | None, tables: Sequence[str], writer: Writer, passwords: Passwords
) -> int:  # fmt: skip
    """Write the tables of one state; return the number of rows. Raises StateError for a host that never ends."""
    total, begin = 0, writer.size
    async with _open(agent, False, passwords) as ask:
        for table in tables:
            after = 0
            while rows := await ask(queries.dump_rows(table, after)):
                if rows[-1]["_at"] <= after or writer.size - begin > LARGEST:
                    raise StateError(f"the state of {name} has no end: it was not exported", hint="look at the host")
                after = rows[-1]["_at"]
                writer.rows(name, table, [{key: row[key] for key in row if key != "_at"} for row in rows])
                total += len(rows)
    return total


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path())
@click.option("--agent", metavar="PATTERN", help="Only these agents of the file; NAME=OTHER imports one as another.")
@parameters.AGENT_INVENTORY
@click.option("--merge", "way", flag_value="merge", help="Add what is missing; leave what exists as it is.")
@click.option("--replace", "way", flag_value="replace", help="Replace the whole state by that of the file.")
@parameters.CHECK
@click.option("--yes", is_flag=True, help="With --replace: do not ask for confirmation.")
@parameters.output("table", "json", short=False)
@parameters.KEY_FILE
@parameters.PASSPHRASE
@parameters.PASSWORDS
def import_(
    path: str, agent: str | None, inventory: tuple[str, ...], way: str | None, check: bool, yes: bool, output: str,
    key_file: str | None, passphrase: bool,
) -> None:  # fmt: skip
    """Restore states from an export: all of them or none.

    The whole file is verified before any state is touched. Each state is changed in one transaction, and all
    transactions are committed at the end.
    """
    if way is None:
        raise UsageError("give --merge or --replace", hint="--check shows what either would do")
    reader = Reader(Path(path), credentials.keys(key_file, passphrase))
    counts = reader.verify()
    if way == "replace" and reader.header.is_of_replicas:
        raise UsageError(
            f"{path} was exported with --cached: it has records only, and --replace would remove the history, too",
            hint="use --merge",
        )
    names = _targets(reader.header.agents, agent)
    agents = {name: _agents(target, inventory)[target] for name, target in names.items()}
    if way == "replace" and not check:
        confirm(f"Replace the state of {', '.join(names.values())} by that of {path}?", yes)
    passwords = credentials.passwords()
    loaded = asyncio.run(_import(reader, agents, way == "replace", check, passwords))
    if output == "json":
        document = {
            names[name]: {"rows": counts.get(name, {}), "added": one.added, "altered": one.altered}
            for name, one in loaded.items()
        }
        write_json({"check": check, "agents": document})
        return
    would = "would be " if check else ""
    for name, one in loaded.items():
        click.echo(neutral(f"{names[name]}: {one.added} {would}added, {one.altered} {would}altered"))


def _targets(names: Sequence[str], pattern: str | None) -> dict[str, str]:
    """Return the agents of the file that `pattern` selects, with the names to import them as."""
    if pattern is None:
        return {name: name for name in names}
    old, equals, new = pattern.partition("=")
    found = {name: new if equals else name for name in names if fnmatch.fnmatchcase(name, old)}
    if not found or (equals and len(found) != 1):
        raise UsageError(f"--agent {pattern} selects {len(found)} of {', '.join(names)}, which the file contains")
    return found


async def _import(
    reader: Reader, agents: Mapping[str, Agent | None], replace: bool, check: bool, passwords: Passwords
) -> dict[str, Loaded]:
    loaded = {name: Loaded() for name in agents}
    async with contextlib.AsyncExitStack() as stack:
        states: dict[str, Ask] = {}
        for name, agent in agents.items():
            states[name] = await stack.enter_async_context(_open(agent, True, passwords))
        try:
            if replace:
                for ask in states.values():
                    await ask(queries.empty())
            for name, table, rows in reader:
                if name in states:
                    for page in pages(rows):
                        (more,) = await states[name](queries.load_rows(table, page, replace))
                        loaded[name] += more
        except BaseException:
            for ask in states.values():
                with contextlib.suppress(SlothError):
                    await ask(queries.abandon())
            raise
        for ask in states.values():
            if check:
                with contextlib.suppress(SlothError):
                    await ask(queries.abandon())
            else:
                await ask(queries.commit())
    return loaded


@click.command()
@click.argument("path", metavar="FILE", type=click.Path())
@parameters.output("table", "json", short=False)
@parameters.KEY_FILE
@parameters.PASSPHRASE
def verify(path: str, output: str, key_file: str | None, passphrase: bool) -> None:
    """Read an export from end to end, and report whether it is complete and unaltered."""
    reader = Reader(Path(path), credentials.keys(key_file, passphrase))
    counts = reader.verify()
    header = reader.header
    if output == "json":
        write_json(
            {
                "created": header.created,
                "cipher": header.cipher,
                "records_only": header.is_of_replicas,
                "agents": counts,
            }
        )
        return
    for name, tables in counts.items():
        found = ", ".join(f"{tables.get(table, 0)} {table}" for table in TABLES if table != "meta")
        click.echo(neutral(f"{name}: {found}"))
    records = ", and has the records of replicas only" if header.is_of_replicas else ""
    click.echo(f"{path} is sound{' and encrypted' if header.is_encrypted else ''}{records}")


@click.command()
@click.argument("path", metavar="[FILE]", type=click.Path(), required=False)
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.NEW_KEY_FILE
@parameters.NEW_PASSPHRASE
@parameters.KEY_FILE
@parameters.PASSPHRASE
def rekey(
    path: str | None,
    inventory: tuple[str, ...],
    new_key_file: str | None,
    new_passphrase: bool,
    key_file: str | None,
    passphrase: bool,
) -> None:
    """Encrypt an export, or without FILE the backend's entries, with a new key.

    What was not encrypted is encrypted from then on. If it is interrupted while it encrypts a backend, repeat it. No
    other controller may use the backend meanwhile.
    """
    if path is None:
        _rekey_backend(inventory, new_key_file, new_passphrase, key_file, passphrase)
        return
    old = credentials.keys(key_file, passphrase)
    key = rekey_file(Path(path), old, credentials.new_keys(new_key_file, new_passphrase, key_file, passphrase))
    click.echo(f"{path} is encrypted with the key {key}", err=True)


def _rekey_backend(
    inventory: tuple[str, ...], new_key_file: str | None, new_passphrase: bool, key_file: str | None, passphrase: bool
) -> None:
    from sloth.state.backends.location import open_server
    from sloth.state.backends.rekey import rekey as rekey_entries

    location = backend_option.storage_without_hosts(inventory).location
    if location is None:
        raise UsageError("name an export, or a backend", hint="sloth-runner state rekey --backend URL")
    old = credentials.keys(key_file, passphrase)
    new = credentials.new_keys(new_key_file, new_passphrase, key_file, passphrase)

    async def run() -> int:
        server = open_server(location)
        try:
            return await rekey_entries(server, old, new)
        finally:
            await server.close()

    number = asyncio.run(run())
    header = new.for_writing()[1]
    how = f"the key {', '.join(header.keys)}" if header.kdf is None else "the new passphrase"
    click.echo(f"{location.url} is encrypted with {how}: {number} entries were encrypted again", err=True)


TRANSFER: tuple[click.Command, ...] = (export, import_, verify, rekey)
