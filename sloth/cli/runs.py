"""`sloth-runner runs`: which runs there were, and what became of them."""

from __future__ import annotations

from typing import Any

import click

from sloth.cli import state_source
from sloth.cli.state_source import Asked, ago, show_json, table, when
from sloth.report.text import hosts, neutral
from sloth.state.memory import Memory

ENDS = {0: "done", 1: "failed", 3: "done", 4: "unreachable", 130: "interrupted"}


@click.group()
def runs() -> None:
    """Look at the runs of this controller, or those that a host has seen."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest ones only.")
@click.option("--agent", metavar="PATTERN", help="The runs that these hosts have seen, from whatever controller.")
@click.option("-i", "--inventory", metavar="FILE", help="The inventory that names the agent.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def list_runs(limit: int, agent: str | None, inventory: str | None, output: str) -> int:
    """List the newest runs: when, which site, by whom, and how they ended."""
    if agent is not None:
        return _of_hosts(Asked(agent, inventory=inventory, json=output == "json"), limit)
    memory = Memory()
    found = memory.runs(limit)
    memory.close()
    if output == "json":
        show_json(found)
    elif not found:
        click.echo("no run is remembered")
    else:
        table(
            ("RUN", "STARTED", "SITE", "BY", "HOSTS", "CHANGED", "FAILED", "END"),
            [
                (row["run"], ago(row["started"]), row["site"], row["who"], row["hosts"],
                 _number(row["changed"]), _number(row["failed"]), _end(row["status"]))
                for row in found
            ],
        )  # fmt: skip
    return 0


def _of_hosts(of: Asked, limit: int) -> int:
    found = of.ask("runs", limit=limit)

    def show_rows(rows: list[state_source.Row]) -> None:
        cells = [
            (row["agent"], row["run"], ago(row["started"]), row["site"], f"{row['who']} from {row['origin']}",
             row["changes"], "" if row["finished"] else "not finished")
            for row in rows
        ]  # fmt: skip
        table(("AGENT", "RUN", "STARTED", "SITE", "BY", "CHANGES", ""), cells)

    return of.answer(found, f"no run is remembered on {of.pattern}", show_rows)


@runs.command()
@click.argument("run")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def show(run: str, output: str) -> None:
    """Show one run of this controller: RUN is its id, the beginning of it, or `last`."""
    memory = Memory()
    try:
        found = memory.run(run)
    finally:
        memory.close()
    if output == "json":
        show_json(found)
        return
    click.secho(f"run {found['run']}", bold=True)
    seconds = f", {found['seconds']:.1f} s" if found["seconds"] is not None else ""
    for name, value in (
        ("site", found["site"]),
        ("by", found["who"]),
        ("started", when(found["started"]) + seconds),
        ("hosts", found["hosts"]),
        ("end", _end(found["status"])),
    ):
        click.echo(f"  {name:<8} {neutral(str(value))}")
    folded: dict[tuple[Any, ...], list[str]] = {}
    for row in found["results"]:
        what = (row["status"], row["key"], row["reason"], row["task"], row["error"])
        folded.setdefault(what, []).append(row["host"])
    for (status, key, reason, task, error), names in folded.items():
        why = f" ({reason})" if reason else ""
        colour = "red" if status == "failed" else "yellow"
        click.secho(neutral(f"{status:<9}  {key}{why}  task {task}  {hosts(names)}"), fg=colour)
        if error:
            click.secho(neutral(f"           {error}"), fg="red")
    if not found["results"]:
        click.echo("nothing changed")


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def _end(status: int | None) -> str:
    return "not finished" if status is None else ENDS.get(status, str(status))
