"""`sloth-runner state export`, `import`, `verify` and `rekey`: whole states, in a file and out of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, Protocol

import click

from sloth.cli import parameters
from sloth.cli.state_source import Asked, confirm, show_json, warn
from sloth.engine.query import Agent, Query
from sloth.engine.sessions import who
from sloth.errors import SlothError, UsageError
from sloth.state.export import TABLES, Reader, Writer, pages, writing
from sloth.state.export import rekey as rekeyed
from sloth.state.local import LOCAL, LocalState

Row = dict[str, Any]
_INVENTORY = click.option("-i", "--inventory", metavar="FILE", help="The inventory that names the agents.")
_OUTPUT = click.option("--output", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)


class Ask(Protocol):
    """Ask one state: op and arguments, rows."""

    def __call__(self, op: str, args: Row, /) -> Awaitable[list[Row]]: ...


@contextlib.asynccontextmanager
async def _asking(agent: Agent | None, write: bool, password: str | None) -> AsyncIterator[Ask]:
    """How to ask an agent (None: this machine), for as long as the block lasts."""
    if agent is None:
        with LocalState(write, warn) as state:

            async def local(op: str, args: Row) -> list[Row]:
                return state.query(op, args)

            yield local
        return
    async with Query(write=write, warn=warn, become_password=password).session(agent) as session:
        yield session.query


def _agents(pattern: str, inventory: str | None) -> dict[str, Agent | None]:
    if pattern == LOCAL:
        return {LOCAL: None}
    return {agent.name: agent for agent in Asked(pattern, inventory=inventory).agents()}


@click.command("export")
@click.option("--agent", default=LOCAL, show_default=True, metavar="PATTERN", help="Whose: web1, web*, @group, all.")
@_INVENTORY
@click.option("-o", "--file", "path", required=True, metavar="FILE", help="Where to; the file is for you alone.")
@click.option("--encrypt", is_flag=True, help="Encrypt it with your key, or a passphrase.")
@parameters.KEY_FILE
@parameters.PASSPHRASE
@parameters.ASK_PASSWORD
def export(
    agent: str, inventory: str | None, path: str, encrypt: bool, key_file: str | None, passphrase: bool,
    ask_become_pass: bool,
) -> None:  # fmt: skip
    """Write whole states (records, history, runs, waiting handlers) to one file.

    Contents that are kept for `rollback` stay on the hosts. The file appears when it is whole: when one of several
    agents does not answer, there is none.
    """
    keys = parameters.keys(key_file, passphrase, again=True) if encrypt or key_file or passphrase else None
    agents = _agents(agent, inventory)
    password = parameters.ask_password() if ask_become_pass else None
    about = {"by": who(), "origin": socket.gethostname()}
    total = 0

    async def one(name: str, of: Agent | None, writer: Writer) -> int:
        count = 0
        async with _asking(of, False, password) as ask:
            for table in TABLES:
                if table == "meta" and keys is None:
                    continue  # the key of the keyed hashes is itself a secret
                after = 0
                while rows := await ask("dump", {"table": table, "after": after}):
                    after = rows[-1]["_at"]
                    writer.rows(name, table, [{key: row[key] for key in row if key != "_at"} for row in rows])
                    count += len(rows)
        return count

    with writing(Path(path), list(agents), keys, about) as writer:
        for name, of in agents.items():
            total += asyncio.run(one(name, of, writer))
    click.echo(f"{path}: {total} rows of {', '.join(agents)}{', encrypted' if keys else ''}", err=True)


@click.command("import")
@click.argument("path", metavar="FILE")
@click.option("--agent", metavar="PATTERN", help="Only these agents of the file; as NAME=OTHER under another name.")
@_INVENTORY
@click.option("--merge", "way", flag_value="merge", help="Add what is not there; what is there stays as it is.")
@click.option("--replace", "way", flag_value="replace", help="Afterwards the state is what the file says.")
@parameters.CHECK
@click.option("--yes", is_flag=True, help="With --replace: do not ask.")
@_OUTPUT
@parameters.KEY_FILE
@parameters.PASSPHRASE
@parameters.ASK_PASSWORD
def import_(
    path: str, agent: str | None, inventory: str | None, way: str | None, check: bool, yes: bool, form: str,
    key_file: str | None, passphrase: bool, ask_become_pass: bool,
) -> None:  # fmt: skip
    """Bring the states of an export back, all of it or nothing.

    The file is verified as a whole before any state is touched; then each state is changed in one transaction, and all
    are committed at the end.
    """
    if way is None:
        raise UsageError("say --merge or --replace", hint="--check shows what either would do")
    reader = Reader(Path(path), parameters.keys(key_file, passphrase))
    counts = reader.verify()
    names = _targets(reader.header["agents"], agent)
    agents = {name: _agents(target, inventory)[target] for name, target in names.items()}
    if way == "replace" and not check:
        confirm(f"Replace the state of {', '.join(names.values())} by what {path} says?", yes)
    password = parameters.ask_password() if ask_become_pass else None
    told = asyncio.run(_import(reader, agents, way == "replace", check, password))
    document = {names[name]: {"rows": counts.get(name, {}), **row} for name, row in told.items()}
    if form == "json":
        show_json({"check": check, "agents": document})
        return
    for name, row in document.items():
        would = "would be " if check else ""
        click.echo(f"{name}: {row['added']} {would}added, {row['altered']} {would}altered")


def _targets(names: list[str], pattern: str | None) -> dict[str, str]:
    """The agents of the file that are wanted -> under which name."""
    if pattern is None:
        return {name: name for name in names}
    import fnmatch

    old, equals, new = pattern.partition("=")
    found = {name: new if equals else name for name in names if fnmatch.fnmatchcase(name, old)}
    if not found or (equals and len(found) != 1):
        raise UsageError(f"--agent {pattern} names {len(found)} of {', '.join(names)}, which the file has")
    return found


async def _import(
    reader: Reader, agents: dict[str, Agent | None], replace: bool, check: bool, password: str | None
) -> dict[str, Row]:
    told = {name: {"added": 0, "altered": 0} for name in agents}
    async with contextlib.AsyncExitStack() as stack:
        asks: dict[str, Ask] = {}
        for name, agent in agents.items():
            asks[name] = await stack.enter_async_context(_asking(agent, True, password))
        try:
            if replace:
                for ask in asks.values():
                    await ask("empty", {})
            for name, table, rows in reader:
                if name in asks:
                    for page in pages(rows):
                        (row,) = await asks[name]("load", {"table": table, "rows": page, "replace": replace})
                        told[name]["added"] += row["added"]
                        told[name]["altered"] += row["altered"]
        except BaseException:
            await _each(asks, "abandon")
            raise
        await _each(asks, "abandon" if check else "commit")
    return told


async def _each(asks: dict[str, Ask], op: str) -> None:
    for ask in asks.values():
        with contextlib.suppress(SlothError) if op == "abandon" else contextlib.nullcontext():
            await ask(op, {})


@click.command()
@click.argument("path", metavar="FILE")
@_OUTPUT
@parameters.KEY_FILE
@parameters.PASSPHRASE
def verify(path: str, form: str, key_file: str | None, passphrase: bool) -> None:
    """Read an export from end to end: whether it is whole, unaltered, and ours to decrypt."""
    reader = Reader(Path(path), parameters.keys(key_file, passphrase))
    counts = reader.verify()
    if form == "json":
        show_json({"created": reader.header["created"], "cipher": reader.header["cipher"], "agents": counts})
        return
    for name, tables in counts.items():
        click.echo(f"{name}: " + ", ".join(f"{tables.get(table, 0)} {table}" for table in TABLES if table != "meta"))
    click.echo(f"{path} is sound{' and encrypted' if reader.header['cipher'] == 'fernet' else ''}")


@click.command()
@click.argument("path", metavar="FILE")
@click.option("--new-key-file", metavar="FILE", help="The new key; without it, the first of $SLOTH_KEY or --key-file.")
@click.option("--new-passphrase", is_flag=True, help="Ask for a new passphrase.")
@parameters.KEY_FILE
@parameters.PASSPHRASE
def rekey(
    path: str, new_key_file: str | None, new_passphrase: bool, key_file: str | None, passphrase: bool
) -> None:  # fmt: skip
    """Encrypt an export anew, under a new key; one that was not encrypted is, from then on."""
    new = parameters.keys(key_file, passphrase)
    if new_key_file or new_passphrase:
        new = parameters.keys(new_key_file, new_passphrase, again=True)
    made = rekeyed(Path(path), parameters.keys(key_file, passphrase), new)
    click.echo(f"{path} is encrypted with the key {made}", err=True)


TRANSFER: tuple[click.Command, ...] = (export, import_, verify, rekey)
