"""`sloth-runner state`: shows what is recorded of hosts, on them or on the controller."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sloth.cli import backend_option, parameters
from sloth.cli.completed import Completed, completed
from sloth.cli.output import format_age, format_date, format_time, write_diff, write_json, write_table
from sloth.cli.state_backend import backend
from sloth.cli.state_edit import EDITING
from sloth.cli.state_freeze import freeze, unfreeze
from sloth.cli.state_source import Rows, Source, state_options
from sloth.cli.transfer import TRANSFER
from sloth.report.text import neutral
from sloth.state import queries
from sloth.state.local import LOCAL
from sloth.state.queries import Change, Difference, Handler, RecordWithHistory, StateRecord
from sloth.state.shared import Shared
from sloth.state.shared_locks import Lock

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


@click.group()
def state() -> None:
    """Show and edit the recorded states of hosts.

    --agent selects hosts of the inventory by a pattern, as --limit does; without it, the state of this machine is used.
    """


for command in (*EDITING, freeze, unfreeze, *TRANSFER, backend):
    state.add_command(command)


@state.command("list")
@click.argument("only", metavar="[FILTER]", default="")
@state_options
def list_states(only: str, source: Source) -> int:
    """List the recorded states.

    FILTER is a module (file), a type (file:copy), `orphaned` (what its site no longer names), `frozen` (what runs leave
    alone), `handler` (handlers that an interrupted run has left to the next one), `lock` (the shared locks) or `shared`
    (the shared values).
    """
    if only == "lock":
        return _list_locks(source)
    if only == "shared":
        return _list_values(source)
    if only == "handler":
        return _list_handlers(source)
    module, _, kind = only.partition(":")
    orphaned = only == "orphaned"
    frozen = only == "frozen"
    everything = orphaned or frozen
    query = queries.list_records(orphaned=orphaned) if everything else queries.list_records(module, kind)
    below = f" of {only}" if only and not everything else ""
    nothing = f"no {only + ' ' if everything else ''}state{below} on {source.pattern}"

    def write(rows: Rows[StateRecord], several: bool) -> None:
        cells: list[tuple[object, ...]] = [
            (
                row.key,
                format_age(row.changed_at),
                format_age(row.checked_at),
                format_age(row.orphaned or 0) if orphaned else row.task or "",
            )
            for _, row in rows
        ]
        heads: tuple[str, ...] = ("KEY", "CHANGED", "CHECKED", "ORPHANED" if orphaned else "TASK")
        if any(row.frozen for _, row in rows):
            heads = (*heads, "FROZEN")
            cells = [(*cell, _freeze(row)) for cell, (_, row) in zip(cells, rows, strict=True)]
        _write_table(heads, cells, [agent for agent, _ in rows] if several else [])

    found = source.query(query)
    if frozen:
        found = {agent: [row for row in rows if row.frozen] for agent, rows in found.items()}
    return source.write_answers(found, nothing, write)


def _freeze(row: StateRecord) -> str:
    """Return until when a state is frozen, by whom and why."""
    if not row.frozen:
        return ""
    return f"until {format_date(int(row.frozen['until']))} by {row.frozen['who']}: {row.frozen['why']}"


def _write_table(heads: Sequence[str], cells: Sequence[Sequence[object]], agents: Sequence[str]) -> None:
    """Write a table, with a first column for the agents if there are any."""
    if agents:
        heads = ("AGENT", *heads)
        cells = [(agent, *row) for agent, row in zip(agents, cells, strict=True)]
    write_table(heads, cells)


@state.command()
@click.argument("key", shell_complete=completed(Completed.KEYS))
@state_options
def show(key: str, source: Source) -> int:
    """Show one state, and its history.

    KEY is the whole key, or module:id when that is unique: user:john is user:create:john.
    """
    found = source.query(queries.show_record(key))
    several = len(found) + len(source.errors) > 1
    rows = [
        (agent, rows[0] if several and len(rows) == 1 else source.one_record(agent, key, rows, _key_of))
        for agent, rows in found.items()
        if rows or not several
    ]
    if source.json:
        documents = [{"agent": agent, **row.shown()} for agent, row in rows]
        write_json(documents if several else documents[0])
        return source.status()
    for agent, row in rows:
        _show_one(row, agent if several else "")
    return source.status()


def _key_of(row: RecordWithHistory) -> str:
    return row.record.key


def _show_one(row: RecordWithHistory, agent: str) -> None:
    record = row.record
    click.secho(neutral(record.key) + (f" on {agent}" if agent else ""), bold=True)
    lines = [
        ("site", f"{record.place or record.site or '?'}, task {record.task}"),
        ("owner", record.site or "?"),
        ("checksum", record.checksum),
        ("first seen", format_time(record.created_at)),
        ("last changed", format_time(record.changed_at)),
        ("last checked", format_time(record.checked_at)),
        ("run", record.run or "?"),
        ("desired", json.dumps(record.desired, sort_keys=True)),
        ("observed", json.dumps(record.observed, sort_keys=True)),
    ]
    if record.orphaned:
        lines.append(("orphaned", format_time(record.orphaned)))
    if record.frozen:
        lines.append(("frozen", _freeze(record)))
    for name, value in lines:
        click.echo(f"  {name:<13} {neutral(value)}")
    for change in row.history:
        by = f"{change.who} from {change.origin}"
        click.echo(neutral(f"  {format_time(change.at)}  {change.reason}, run {change.run}, {by}"))


@state.command()
@click.argument("key", default="", shell_complete=completed(Completed.KEYS))
@click.option("--run", metavar="RUN", help="Only what this run has changed: its id, the beginning of it, or `last`.")
@parameters.DIFF
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Show only the newest changes.")
@state_options
def history(key: str, run: str | None, diff: bool, limit: int, source: Source) -> int:
    """Show what changed, when, why, by which run and by whom; newest first.

    KEY narrows it down to one state, as for `state show`. A state that was deleted is found by its whole key.
    """
    if key:
        matches = {match for keys in source.query(queries.match_keys(key)).values() for match in keys}
        if len(matches) > 1:
            source.one_record(source.pattern, key, sorted(matches), str)
        key = next(iter(matches), key)

    def write(rows: Rows[Change], several: bool) -> None:
        for agent, row in rows:
            by = f"{row.who} from {row.origin}" if row.who else "?"
            click.secho(f"{format_time(row.at)}  ", dim=True, nl=False)
            click.secho(neutral((f"{agent}  " if several else "") + row.key), bold=True, nl=False)
            click.echo(neutral(f"  {row.reason}, run {row.run} of {row.site}, {by}"))
            if diff:
                write_diff(row.diff or {})

    nothing = f"no change{' of ' + key if key else ''} is recorded on {source.pattern}"
    return source.write_answers(source.query(queries.list_changes(key, run, limit)), nothing, write)


@state.command("diff")
@click.argument("run_a", shell_complete=completed(Completed.RUNS))
@click.argument("run_b", shell_complete=completed(Completed.RUNS))
@state_options
def diff_runs(run_a: str, run_b: str, source: Source) -> int:
    """Show what differs between the end of RUN_A and the end of RUN_B, whatever happened in between.

    A run is named as in `runs list --agent`: by its id, the beginning of it, or `last`. With --cached and a backend, no
    host is asked: the versions of its state in the backend are compared.
    """

    def write(rows: Rows[Difference], several: bool) -> None:
        for agent, row in rows:
            click.secho(neutral((f"{agent}  " if several else "") + row.key), bold=True)
            write_diff(row.diff)

    nothing = f"no difference on {source.pattern}"
    found = source.compare_cached(run_a, run_b) if source.cached else source.query(queries.compare_runs(run_a, run_b))
    return source.write_answers(found, nothing, write)


@state.command()
@state_options
def stats(source: Source) -> int:
    """Show how many states there are, how large their file is, and when they last changed."""
    rows = [(agent, row) for agent, rows in source.query(queries.read_stats()).items() for row in rows]
    if source.json:
        documents = [{"agent": agent, **row.shown()} for agent, row in rows]
        write_json(documents if len(rows) + len(source.errors) > 1 else documents[0])
        return source.status()
    for agent, row in rows:
        if len(rows) > 1:
            click.secho(neutral(agent), bold=True)
        click.echo(neutral(f"file          {row.path or '(none yet)'}, {row.size} bytes, format {row.version}"))
        click.echo(f"states        {row.resources}" + (f", {row.orphaned} orphaned" if row.orphaned else ""))
        for kind, number in row.types.items():
            click.echo(neutral(f"  {kind:<20} {number}"))
        click.echo(f"history       {row.history} changes in {row.runs} runs")
        click.echo(f"content       {row.contents} kept, {row.contents_size} bytes")
        if row.handlers:
            click.echo(f"handlers      {row.handlers} still to run")
        click.echo(f"last changed  {format_time(row.last_changed_at)}")
        click.echo(f"last checked  {format_time(row.last_checked_at)}")
    return source.status()


def _list_handlers(source: Source) -> int:
    def write(rows: Rows[Handler], several: bool) -> None:
        cells = [(row.name, row.site, row.task, row.key, format_age(row.since)) for _, row in rows]
        heads = ("HANDLER", "SITE", "TASK", "CAUSED BY", "SINCE")
        _write_table(heads, cells, [agent for agent, _ in rows] if several else [])

    return source.write_answers(source.query(queries.list_handlers()), "no handler is pending", write)


@state.command("locks")
@backend_option.BACKEND
@parameters.AGENT_INVENTORY
@parameters.TABLE_OR_JSON
def list_locks(inventory: tuple[str, ...], output: str) -> int:
    """List the locks that are held: those of sites (state.lock), and those of runs."""
    return _list_locks(Source(LOCAL, inventory=inventory, json=output == "json"))


def _list_locks(source: Source) -> int:
    async def read(shared: Shared) -> tuple[list[Lock], float]:
        locks = await shared.locks.held()
        return locks, await shared.backend.clock() if locks else 0.0

    locks, now = source.ask_shared(read)
    if source.json:
        write_json([asdict(lock) for lock in locks])
    elif not locks:
        click.echo("no lock is held")
    else:
        write_table(
            ("LOCK", "HOLDER", "SINCE", "EXPIRES IN"),
            [(one.name, one.describe(), format_time(one.taken), f"{one.expires - now:.0f} s") for one in locks],
        )
    return 0


def _list_values(source: Source) -> int:
    async def read(shared: Shared) -> dict[str, Json]:
        return {name: await shared.get(name) for name in await shared.list()}

    values = source.ask_shared(read)
    if source.json:
        write_json([{"name": name, "value": value} for name, value in values.items()])
    elif not values:
        click.echo("no value is shared")
    else:
        write_table(("NAME", "VALUE"), [(name, json.dumps(value)) for name, value in values.items()])
    return 0
