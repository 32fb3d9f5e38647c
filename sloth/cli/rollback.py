"""`sloth-runner rollback`: takes back what a run has changed."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import Any

import click

from sloth.cli import parameters
from sloth.cli.drift import agents_of
from sloth.cli.state_source import confirm, named, show_json, warn
from sloth.engine import custom
from sloth.engine.query import Agent, Query
from sloth.errors import SlothError, StateError, Unreachable, UsageError
from sloth.report.text import diff_lines, neutral

Rows = list[dict[str, Any]]
COLOURS = {"planned": "yellow", "done": "yellow", "refused": "magenta", "failed": "red"}
RUN_ID = 22  # characters of a whole id
WORDS = {"planned": "would restore", "done": "restored", "refused": "left", "failed": "failed"}


@click.command()
@click.argument("run")
@parameters.INVENTORY
@parameters.LIMIT
@parameters.CHECK
@click.option("-D", "--diff", is_flag=True, help="Show what changes in files and attributes.")
@click.option("--force", is_flag=True, help="Restore also what has changed since.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@parameters.MODULES
@parameters.ASK_PASSWORD
@parameters.FORKS
def rollback(
    run: str,
    inventory: str | None,
    limit: tuple[str, ...],
    check: bool,
    diff: bool,
    force: bool,
    yes: bool,
    output: str,
    modules: str | None,
    ask_become_pass: bool,
    forks: int,
) -> int:
    """Take back what a run has changed.

    Files, attributes, accounts, packages that it installed go back to what they were, last first. RUN is its id, the
    beginning of it, or `last` (see `sloth-runner runs list`). The plan is shown, then you are asked.

    What has changed since is left alone (unless --force), and so is what cannot be undone: actions, accounts and
    directories that were removed, contents that were too large to keep, or held secrets. Each is listed, with why.

    Exit status: 0 all was restored (or, with --check, could be), 1 something was left or failed, 4 a host was
    unreachable.
    """
    if run == "last" or len(run) < RUN_ID:
        run = _resolved(run)
    query = Query(
        become_password=parameters.ask_password() if ask_become_pass else None,
        forks=forks,
        custom=custom.load(parameters.modules_directory(modules, Path.cwd())),
    )
    agents = agents_of(
        parameters.select(parameters.read_inventory(inventory), parameters.words(limit) or "all", "--limit")
    )
    plan = _ask(agents, query, {"run": run, "check": True, "force": force})
    concerned = [agent for agent in agents if plan.get(agent.name)]
    if not check:
        if output != "json" and not yes:
            _show(plan, diff)
        able = {
            name: sum(row["status"] == "planned" for row in rows)
            for name, rows in plan.items()
            if not isinstance(rows, SlothError)
        }
        total = sum(able.values())
        if total:
            confirm(f"Restore {total} of {_length(plan)} on {sum(map(bool, able.values()))} host(s)?", yes)
            new_run = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)
            writing = Query(
                write=True, run=new_run, site=f"rollback of {run}", forks=forks, custom=query.custom,
                become_password=query.become_password, warn=warn,
            )  # fmt: skip
            able_agents = [agent for agent in concerned if able.get(agent.name)]
            plan = {**plan, **_ask(able_agents, writing, {"run": run, "force": force})}
    if output == "json":
        told = {name: _entry(rows) for name, rows in plan.items()}
        show_json({"version": 1, "run": run, "check": check, "hosts": told})
    elif check or yes or any(row["status"] == "done" for rows in plan.values() for row in _rows(rows)):
        _show(plan, diff and (check or yes))
    return _status(plan, run)


def _resolved(name: str) -> str:
    from sloth.state.memory import Memory

    memory = Memory()
    try:
        return str(memory.run(name)["run"])
    except StateError:
        if name == "last":
            raise
        return name  # another controller's, perhaps: the hosts know
    finally:
        memory.close()


def _ask(agents: list[Agent], query: Query, args: dict[str, Any]) -> dict[str, Rows | SlothError]:
    """What hosts say; those that know nothing of the run are left out."""

    async def question(agent: Agent, session: Any) -> Rows:
        try:
            rows: Rows = await session.query("rollback", args)
        except StateError as error:
            if "there is no run" in error.message:
                return []
            raise
        return rows

    answers = asyncio.run(query.each(agents, question))
    return {name: answer for name, answer in answers.items() if answer}


def _rows(answer: Rows | SlothError) -> Rows:
    return [] if isinstance(answer, SlothError) else answer


def _length(plan: dict[str, Rows | SlothError]) -> str:
    count = sum(len(_rows(rows)) for rows in plan.values())
    return f"{count} change{'s' * (count != 1)}"


def _entry(answer: Rows | SlothError) -> dict[str, Any]:
    if isinstance(answer, SlothError):
        return {"error": str(answer), "changes": []}
    return {"error": None, "changes": answer}


def _show(plan: dict[str, Rows | SlothError], diff: bool) -> None:
    for name, answer in plan.items():
        if isinstance(answer, SlothError):
            click.secho(named(name, answer), fg="red", err=True)
        for row in _rows(answer):
            why = f": {row['msg']}" if row["msg"] else ""
            text = f"{WORDS[row['status']]:<13}  {name}  {row['key']}{why}"
            click.secho(neutral(text), fg=COLOURS[row["status"]])
            for line, style in diff_lines(row["diff"] or {}) if diff else ():
                click.secho(f"    {neutral(line)}", fg=style or None)


def _status(plan: dict[str, Rows | SlothError], run: str) -> int:
    errors = [answer for answer in plan.values() if isinstance(answer, SlothError)]
    if not plan:
        raise UsageError(f"no host knows of a change by run {run}", hint="sloth-runner runs list shows the runs")
    left = any(row["status"] in ("refused", "failed") for answer in plan.values() for row in _rows(answer))
    if left or any(not isinstance(error, Unreachable) for error in errors):
        return 1
    return 4 if errors else 0
