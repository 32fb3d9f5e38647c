"""`sloth-runner runs`: lists runs, and shows what they changed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sloth.cli import backend_option, parameters
from sloth.cli.completed import Completed, completed
from sloth.cli.output import format_age, format_time, write_json, write_table
from sloth.cli.state_source import Rows, Source
from sloth.cli.syncing import fetch_runs
from sloth.errors import StateError
from sloth.report.text import hosts, neutral
from sloth.state import queries
from sloth.state.memory import Memory
from sloth.state.queries import RunEntry
from sloth.state.run_records import RunRecord, RunResult
from sloth.state.storage import Storage

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

ENDS = {0: "done", 1: "failed", 2: "usage error", 3: "done", 4: "unreachable", 130: "interrupted"}


_OTHERS = ("unreachable", "ignored", "rescued", "retried", "skipped", "unknown", "frozen")
_COLOURS = {"failed": "red", "unreachable": "red", "ignored": "cyan", "rescued": "cyan", "retried": "cyan"}


@click.group()
def runs() -> None:
    """Show the runs of this controller, or those that hosts have recorded."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Show only the newest runs.")
@click.option("--agent", metavar="PATTERN", help="The runs that these hosts have recorded, of any controller.")
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.TABLE_OR_JSON
def list_runs(limit: int, agent: str | None, inventory: tuple[str, ...], output: str) -> int:
    """List the newest runs: when they started, which site, by whom, and how they ended."""
    if agent is not None:
        return _list_of_hosts(Source(agent, inventory=inventory, json=output == "json"), limit)
    storage = backend_option.storage_without_hosts(inventory)
    fetch_runs(storage)
    memory = storage.memory()
    found = memory.runs.newest(limit)
    memory.close()
    if output == "json":
        write_json([_document(run) for run in found])
    elif not found:
        click.echo("no run is recorded")
    else:
        write_table(
            ("RUN", "STARTED", "SITE", "BY", "HOSTS", "CHANGED", "FAILED", "OTHER", "END"),
            [
                (run.run, format_age(run.started), run.site, _by(run), run.hosts,
                 _number(run.changed), _number(run.failed), _others(run), _end(run))
                for run in found
            ],
        )  # fmt: skip
    return 0


def _list_of_hosts(source: Source, limit: int) -> int:
    def write(rows: Rows[RunEntry], several: bool) -> None:
        cells = [
            (agent, run.run, format_age(run.started), run.site, f"{run.who} from {run.origin}",
             run.changes, "" if run.finished else "not finished")
            for agent, run in rows
        ]  # fmt: skip
        write_table(("AGENT", "RUN", "STARTED", "SITE", "BY", "CHANGES", ""), cells)

    return source.write_answers(
        source.query(queries.list_runs(limit)), f"no run is recorded on {source.pattern}", write
    )


@runs.command()
@click.argument("run", shell_complete=completed(Completed.RUNS))
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@parameters.TABLE_OR_JSON
def show(run: str, inventory: tuple[str, ...], output: str) -> None:
    """Show one run of this controller, and what it changed. RUN is its id, the beginning of it, or `last`."""
    storage = backend_option.storage_without_hosts(inventory)
    memory = storage.memory()
    try:
        found = find_run(storage, memory, run)
        results = memory.runs.results(found.run)
    finally:
        memory.close()
    if output == "json":
        write_json({**_document(found), "results": [_result(result) for result in results]})
        return
    click.secho(neutral(f"run {found.run}"), bold=True)
    seconds = f", {found.seconds:.1f} s" if found.seconds is not None else ""
    for name, value in (
        ("site", found.site),
        ("by", _by(found)),
        ("started", format_time(found.started) + seconds),
        ("hosts", str(found.hosts)),
        ("plan", _plan(found)),
        ("values", _values(found)),
        ("counts", _counts(found)),
        ("end", _end(found)),
    ):
        if value:
            click.echo(f"  {name:<8} {neutral(value)}")
    _show_results(results)


def find_run(storage: Storage, memory: Memory, name: str) -> RunRecord:
    """Return the run that `name` means, after those of other controllers were fetched. Raises StateError."""
    fetch_runs(storage)
    try:
        return memory.runs.find(name)
    except StateError:
        if storage.location is None or name == "last":
            raise
    fetch_runs(storage, name)  # it may be older than those that are fetched without being named
    return memory.runs.find(name)


def _about(run: RunRecord) -> JsonObject:
    """Return how a run was called; nothing for a run that did not record it."""
    about = json.loads(run.about) if run.about else {}
    return about if isinstance(about, dict) else {}


def _by(run: RunRecord) -> str:
    """Return who made a run, and from where if it was not this controller."""
    if run.source is None:
        return run.who
    about = _about(run)
    place = about.get("job") or about.get("origin")
    return f"{run.who} from {place}" if place else f"{run.who} (elsewhere)"


def _plan(run: RunRecord) -> str:
    """Return the id of the saved plan that a run applied, "" for none."""
    return str(_about(run).get("plan") or "")


def _values(run: RunRecord) -> str:
    """Return the values of -e and --values that a run was given."""
    about = _about(run)
    used = about.get("used")
    if not isinstance(used, dict):
        return ", ".join(map(str, about.get("values", ())))  # of a version that recorded the names only
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in used.items())


def _document(run: RunRecord) -> dict[str, object]:
    return {**asdict(run), "about": json.loads(run.about) if run.about else None}


def _result(result: RunResult) -> dict[str, object]:
    return {**asdict(result), "diff": json.loads(result.diff) if result.diff else None}


def _show_results(results: list[RunResult]) -> None:
    """Write results; those that differ in their hosts only are one line."""
    folded: dict[tuple[str, str, str, str | None, str], list[str]] = {}
    for row in results:
        folded.setdefault((row.status, row.key, row.reason, row.task, row.error), []).append(row.host)
    for (status, key, reason, task, error), names in folded.items():
        what = key + (f" ({reason})" if reason else "")
        parts = [f"{status:<9}", what, f"task {task}" if task else "", hosts(names)]
        click.secho(neutral("  ".join(filter(None, parts))), fg=_COLOURS.get(status, "yellow"))
        if error:
            indented = error.replace("\n", "\n" + " " * 11)
            click.secho(neutral(f"           {indented}"), fg="red")
    if not results:
        click.echo("nothing changed")


def _counts(run: RunRecord) -> str:
    """Return the counts of a run as its own report has them."""
    if run.changed is None:
        return "not known"
    parts = [f"{run.changed} changed"]
    parts += [f"{run.unchanged} unchanged"] if run.unchanged is not None else []
    parts += [f"{run.failed} failed"] if run.failed else []
    return ", ".join(filter(None, [*parts, _others(run)]))


def _others(run: RunRecord) -> str:
    """Return the counts that most runs do not have."""
    return ", ".join(f"{value} {name}" for name in _OTHERS if (value := getattr(run, name)))


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def _end(run: RunRecord) -> str:
    return "not finished" if run.status is None else ENDS.get(run.status, str(run.status))
