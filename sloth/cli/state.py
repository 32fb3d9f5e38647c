"""`sloth-runner state`: look at what is remembered of hosts: this one, others, or their replicas."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from sloth.cli import state_source
from sloth.cli.state_edit import EDITING
from sloth.cli.state_source import Asked, Row, ago, one_of, show_json, table, when, with_agent
from sloth.cli.transfer import TRANSFER
from sloth.report.text import diff_lines, neutral
from sloth.state.shared import Shared


@click.group()
def state() -> None:
    """Look at and edit what sloth-runner remembers of hosts.

    --agent names hosts of the inventory by a pattern, as --limit does; without it the state of this machine is meant.
    """


for command in (*EDITING, *TRANSFER):
    state.add_command(command)


@state.command("list")
@click.argument("only", metavar="[FILTER]", default="")
@state_source.state_options
def list_states(only: str, of: Asked) -> int:
    """List what is remembered.

    FILTER is a module (file), a type (file:copy), `orphaned` (what its site no longer names), `handler` (handlers that
    an interrupted run left to the next one), `lock` (the shared locks) or `shared` (the shared values).
    """
    if only == "lock":
        return _locks(of)
    if only == "shared":
        return _values(of)
    if only == "handler":
        return _handlers(of)
    module, _, kind = only.partition(":")
    orphaned = only == "orphaned"
    found = of.ask("list", orphaned=True) if orphaned else of.ask("list", module=module, type=kind)
    below = f" below {only}" if only and not orphaned else ""

    def show(rows: list[Row]) -> None:
        last = [ago(row["orphaned"]) if orphaned else row["task"] or "" for row in rows]
        cells = [
            (row["key"], ago(row["changed_at"]), ago(row["checked_at"]), end)
            for row, end in zip(rows, last, strict=True)
        ]
        _with_agents(("KEY", "CHANGED", "CHECKED", "ORPHANED" if orphaned else "TASK"), cells, found, rows)

    return of.answer(found, f"nothing is {'orphaned' if orphaned else 'remembered'} on {of.pattern}{below}", show)


def _with_agents(heads: Any, cells: Any, found: Any, rows: Any) -> None:
    """A table that names the agents when there are several."""
    if len(found) > 1:
        heads, cells = ("AGENT", *heads), [(row["agent"], *cell) for row, cell in zip(rows, cells, strict=True)]
    table(heads, cells)


@state.command()
@click.argument("key")
@state_source.state_options
def show(key: str, of: Asked) -> int:
    """Show one state: KEY is the whole key, or module:id when that is unique (user:john is user:create:john)."""
    found = of.ask("show", key=key)
    several = len(found) + len(of.errors) > 1
    rows = [
        {"agent": agent, **(rows[0] if several and len(rows) == 1 else one_of(of, agent, key, rows))}
        for agent, rows in found.items()
        if rows or not several
    ]
    if of.json:
        show_json(rows if several else rows[0])
        return of.status()
    for row in rows:
        _show_one(row, several)
    return of.status()


def _show_one(row: dict[str, Any], several: bool) -> None:
    click.secho(neutral(row["key"]) + (f" on {row['agent']}" if several else ""), bold=True)
    lines = [
        ("site", f"{row['place'] or row['site'] or '?'}, task {row['task']}"),
        ("owner", row["site"] or "?"),
        ("checksum", row["checksum"]),
        ("first seen", when(row["created_at"])),
        ("last changed", when(row["changed_at"])),
        ("last checked", when(row["checked_at"])),
        ("run", row["run"]),
        ("desired", json.dumps(row["desired"], sort_keys=True)),
        ("observed", json.dumps(row["observed"], sort_keys=True)),
    ]
    if row["orphaned"]:
        lines.append(("orphaned", when(row["orphaned"])))
    for name, value in lines:
        click.echo(f"  {name:<13} {neutral(str(value))}")
    for change in row["history"]:
        by = f"{change['who']} from {change['origin']}"
        click.echo(f"  {when(change['at'])}  {change['reason']}, run {change['run']}, {neutral(by)}")


@state.command()
@click.argument("key", default="")
@click.option("--run", metavar="RUN", help="Only what this run changed (the beginning of its id is enough; or last).")
@click.option("--diff", "-D", is_flag=True, help="Show how it changed.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The newest ones only.")
@state_source.state_options
def history(key: str, run: str | None, diff: bool, limit: int, of: Asked) -> int:
    """Show what changed, when, why, by which run and by whom; newest first.

    KEY narrows it to one state, as for `state show`; what was forgotten since is found by its whole key.
    """
    if key:
        matches = {row["key"] for rows in of.ask("match", key=key).values() for row in rows}
        if len(matches) > 1:
            one_of(of, of.pattern, key, [{"key": match} for match in sorted(matches)])
        key = next(iter(matches), key)
    found = of.ask("history", key=key, run=run, limit=limit)

    def show(rows: list[Row]) -> None:
        for row in rows:
            by = f"{row['who']} from {row['origin']}" if row["who"] else "?"
            agent = f"{row['agent']}  " if len(found) > 1 else ""
            click.secho(f"{when(row['at'])}  ", dim=True, nl=False)
            click.secho(neutral(agent + row["key"]), bold=True, nl=False)
            click.echo(neutral(f"  {row['reason']}, run {row['run']} of {row['site']}, {by}"))
            if diff:
                _show_diff(row["diff"] or {})

    return of.answer(found, f"no change of {key or 'anything'} is remembered on {of.pattern}", show)


def _show_diff(diff: dict[str, Any]) -> None:
    for text, style in diff_lines(diff):
        click.secho(f"    {neutral(text)}", fg=style or None)


@state.command("diff")
@click.argument("run_a")
@click.argument("run_b")
@state_source.state_options
def diff_runs(run_a: str, run_b: str, of: Asked) -> int:
    """Show what became different between the end of RUN_A and the end of RUN_B, whatever happened in between.

    Runs are named as in `runs list --agent`: by their id, the beginning of it, or `last`.
    """
    found = of.ask("between", first=run_a, last=run_b)

    def show(rows: list[Row]) -> None:
        for row in rows:
            click.secho((f"{row['agent']}  " if len(found) > 1 else "") + neutral(row["key"]), bold=True)
            _show_diff(row["diff"])

    return of.answer(found, f"nothing is different on {of.pattern}", show)


@state.command()
@state_source.state_options
def stats(of: Asked) -> int:
    """Show how much is remembered."""
    found = of.ask("stats")
    rows = list(with_agent(found))
    if of.json:
        show_json(rows if len(rows) + len(of.errors) > 1 else rows[0])
        return of.status()
    for row in rows:
        if len(rows) > 1:
            click.secho(row["agent"], bold=True)
        click.echo(f"file          {row['path'] or '(none yet)'}, {row['size']} bytes, format {row['version']}")
        click.echo(f"states        {row['resources']}" + (f", {row['orphaned']} orphaned" if row["orphaned"] else ""))
        for kind, count in row["types"].items():
            click.echo(f"  {kind:<20} {count}")
        click.echo(f"history       {row['history']} changes in {row['runs']} runs")
        click.echo(f"contents      {row['contents']} kept, {row['contents_size']} bytes")
        if row["handlers"]:
            click.echo(f"handlers      {row['handlers']} still to run")
        click.echo(f"last changed  {when(row['last_changed_at'])}")
        click.echo(f"last checked  {when(row['last_checked_at'])}")
    return of.status()


def _handlers(of: Asked) -> int:
    found = of.ask("handlers")

    def show(rows: list[Row]) -> None:
        cells = [(row["name"], row["site"], row["task"], row["key"], ago(row["since"])) for row in rows]
        _with_agents(("HANDLER", "SITE", "TASK", "BECAUSE OF", "SINCE"), cells, found, rows)

    return of.answer(found, "no handler waits", show)


def _locks(of: Asked) -> int:
    locks = Shared().locks()
    if of.json:
        show_json(locks)
    elif not locks:
        click.echo("no lock is held")
    else:
        left = [(lock["name"], lock["holder"], f"{lock['expires'] - time.time():.0f} s") for lock in locks]
        table(("LOCK", "HOLDER", "EXPIRES IN"), left)
    return 0


def _values(of: Asked) -> int:
    shared = Shared()
    values = [{"name": name, "value": shared.get(name)} for name in shared.list()]
    if of.json:
        show_json(values)
    elif not values:
        click.echo("no value is shared")
    else:
        table(("NAME", "VALUE"), [(row["name"], json.dumps(row["value"])) for row in values])
    return 0
