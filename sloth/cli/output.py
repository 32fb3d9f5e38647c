"""What commands write besides reports of runs: JSON, tables, times, warnings, and questions."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sloth.dates import local_date
from sloth.errors import SlothError, Unreachable, UsageError
from sloth.report.text import neutral, table_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sloth.payload.kernel.values import Diff, Json

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def write_json(document: Json) -> None:
    """Write one JSON document."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=True))


def write_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table whose columns are as wide as they need to be; nothing is cut."""
    head, *lines = table_lines(heads, [[neutral(str(cell)) for cell in row] for row in rows])
    click.secho(head, bold=True)
    for line in lines:
        click.echo(line)


def write_diff(diff: Diff) -> None:
    """Write how attributes and texts differ, indented."""
    from sloth.report.text import diff_lines

    for text, style in diff_lines(diff):
        click.secho(f"    {neutral(text)}", fg=style or None)


def warn(text: str) -> None:
    """Write a warning to stderr."""
    click.secho(neutral(text), fg="yellow", err=True)


def write_error(agent: str, error: SlothError) -> None:
    """Write to stderr why an agent did not answer."""
    text = neutral(str(error))
    if not text.startswith(agent.partition("@")[0]):  # most errors begin with the name of their host
        text = f"{agent}: {text}"
    click.secho(text, fg="red", err=True)


def exit_status(errors: Iterable[SlothError]) -> int:
    """Return the exit status after these errors: 0 for none, 4 when all hosts with one were unreachable, else 1."""
    unreachable = [isinstance(error, Unreachable) for error in errors]
    return 0 if not unreachable else 4 if all(unreachable) else 1


def confirm(question: str, yes: bool) -> None:
    """Ask on the terminal, unless `yes`, and abort the command when the answer is no. Raises UsageError without one."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this needs a confirmation, but there is no terminal to ask on", hint="use --yes")
    click.confirm(question, abort=True)


async def read_line(descriptor: int) -> str:
    """Return the next line that is typed; other hosts go on meanwhile, and a Ctrl-C ends the wait."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
        return os.read(descriptor, 1024).decode("utf-8", "replace")
    finally:
        loop.remove_reader(descriptor)


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 1 state, 2 states."""
    return f"{number} {noun}{'s' * (number != 1)}"


def format_time(at: float | None) -> str:
    """Return an epoch time as a date and an age."""
    if at is None:
        return "never"
    return f"{format_date(at)} ({format_age(at)})"


def format_date(at: float) -> str:
    """Return an epoch time as a date."""
    return local_date(at)


def format_age(at: float) -> str:
    """Return how long ago an epoch time was."""
    seconds = max(0, int(time.time() - at))
    for size, name in _UNITS:
        if seconds >= size:
            return f"{count(seconds // size, name)} ago"
    return "now"
