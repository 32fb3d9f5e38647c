"""`sloth-runner state freeze` and `unfreeze`: what runs shall leave alone for a while."""

from __future__ import annotations

import fnmatch
import json
import re
import time

import click

from sloth.cli.output import format_date
from sloth.cli.state_source import Source, state_options
from sloth.errors import StateError, UsageError
from sloth.report.text import neutral
from sloth.state import queries

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")


def read_until(text: str) -> tuple[int | None, float | None]:
    """Return the time (epoch seconds) or the seconds from now that a text stands for. Raises UsageError."""
    duration = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([mhdw])\s*", text)
    if duration:
        return None, float(duration[1]) * _UNITS[duration[2]]
    for form in _FORMATS:
        try:
            return int(time.mktime(time.strptime(text.strip(), form))), None
        except (ValueError, OverflowError):
            continue
    raise UsageError(
        f"--until {text!r} is no time", hint='such as 2026-12-01, "2026-12-01 18:00", or from now: 30m, 12h, 3d, 2w'
    )


def _keys(source: Source, patterns: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the keys that the patterns stand for, of each agent. Raises StateError when one stands for none."""
    records = source.query(queries.list_records())
    chosen: dict[str, list[str]] = {agent: [] for agent in records}
    for pattern in patterns:
        is_found = False
        for agent, rows in records.items():
            keys = [row.key for row in rows]
            found = [pattern] if pattern in keys else []
            if not found and re.search(r"[*?\[]", pattern):
                found = [key for key in keys if fnmatch.fnmatchcase(key, pattern)]
            elif not found:
                module, _, name = pattern.partition(":")
                candidates = [row.key for row in rows if row.module == module and row.id == name]
                found = [source.one_record(agent, pattern, candidates, str)] if candidates else []
            is_found = is_found or bool(found)
            chosen[agent] += [key for key in found if key not in chosen[agent]]
        if not is_found and not source.errors:
            source.one_record(source.pattern, pattern, [], str)
    return {agent: keys for agent, keys in chosen.items() if keys}


def _finish(source: Source, rows: list[dict[str, object]], lines: list[str]) -> int:
    if source.json:
        click.echo(json.dumps(rows, indent=2))
    for line in () if source.json else lines:
        click.echo(neutral(line))
    return source.status()


@click.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option(
    "--until", required=True, metavar="TIME", help="Until when: 2026-12-01, '2026-12-01 18:00', or from now: 12h, 3d."
)
@click.option("--why", required=True, metavar="TEXT", help="The reason, for those who come across it.")
@state_options
def freeze(keys: tuple[str, ...], until: str, why: str, source: Source) -> int:
    """Let runs leave resources alone until a time, whatever their site says.

    A run reports them as frozen; `drift` lists them apart, pruning and rollback refuse them. The clock of the host says
    when it is over. A KEY is that of `state list`, module:id when that is unique, or contains * and ?.

    \b
    sloth-runner state freeze 'file:*:/etc/nginx/*' --agent web1 --until 3d --why 'debugging'
    """
    source.refuse_replica()
    if not why.strip():
        raise UsageError("--why must not be empty")
    at, seconds = read_until(until)
    rows: list[dict[str, object]] = []
    lines: list[str] = []
    for agent, chosen in _keys(source, keys).items():
        one = Source(agent, inventory=source.inventory, passwords=source.passwords)
        for key in chosen:
            for answer in one.query(queries.freeze(key, why.strip(), at, seconds), write=True).values():
                rows.append({"agent": agent, "key": key, "until": answer[0]})
                lines.append(f"froze {key} on {agent} until {format_date(answer[0])}")
    return _finish(source, rows, lines)


@click.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@state_options
def unfreeze(keys: tuple[str, ...], source: Source) -> int:
    """Let runs change resources again that were frozen. A KEY is as for `state freeze`."""
    source.refuse_replica()
    rows: list[dict[str, object]] = []
    lines: list[str] = []
    for agent, chosen in _keys(source, keys).items():
        one = Source(agent, inventory=source.inventory, passwords=source.passwords)
        for key in chosen:
            if any(any(answer) for answer in one.query(queries.unfreeze(key), write=True).values()):
                rows.append({"agent": agent, "key": key})
                lines.append(f"{key} on {agent} is no longer frozen")
    if not rows and not source.errors:
        raise StateError("none of these is frozen", hint="see sloth-runner state list frozen")
    return _finish(source, rows, lines)
