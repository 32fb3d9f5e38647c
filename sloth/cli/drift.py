"""`sloth-runner drift`: what no longer matches the records of hosts, without a site."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sloth.cli import backend_option, credentials, parameters
from sloth.cli.output import exit_status, warn, write_diff, write_json
from sloth.cli.syncing import deliver, fetch_accounts
from sloth.engine import custom
from sloth.engine.drift import Answers, applied_and_found, look_for_drift
from sloth.engine.query import Agent, Query
from sloth.errors import SlothError, Unreachable
from sloth.frozen import frozen
from sloth.inventory import Host
from sloth.report.text import hosts, neutral
from sloth.state.queries import Drift, DriftStatus
from sloth.state.storage import Storage

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject


class _Status(StrEnum):
    CLEAN = "clean"
    DRIFT = "drift"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


def agents_of(selected: Sequence[Host], storage: Storage) -> list[Agent]:
    """Return the agents of these hosts: the account of the login (or become), and others that runs have worked as."""
    fetch_accounts(storage, [host.name for host in selected])
    memory = storage.memory()
    try:
        return [Agent(host, account) for host in selected for account in ("", *memory.accounts(host.name))]
    finally:
        memory.close()


def find_drift(pattern: str | Sequence[str], inventory: tuple[str, ...], query: Query) -> Answers:
    """Look for drift on all agents of the hosts that `pattern` selects, and record what was found."""
    everything = parameters.read_inventory(inventory)
    selected = parameters.select(everything, pattern, "--limit")
    storage = backend_option.storage(everything)
    query = dataclasses.replace(query, storage=storage)
    limit = pattern if isinstance(pattern, str) else ",".join(pattern)
    about: JsonObject = {
        "command": ["drift", "--limit", limit],
        "inventory": [str(path) for path in everything.paths],
        "limit": "" if limit == "all" else limit,
    }
    answers = asyncio.run(look_for_drift(agents_of(selected, storage), query, about))
    deliver(storage)
    return answers


@click.command()
@parameters.INVENTORY
@parameters.LIMIT
@parameters.TABLE_OR_JSON
@click.option("-D", "--diff", is_flag=True, help="Show the differences: - as it was applied, + as it was found.")
@click.option("--exit-code", is_flag=True, help="Exit with status 3 when there is drift.")
@parameters.MODULES
@parameters.PASSWORDS
@parameters.FORKS
@backend_option.BACKEND
def drift(
    inventory: tuple[str, ...],
    limit: tuple[str, ...],
    output: str,
    diff: bool,
    exit_code: bool,
    modules: str | None,
    forks: int,
) -> int:
    """Show what no longer matches what was last applied. No site is needed, and nothing is changed.

    Every recorded state of the hosts is compared. What is frozen is listed apart, and is no drift.

    Exit status: 0; 1 when a host failed; 3 when there is drift (with --exit-code); 4 when a host was unreachable.
    """
    query = Query(
        passwords=credentials.passwords(),
        forks=forks,
        warn=warn,
        custom=custom.load(*parameters.modules_directories(modules, Path.cwd())),
    )
    answers = find_drift(parameters.words(limit, "--limit") or "all", inventory, query)
    found = [_Findings.read(name, answer) for name, answer in answers.items()]
    if output == "json":
        write_json(_document(found))
    else:
        _show(found, diff)
    status = exit_status([one.error for one in found if one.error is not None])
    return status or (3 if exit_code and any(one.drift for one in found) else 0)


@frozen
class _Findings:
    """What was found of one agent: how many states there are, and which drifted, cannot be compared, or are frozen."""

    agent: str
    error: SlothError | None = None
    states: int = 0
    drift: Sequence[Drift] = ()
    unknown: Sequence[Drift] = ()
    frozen: Sequence[Drift] = ()

    @classmethod
    def read(cls, agent: str, answer: list[Drift] | SlothError) -> _Findings:
        if isinstance(answer, SlothError):
            return cls(agent, answer)
        drift = [row for row in answer if row.status is DriftStatus.DRIFT]
        unknown = [row for row in answer if row.status is DriftStatus.UNKNOWN]
        held = [row for row in answer if row.status is DriftStatus.FROZEN]
        clean = sum(row.count for row in answer if row.status is DriftStatus.CLEAN)
        return cls(agent, None, clean + len(drift) + len(unknown) + len(held), drift, unknown, held)

    @property
    def status(self) -> _Status:
        if self.error is not None:
            return _Status.UNREACHABLE if isinstance(self.error, Unreachable) else _Status.FAILED
        return _Status.DRIFT if self.drift else _Status.CLEAN

    def document(self) -> JsonObject:
        return {
            "status": self.status,
            "error": None if self.error is None else str(self.error),
            "states": self.states,
            "drift": [_row(row) for row in self.drift],
            "unknown": [_row(row) for row in self.unknown],
            "frozen": [_row(row) for row in self.frozen],
        }


def _row(row: Drift) -> JsonObject:
    return {name: value for name, value in row.shown().items() if name not in ("status", "count")}


def _document(found: Sequence[_Findings]) -> JsonObject:
    summary = {
        "hosts": len(found),
        "states": sum(one.states for one in found),
        "drift": sum(len(one.drift) for one in found),
        "unknown": sum(len(one.unknown) for one in found),
        "frozen": sum(len(one.frozen) for one in found),
        "failed": sum(one.status is _Status.FAILED for one in found),
        "unreachable": sum(one.status is _Status.UNREACHABLE for one in found),
    }
    return {"version": 1, "summary": summary, "hosts": {one.agent: one.document() for one in found}}


def _show(found: Sequence[_Findings], diff: bool) -> None:
    for one in found:
        if one.error is not None:
            click.secho(neutral(f"{one.status.value:<11}  {one.agent}: {one.error}"), fg="red", err=True)
        for row in one.drift:
            click.secho(neutral(f"drift        {one.agent}  {row.key}: {row.msg or ', '.join(row.diff)}"), fg="yellow")
            click.secho(neutral(f"             applied {_origin(row)}"), dim=True)
            if diff:
                write_diff(applied_and_found(row.diff))
        for row in one.unknown:
            click.secho(neutral(f"unknown      {one.agent}  {row.key}: {row.msg}"), fg="magenta")
        for row in one.frozen:
            differs = f"; differs: {', '.join(row.diff)}" if row.diff else ""
            click.secho(neutral(f"frozen       {one.agent}  {row.msg}{differs}"), fg="cyan")
            if diff and row.diff:
                write_diff(applied_and_found(row.diff))
    answered = [one for one in found if one.error is None]
    if answered:
        states, drifted = sum(one.states for one in answered), sum(len(one.drift) for one in answered)
        text = f"{drifted} of {states} states have drifted" if drifted else f"{states} states, none has drifted"
        click.secho(f"{hosts(one.agent for one in answered)}: {text}", bold=True)


def _origin(row: Drift) -> str:
    """Return which line and run have applied it. Only a record that a rollback has restored has no run."""
    return f"by {row.place or row.site}, " + (f"run {row.run}" if row.run else "restored by a rollback")
