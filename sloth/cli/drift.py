"""`sloth-runner drift`: what is no longer as it was applied, on hosts, without a site."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from sloth.cli import parameters
from sloth.cli.state_source import show_json
from sloth.engine import custom
from sloth.engine.query import Agent, Query
from sloth.errors import SlothError, Unreachable
from sloth.inventory import Host
from sloth.report.text import diff_lines, hosts, neutral
from sloth.state.memory import Memory

Rows = list[dict[str, Any]]


def agents_of(selected: Sequence[Host]) -> list[Agent]:
    """The states of these hosts: of the account we log in as (or become), and of others that runs have worked as."""
    memory = Memory()
    try:
        return [Agent(host, account) for host in selected for account in ("", *memory.accounts(host.name))]
    finally:
        memory.close()


def survey(
    pattern: str | tuple[str, ...], inventory: str | None, query: Query | None = None
) -> dict[str, Rows | SlothError]:
    """Ask agents what has drifted; the rows of payload.survey, or an error, by the agent's name."""
    selected = parameters.select(parameters.read_inventory(inventory), pattern, "--limit")

    async def question(agent: Agent, session: Any) -> Rows:
        rows: Rows = await session.query("drift", {})
        return rows

    return asyncio.run((query or Query()).each(agents_of(selected), question))


def differences(answers: dict[str, Rows | SlothError]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What has drifted, with the name of its agent."""
    for name, answer in answers.items():
        for row in [] if isinstance(answer, SlothError) else answer:
            if row["status"] == "drift":
                yield name, row


@click.command()
@parameters.INVENTORY
@parameters.LIMIT
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("-D", "--diff", is_flag=True, help="Show what differs, texts line by line: - as applied, + as found.")
@click.option("--exit-code", is_flag=True, help="Exit with 3 when something has drifted.")
@parameters.MODULES
@parameters.ASK_PASSWORD
@parameters.FORKS
def drift(
    inventory: str | None,
    limit: tuple[str, ...],
    output: str,
    diff: bool,
    exit_code: bool,
    modules: str | None,
    ask_become_pass: bool,
    forks: int,
) -> int:
    """Show what is no longer as it was last applied. It needs no site, and changes nothing.

    Every recorded state of the hosts is looked at. Exit status: 0, 1 when a host failed, 3 when something has drifted
    (with --exit-code), 4 when a host was unreachable.
    """
    query = Query(
        become_password=parameters.ask_password() if ask_become_pass else None,
        forks=forks,
        custom=custom.load(parameters.modules_directory(modules, Path.cwd())),
    )
    answers = survey(parameters.words(limit) or "all", inventory, query)
    told = {name: _told(answer) for name, answer in answers.items()}
    drifted = sum(len(entry["drift"]) for entry in told.values())
    if output == "json":
        summary = {
            "hosts": len(told),
            "states": sum(entry["states"] for entry in told.values()),
            "drift": drifted,
            "unknown": sum(len(entry["unknown"]) for entry in told.values()),
            "failed": sum(entry["status"] == "failed" for entry in told.values()),
            "unreachable": sum(entry["status"] == "unreachable" for entry in told.values()),
        }
        show_json({"version": 1, "summary": summary, "hosts": told})
    else:
        _show(told, diff)
    statuses = {entry["status"] for entry in told.values()}
    if "failed" in statuses:
        return 1
    return 4 if "unreachable" in statuses else 3 if drifted and exit_code else 0


def _told(answer: Rows | SlothError) -> dict[str, Any]:
    """One agent's part of the document."""
    entry: dict[str, Any] = {"status": "clean", "error": None, "states": 0, "drift": [], "unknown": []}
    if isinstance(answer, SlothError):
        entry.update(status="unreachable" if isinstance(answer, Unreachable) else "failed", error=str(answer))
        return entry
    for row in answer:
        if row["status"] == "clean":
            entry["states"] += row["count"]
            continue
        entry["states"] += 1
        entry[row["status"]].append({name: value for name, value in row.items() if name != "status"})
    if entry["drift"]:
        entry["status"] = "drift"
    return entry


def _show(told: dict[str, dict[str, Any]], diff: bool) -> None:
    for name, entry in told.items():
        if entry["error"]:
            click.secho(neutral(f"{entry['status']:<11}  {name}: {entry['error']}"), fg="red", err=True)
        for row in entry["drift"]:
            what = row["msg"] or ", ".join(attribute for attribute in row["diff"])
            click.secho(neutral(f"drift        {name}  {row['key']}: {what}"), fg="yellow")
            click.secho(neutral(f"             applied by {row['place'] or row['site']}, run {row['run']}"), dim=True)
            for text, style in diff_lines(_before_after(row["diff"])) if diff else ():
                click.secho(f"    {neutral(text)}", fg=style or None)
        for row in entry["unknown"]:
            click.secho(neutral(f"unknown      {name}  {row['key']}: {row['msg']}"), fg="magenta")
    answered = [name for name, entry in told.items() if not entry["error"]]
    states = sum(entry["states"] for entry in told.values())
    drifted = sum(len(entry["drift"]) for entry in told.values())
    if answered:
        found = f"{drifted} of {states} states have drifted" if drifted else f"{states} states, none has drifted"
        click.secho(f"{hosts(answered)}: {found}", bold=True)


def _before_after(diff: dict[str, Any]) -> dict[str, Any]:
    """The diff in the words of a run's: as applied is before, as found is after."""
    shown = {}
    for name, entry in diff.items():
        shown[name] = {"before": entry["applied"], "after": entry["found"]}
        if "unified" in entry:
            text = entry["unified"].replace("--- before", "--- applied", 1)
            shown[name]["unified"] = text.replace("+++ after", "+++ found", 1)
    return shown
