"""What the commands about states share: whose state is meant, asking all at once, and showing what came back."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from sloth.cli import parameters
from sloth.errors import SlothError, StateError, Unreachable, UsageError
from sloth.inventory import Inventory, find_inventory
from sloth.report.text import neutral
from sloth.state.local import LOCAL, LocalState, query_replica

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject, Rows

Row = dict[str, Any]


def state_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that looks at states; they come together as the parameter `of` (an Asked)."""

    @click.option("--agent", default=LOCAL, show_default=True, metavar="PATTERN", help="Whose: web1, web*, @group.")
    @click.option("--cached", is_flag=True, help="Ask the controller's replica as of the last run, not the host.")
    @click.option("-i", "--inventory", metavar="FILE", help="The inventory that names the agent.")
    @click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
    @parameters.ASK_PASSWORD
    def asked(
        agent: str, cached: bool, inventory: str | None, output: str, ask_become_pass: bool, **given: Any
    ) -> Any:  # fmt: skip
        password = parameters.ask_password() if ask_become_pass else None
        return command(of=Asked(agent, cached, inventory, output == "json", password), **given)

    asked.__name__ = command.__name__
    asked.__doc__ = command.__doc__
    return asked


@dataclass
class Asked:
    """Whose state a command is about; `errors` has those that could not be asked."""

    pattern: str
    cached: bool = False
    inventory: str | None = None
    json: bool = False
    become_password: str | None = field(default=None, repr=False)
    errors: dict[str, SlothError] = field(default_factory=dict)

    def editing(self) -> None:
        """Raise UsageError when a replica was asked for: it is a copy."""
        if self.cached:
            raise UsageError("a replica is a copy: it cannot be edited", hint="leave out --cached")

    def ask(self, op: str, write: bool = False, **args: Any) -> dict[str, list[Row]]:
        """Ask every agent; return the rows of each that answered.

        Raises StateError and the like when there is one agent and it did not answer; those of several are in `errors`.
        """
        if self.cached:
            return self._ask_replicas(op, args)
        if self.pattern == LOCAL:
            return {LOCAL: query_here(op, args, write)}
        return self._ask_hosts(op, args, write)

    def one(self, op: str, write: bool = False, **args: Any) -> list[Row]:
        """The rows of the only agent. Raises UsageError when there are several."""
        found = self.ask(op, write, **args)
        if len(found) != 1:
            raise UsageError(f"--agent {self.pattern} names {len(found)} agents", hint="name one")
        return next(iter(found.values()))

    def _ask_replicas(self, op: str, args: Row) -> dict[str, list[Row]]:
        from sloth.state.memory import Memory

        if op not in ("list", "show", "match", "stats"):
            raise UsageError("a replica holds the states only, no history", hint="leave out --cached")
        memory = Memory()
        names = [self.pattern]
        if not memory.replica_path(self.pattern).exists():
            names = [agent.name for agent in self.agents()]
        found: dict[str, list[Row]] = {}
        for name in names:
            path = memory.replica_path(name)
            if path.exists():
                found[name] = query_replica(path, op, args)
            else:
                self.errors[name] = StateError(f"there is no replica of {name}", hint="a run makes one")
        memory.close()
        return self._or_raise(found)

    def agents(self) -> list[Any]:
        """The agents (engine.ask.Agent) of the inventory that are meant. Raises UsageError when there are none."""
        from sloth.engine.query import Agent

        at = self.pattern.find("@", 1)  # a first @ is a group's
        pattern, account = (self.pattern[:at], self.pattern[at + 1 :]) if at > 0 else (self.pattern, "")
        path = find_inventory(self.inventory)
        if path is None:
            raise UsageError(f"there is no inventory that names {pattern}", hint="give -i FILE, or --cached")
        hosts = Inventory.read(path).select(pattern, "--agent")
        if not hosts:
            raise UsageError(f"--agent {pattern} names no host", hint="see sloth-runner inventory list")
        return [Agent(host, account) for host in hosts]

    def _ask_hosts(self, op: str, args: Row, write: bool) -> dict[str, list[Row]]:
        from sloth.engine.query import Query

        async def question(agent: Any, session: Any) -> list[Row]:
            rows: list[Row] = await session.query(op, args)
            return rows

        answers = asyncio.run(
            Query(write=write, warn=warn, become_password=self.become_password).each(self.agents(), question)
        )
        found = {}
        for name, answer in answers.items():
            if isinstance(answer, SlothError):
                self.errors[name] = answer
            else:
                found[name] = answer
        return self._or_raise(found)

    def _or_raise(self, found: dict[str, list[Row]]) -> dict[str, list[Row]]:
        if not found and len(self.errors) == 1:
            raise next(iter(self.errors.values()))
        return found

    def answer(self, found: dict[str, list[Row]], nothing: str, show: Callable[[list[Row]], None]) -> int:
        """Show all rows, as JSON or by show(rows), or say that there is `nothing`; return status()."""
        rows = list(with_agent(found))
        if self.json:
            show_json(rows)
        elif rows:
            show(rows)
        elif not self.errors:
            click.echo(nothing)
        return self.status()

    def status(self) -> int:
        """Say which agents did not answer; the exit status: 0, 1, or 4 when they could not be reached."""
        for name, error in self.errors.items():
            click.secho(named(name, error), fg="red", err=True)
        if any(not isinstance(error, Unreachable) for error in self.errors.values()):
            return 1
        return 4 if self.errors else 0


def query_here(op: str, args: JsonObject, write: bool = False) -> Rows:
    """Query this machine's own state file. Raises StateError, also when a run holds the machine."""
    with LocalState(write, warn) as state:
        return state.query(op, args)


def warn(text: str) -> None:
    """Tell the user something that is no error."""
    click.secho(neutral(text), fg="yellow", err=True)


def one_of(of: Asked, agent: str, key: str, rows: list[Row]) -> Row:
    """The one row that `key` means; an error with candidates otherwise."""
    if len(rows) == 1:
        return rows[0]
    if rows:
        names = ", ".join(row["key"] for row in rows)
        raise StateError(f"{key} may be any of {names}", hint="give the whole key")
    from sloth.suggest import did_you_mean

    hint = "see state list"
    if agent == of.pattern:
        known = [row["key"] for row in of.one("list", module=key.partition(":")[0])]
        hint = did_you_mean(key, known) or hint
    raise StateError(f"nothing is remembered of {key} on {agent}", hint=hint)


def with_agent(found: dict[str, list[Row]]) -> Iterator[Row]:
    """All rows, each with the name of its agent."""
    for name, rows in found.items():
        for row in rows:
            yield {"agent": name, **row}


def named(name: str, error: SlothError) -> str:
    """An error as it is shown, with the name of the agent unless it begins with it."""
    text = neutral(str(error))
    return text if text.startswith(name.partition("@")[0]) else f"{name}: {text}"


def show_json(document: Any) -> None:
    """Write one JSON document."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=True))


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table whose columns are as wide as they must be."""
    shown = [tuple(neutral(str(cell)) for cell in row) for row in rows]
    widths = [max(len(head), *(len(row[at]) for row in shown)) for at, head in enumerate(heads)]
    click.secho("  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip(), bold=True)
    for row in shown:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def confirm(question: str, yes: bool) -> None:
    """Ask on the terminal unless `yes`. Raises UsageError when there is none."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this needs a confirmation, and there is no terminal to ask on", hint="give --yes")
    click.confirm(question, abort=True)


def when(at: float | None) -> str:
    """An epoch time as date and age."""
    if at is None:
        return "never"
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))} ({ago(at)})"


def ago(at: float) -> str:
    """How long ago an epoch time was."""
    seconds = max(0, int(time.time() - at))
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            return f"{seconds // size} {name}{'s' * (seconds // size != 1)} ago"
    return "now"
