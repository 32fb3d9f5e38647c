"""`sloth-runner state`: look at and edit what is remembered of a host: this one, another one, or its replica."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from sloth.errors import StateError, UsageError
from sloth.inventory import Inventory, find_inventory
from sloth.payload.host import state_directory
from sloth.payload.lock import Locked, RunLock
from sloth.payload.operations import operate
from sloth.payload.resource import did_you_mean
from sloth.payload.store import Store, StoreError
from sloth.report.text import diff_lines, neutral
from sloth.state.memory import Memory
from sloth.state.shared import Shared

Rows = list[dict[str, Any]]


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True),
        click.option("-i", "--inventory", metavar="FILE", help="The inventory that names the agent."),
        click.option("--cached", is_flag=True, help="Ask the controller's replica as of the last run, not the host."),
        click.option("--agent", default="local", show_default=True, metavar="NAME", help="Whose state."),
    ):
        command = option(command)
    return command


@click.group()
def state() -> None:
    """Look at and edit what sloth-runner remembers of a host."""


@state.command("list")
@click.argument("only", metavar="[FILTER]", default="")
@_options
def list_states(only: str, agent: str, cached: bool, inventory: str | None, output: str) -> None:
    """List what is remembered: FILTER is a module (file), a type (file:copy), or lock for the shared locks."""
    if only == "lock":
        _show_locks(output)
        return
    module, _, kind = only.partition(":")
    rows = _ask(agent, cached, inventory, "list", {"module": module, "type": kind})
    if output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=True))
        return
    if not rows:
        click.echo(f"nothing is remembered of {agent}" + (f" below {only}" if only else ""))
        return
    table = [(row["key"], _ago(row["changed_at"]), _ago(row["checked_at"]), row["task"] or "") for row in rows]
    _table(("KEY", "CHANGED", "CHECKED", "TASK"), table)


@state.command()
@click.argument("key")
@_options
def show(key: str, agent: str, cached: bool, inventory: str | None, output: str) -> None:
    """Show one state: KEY is the whole key, or module:id when that is unique (user:john is user:create:john)."""
    row = _one(key, _ask(agent, cached, inventory, "show", {"key": key}), agent, cached, inventory)
    if output == "json":
        click.echo(json.dumps(row, indent=2, ensure_ascii=True))
        return
    click.secho(neutral(row["key"]), bold=True)
    for name, value in (
        ("site", f"{row['place'] or row['site'] or '?'}, task {row['task']}"),
        ("checksum", row["checksum"]),
        ("first seen", _when(row["created_at"])),
        ("last changed", _when(row["changed_at"])),
        ("last checked", _when(row["checked_at"])),
        ("run", row["run"]),
        ("desired", json.dumps(row["desired"], sort_keys=True)),
        ("observed", json.dumps(row["observed"], sort_keys=True)),
    ):
        click.echo(f"  {name:<13} {neutral(str(value))}")
    for change in row["history"]:
        who = f"{change['who']} from {change['origin']}"
        click.echo(f"  {_when(change['at'])}  {change['reason']}, run {change['run']}, {neutral(who)}")


@state.command()
@click.argument("key", default="")
@click.option("--run", metavar="RUN", help="Only what this run changed.")
@click.option("--diff", "-D", is_flag=True, help="Show how it changed.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The newest ones only.")
@_options
def history(
    key: str, run: str | None, diff: bool, limit: int, agent: str, cached: bool, inventory: str | None, output: str
) -> None:
    """Show what changed, when, why, by which run and by whom; newest first.

    KEY narrows it to one state, as for `state show`; what was forgotten since is found by its whole key.
    """
    if cached:
        raise UsageError("a replica has no history", hint="leave out --cached")
    if key:
        found = _ask(agent, False, inventory, "match", {"key": key})
        if len(found) > 1:
            _one(key, found, agent, False, inventory)
        key = found[0]["key"] if found else key
    rows = _ask(agent, False, inventory, "history", {"key": key, "run": run, "limit": limit})
    if output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=True))
        return
    if not rows:
        click.echo(f"no change of {key or 'anything'} is remembered on {agent}")
    for row in rows:
        who = f"{row['who']} from {row['origin']}" if row["who"] else "?"
        click.secho(f"{_when(row['at'])}  ", dim=True, nl=False)
        click.secho(neutral(row["key"]), bold=True, nl=False)
        click.echo(neutral(f"  {row['reason']}, run {row['run']} of {row['site']}, {who}"))
        for text, style in diff_lines(row["diff"] or {}) if diff else ():
            click.secho(f"    {neutral(text)}", fg=style or None)


@state.command()
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_options
def delete(key: str, yes: bool, agent: str, cached: bool, inventory: str | None, output: str) -> None:
    """Forget one state. The host itself is left as it is."""
    _only_hosts(cached)
    row = _one(key, _ask(agent, False, inventory, "show", {"key": key}), agent, False, inventory)
    _confirm(f"Forget {row['key']} on {agent}?", yes)
    answer = _ask(agent, False, inventory, "delete", {"key": row["key"]}, write=True)
    _done(output, {"key": row["key"], "deleted": answer[0]["deleted"]}, f"forgot {row['key']}")


@state.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@_options
def clear(yes: bool, agent: str, cached: bool, inventory: str | None, output: str) -> None:
    """Forget every state. The host itself is left as it is, and so is the history."""
    _only_hosts(cached)
    count = _ask(agent, False, inventory, "stats", {})[0]["resources"]
    _confirm(f"Forget all {count} states of {agent}?", yes)
    answer = _ask(agent, False, inventory, "clear", {}, write=True)[0]
    _done(output, {"deleted": answer["deleted"]}, f"forgot {answer['deleted']} states")


@state.command()
@_options
def stats(agent: str, cached: bool, inventory: str | None, output: str) -> None:
    """Show how much is remembered."""
    row = _ask(agent, cached, inventory, "stats", {})[0]
    if output == "json":
        click.echo(json.dumps(row, indent=2, ensure_ascii=True))
        return
    click.echo(f"file          {row['path'] or '(none yet)'}, {row['size']} bytes, format {row['version']}")
    click.echo(f"states        {row['resources']}")
    for kind, count in row["types"].items():
        click.echo(f"  {kind:<20} {count}")
    click.echo(f"history       {row['history']} changes in {row['runs']} runs")
    click.echo(f"last changed  {_when(row['last_changed_at'])}")
    click.echo(f"last checked  {_when(row['last_checked_at'])}")


@state.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def unlock(name: str, yes: bool) -> None:
    """Take a shared lock (state.lock) from whoever holds it."""
    _confirm(f"Take the lock {name} from its holder?", yes)
    holder = Shared().break_lock(name)
    if holder is None:
        raise StateError(f"there is no lock {name}", hint="see sloth-runner state list lock")
    click.echo(f"{name} is free; {neutral(holder)} held it")


def _ask(agent: str, cached: bool, inventory: str | None, op: str, args: dict[str, Any], write: bool = False) -> Rows:
    """Run one operation on the state of `agent`: its replica, this machine's file, or the host over SSH."""
    try:
        if cached:
            path = Memory().replica_path(agent)
            if not path.exists():
                raise StateError(f"there is no replica of {agent}", hint="a run makes one; or leave out --cached")
            return operate(Store(str(path), readonly=True), op, args)  # type: ignore[no-any-return] # payload is untyped
        if agent == "local":
            return _local(op, args, write)
    except StoreError as error:
        raise StateError(error.message, hint=error.hint) from error
    found = find_inventory(inventory)
    if found is None:
        raise UsageError(f"there is no inventory that names {agent}", hint="give -i FILE, or --cached")
    hosts = Inventory.read(found).select(agent, "--agent")
    if len(hosts) != 1:
        raise UsageError(f"--agent {agent} names {len(hosts)} hosts", hint="name one")
    from sloth.engine.ask import ask

    return asyncio.run(ask(hosts[0], [(op, args)], write=write))[0]


def _local(op: str, args: dict[str, Any], write: bool) -> Rows:
    home = str(Path.home())
    path = os.path.join(state_directory(home), "local.db")
    if not write:
        return operate(Store(path, readonly=True), op, args)  # type: ignore[no-any-return] # payload is untyped
    lock = RunLock(os.path.dirname(state_directory(home)))
    try:
        lock.acquire({"run": "state command", "who": "state", "origin": "local"}, 10, lambda text: None, lambda: False)
    except Locked as error:
        raise StateError(f"this machine is held by {error}", hint="wait for that run to end") from error
    try:
        store = Store(path)
        rows: Rows = operate(store, op, args)
        store.close()
        return rows
    finally:
        lock.release()


def _one(key: str, rows: Rows, agent: str, cached: bool, inventory: str | None) -> dict[str, Any]:
    """The one row that `key` means; an error with candidates otherwise."""
    if len(rows) == 1:
        return rows[0]
    if rows:
        names = ", ".join(row["key"] for row in rows)
        raise StateError(f"{key} may be any of {names}", hint="give the whole key")
    known = [row["key"] for row in _ask(agent, cached, inventory, "list", {"module": key.partition(":")[0]})]
    raise StateError(f"nothing is remembered of {key} on {agent}", hint=did_you_mean(key, known) or "see state list")


def _only_hosts(cached: bool) -> None:
    if cached:
        raise UsageError("a replica is a copy: it cannot be edited", hint="leave out --cached")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this needs a confirmation, and there is no terminal to ask on", hint="give --yes")
    click.confirm(question, abort=True)


def _done(output: str, document: dict[str, Any], text: str) -> None:
    click.echo(json.dumps(document) if output == "json" else neutral(text))


def _show_locks(output: str) -> None:
    locks = Shared().locks()
    if output == "json":
        click.echo(json.dumps(locks, indent=2))
    elif not locks:
        click.echo("no lock is held")
    else:
        left = [(lock["name"], lock["holder"], f"{lock['expires'] - time.time():.0f} s") for lock in locks]
        _table(("LOCK", "HOLDER", "EXPIRES IN"), left)


def _table(heads: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    shown = [tuple(neutral(cell) for cell in row) for row in rows]
    widths = [max(len(head), *(len(row[at]) for row in shown)) for at, head in enumerate(heads)]
    click.secho("  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip(), bold=True)
    for row in shown:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _when(at: int | None) -> str:
    if at is None:
        return "never"
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))} ({_ago(at)})"


def _ago(at: int) -> str:
    seconds = max(0, int(time.time()) - at)
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            return f"{seconds // size} {name}{'s' * (seconds // size != 1)} ago"
    return "now"
