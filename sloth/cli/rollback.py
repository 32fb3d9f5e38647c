"""`sloth-runner rollback`: takes back what a run has changed."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import click

from sloth.cli import backend_option, credentials, parameters
from sloth.cli.completed import Completed, completed
from sloth.cli.drift import agents_of
from sloth.cli.output import confirm, count, exit_status, warn, write_diff, write_error, write_json
from sloth.cli.syncing import deliver, fetch_runs
from sloth.engine import custom
from sloth.engine.query import Agent, Query
from sloth.errors import SlothError, StateError, StateNotFound, UsageError
from sloth.report.text import neutral
from sloth.state import queries
from sloth.state.queries import Restored, RestoreStatus
from sloth.state.storage import Storage

Answers = Mapping[str, list[Restored] | SlothError]  # by the agent's name
RUN_ID = 22  # characters of a whole id
COLOURS = {
    RestoreStatus.PLANNED: "yellow",
    RestoreStatus.DONE: "yellow",
    RestoreStatus.REFUSED: "magenta",
    RestoreStatus.FAILED: "red",
}
WORDS = {
    RestoreStatus.PLANNED: "would restore",
    RestoreStatus.DONE: "restored",
    RestoreStatus.REFUSED: "not restored",
    RestoreStatus.FAILED: "failed",
}
HANDLER_WORDS = {
    RestoreStatus.PLANNED: "would run",
    RestoreStatus.DONE: "ran",
    RestoreStatus.REFUSED: "not run",
    RestoreStatus.FAILED: "failed",
}


@click.command()
@click.argument("run", shell_complete=completed(Completed.RUNS))
@parameters.INVENTORY
@parameters.LIMIT
@parameters.CHECK
@parameters.DIFF
@click.option("--force", is_flag=True, help="Also restore what has changed since the run.")
@parameters.YES
@parameters.TABLE_OR_JSON
@parameters.MODULES
@parameters.PASSWORDS
@parameters.FORKS
@backend_option.BACKEND
def rollback(
    run: str,
    inventory: tuple[str, ...],
    limit: tuple[str, ...],
    check: bool,
    diff: bool,
    force: bool,
    yes: bool,
    output: str,
    modules: str | None,
    forks: int,
) -> int:
    """Take back what a run has changed.

    Files, attributes, accounts, and packages that it installed return to their former state, the last change first. RUN
    is its id, the beginning of it, or `last`, the newest that changed something (see `sloth-runner runs list`). The
    plan is shown before you are asked. What handlers did for the changes, such as restarting a daemon, is done again.

    What has changed since the run is left alone (unless --force), and so is what cannot be restored: actions, accounts
    and directories that were removed, and content that was too large to keep or contained secrets. Each is listed, with
    the reason.

    Exit status: 0 when all was restored (or, with --check, could be), 1 when something was not, 4 when a host was
    unreachable.
    """
    everything = parameters.read_inventory(inventory)
    storage = backend_option.storage(everything)
    if run == "last" or len(run) < RUN_ID:
        run = _find_run(run, storage)
    query = Query(
        passwords=credentials.passwords(),
        forks=forks,
        custom=custom.load(*parameters.modules_directories(modules, Path.cwd())),
        storage=storage,
    )
    agents = agents_of(parameters.limited(everything, limit), storage)
    answers = _roll_back(agents, query, run, check=True, force=force)
    able = [agent for agent in agents if _count(answers, agent.name, RestoreStatus.PLANNED)]
    if not check and output != "json" and not yes:
        _show(answers, diff)
    if not check and able:
        confirm(_question(answers, able), yes)
        new_run = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)
        query = Query(
            write=True, run=new_run, site=f"rollback of {run}", forks=forks, custom=query.custom,
            passwords=query.passwords, storage=storage, warn=warn,
        )  # fmt: skip
        answers = {**answers, **_roll_back(able, query, run, force=force)}
        deliver(storage)
    if output == "json":
        hosts = {name: _document(answer) for name, answer in answers.items()}
        write_json({"version": 1, "run": run, "check": check, "hosts": hosts})
    elif check or yes or any(_count(answers, name, RestoreStatus.DONE) for name in answers):
        _show(answers, diff and (check or yes))
    return _status(answers, run)


def _find_run(name: str, storage: Storage) -> str:
    fetch_runs(storage)
    memory = storage.memory()
    try:
        if name != "last":
            return memory.runs.find(name).run
        newest = memory.runs.find("last")
        for run in memory.runs.newest(-1):
            if run.changed != 0:  # None: it did not come to its end
                if run.source is not None:
                    raise StateError(
                        f"the newest run that changed something is {run.run} of {run.site}, by {run.who} elsewhere",
                        hint="name the run whose changes are to be taken back",
                    )
                if run.run != newest.run:
                    click.echo(f"the newest run that changed something is {run.run} of {run.site}", err=True)
                return run.run
        raise StateError("no run has changed anything, so there is nothing to restore")
    except StateError:
        if name == "last":
            raise
        return name  # it may be another controller's, which the hosts know
    finally:
        memory.close()


def _roll_back(agents: list[Agent], query: Query, run: str, *, check: bool = False, force: bool) -> Answers:
    """Return what every agent answers; those that know nothing of the run, or have nothing to restore, are left out."""
    answers = asyncio.run(query.states(agents, queries.roll_back(run, check=check, force=force)))
    return {name: answer for name, answer in answers.items() if answer and not isinstance(answer, StateNotFound)}


def _rows(answer: list[Restored] | SlothError | None) -> list[Restored]:
    return answer if isinstance(answer, list) else []


def _count(answers: Answers, agent: str, status: RestoreStatus) -> int:
    """Return how many changes of an agent have a status."""
    return sum(row.status is status and not row.handler for row in _rows(answers.get(agent)))


def _question(answers: Answers, able: list[Agent]) -> str:
    planned = sum(_count(answers, agent.name, RestoreStatus.PLANNED) for agent in able)
    changes = sum(not row.handler for answer in answers.values() for row in _rows(answer))
    return f"Restore {planned} of {count(changes, 'change')} on {count(len(able), 'host')}?"


def _document(answer: list[Restored] | SlothError) -> dict[str, object]:
    error = str(answer) if isinstance(answer, SlothError) else None
    return {"error": error, "changes": [row.shown() for row in _rows(answer)]}


def _show(answers: Answers, diff: bool) -> None:
    for name, answer in answers.items():
        if isinstance(answer, SlothError):
            write_error(name, answer)
        for row in _rows(answer):
            why = f": {row.msg}" if row.msg else ""
            word = (HANDLER_WORDS if row.handler else WORDS)[row.status]
            of = f" (handler {row.handler})" if row.handler else ""
            click.secho(neutral(f"{word:<13}  {name}  {row.key}{of}{why}"), fg=COLOURS[row.status])
            if diff:
                write_diff(row.diff)


def _status(answers: Answers, run: str) -> int:
    if not answers:
        raise UsageError(f"no host has a change by run {run}", hint="see sloth-runner runs list")
    rows = [row for answer in answers.values() for row in _rows(answer)]
    if any(row.status in (RestoreStatus.REFUSED, RestoreStatus.FAILED) for row in rows):
        return 1
    return exit_status([answer for answer in answers.values() if isinstance(answer, SlothError)])
