"""Where the commands about states read and write: this machine's own state, those of hosts, or their replicas."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from sloth.cli import backend_option, credentials, parameters
from sloth.cli.completed import Completed, completed
from sloth.cli.output import exit_status, warn, write_error, write_json
from sloth.cli.syncing import compare_versions, deliver, fetch_replicas
from sloth.errors import SlothError, StateError, UsageError
from sloth.frozen import mutable
from sloth.passwords import Passwords
from sloth.state import queries
from sloth.state.local import LOCAL, LocalState, query_replica
from sloth.state.queries import Difference, StateQuery
from sloth.state.shared import Shared
from sloth.state.storage import Storage
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.engine.query import Agent
    from sloth.payload.kernel.values import JsonObject


class Shown(Protocol):
    """A value that commands can print as JSON."""

    def shown(self) -> JsonObject: ...


T = TypeVar("T")
S = TypeVar("S", bound=Shown)
Rows = list[tuple[str, S]]  # of agents, by name
_SELECTS_SEVERAL = re.compile(r"^@|^all$|^local$|[*?,!:\[]")
AGENT = click.option(
    "--agent",
    "--host",
    "agent",
    default=LOCAL,
    show_default=True,
    metavar="PATTERN",
    shell_complete=completed(Completed.HOSTS),
    help="Whose state: web1, web*, @group, all; web1@deploy is that of another account.",
)


CACHED = click.option("--cached", is_flag=True, help="Use the controller's copy as of the last run; do not connect.")


def state_options(command: parameters.Command) -> parameters.Command:
    """Add the options of commands about states; the command receives them as the parameter `source`, a Source."""

    @AGENT
    @CACHED
    @parameters.AGENT_INVENTORY
    @backend_option.BACKEND
    @parameters.TABLE_OR_JSON
    @parameters.PASSWORDS
    @functools.wraps(command)
    def with_source(agent: str, cached: bool, inventory: tuple[str, ...], output: str, **others: Any) -> Any:
        passwords = credentials.passwords()
        return command(source=Source(agent, cached, inventory, output == "json", passwords), **others)

    options: parameters.Command = with_source
    return options


@mutable
class Source:
    """The states that a command is about.

    Attributes:
        pattern: which agents; "local" is this machine.
        cached: whether to use replicas.
        inventory: the files that --inventory names.
        json: whether the output is JSON.
        errors: of the agents that did not answer, by name.
    """

    pattern: str
    cached: bool = False
    inventory: tuple[str, ...] = ()
    json: bool = False
    passwords: Passwords = field(default_factory=Passwords)
    errors: dict[str, SlothError] = field(default_factory=dict)

    def storage(self) -> Storage:
        """Return what this controller keeps, and shares with others. Raises UsageError."""
        return backend_option.storage_without_hosts(self.inventory)

    def ask_shared(self, ask: Callable[[Shared], Awaitable[T]]) -> T:
        """Return what ask() returns of the shared values and locks."""

        async def run() -> T:
            shared = self.storage().shared()
            try:
                return await ask(shared)
            finally:
                await shared.close()

        return asyncio.run(run())

    def refuse_replica(self) -> None:
        """Raise UsageError when a replica was named: it is a copy, which must not be edited."""
        if self.cached:
            raise UsageError("a replica is a copy, and cannot be edited", hint="leave out --cached")

    def agents(self) -> list[Agent]:
        """Return the agents of the inventory that the pattern selects. Raises UsageError when there are none."""
        from sloth.engine.query import Agent

        at = self.pattern.find("@", 1)  # a first @ is a group's
        pattern, account = (self.pattern[:at], self.pattern[at + 1 :]) if at > 0 else (self.pattern, "")
        inventory = parameters.require_inventory(self.inventory, f"to look up {pattern}, use -i FILE, or --cached")
        hosts = inventory.select(pattern, "--agent")
        if not hosts:
            raise UsageError(f"--agent {pattern} selects no host", hint="see sloth-runner inventory list")
        return [Agent(host, account) for host in hosts]

    def query(self, query: StateQuery[T], write: bool = False) -> dict[str, list[T]]:
        """Query every agent, and return the answers by name; `errors` has the agents that did not answer.

        Raises the error itself when there is a single agent.
        """
        if self.cached:
            answers = self._query_replicas(query)
        elif self.pattern == LOCAL:
            with LocalState(write, warn) as state:
                return {LOCAL: state.query(query)}
        else:
            answers = self._query_hosts(query, write)
        return self._sorted_out(answers)

    def compare_cached(self, first: str, last: str) -> dict[str, list[Difference]]:
        """Return what differs between the ends of two runs, as query() does; the backend is asked, and no host."""
        storage = self.storage()
        if storage.location is None:
            hint = "leave out --cached, which asks the hosts; or use --backend URL"
            raise UsageError("a replica has no history: without a backend only the hosts have it", hint=hint)
        return self._sorted_out(compare_versions(storage, self._replica_names(storage), first, last))

    def _sorted_out(self, answers: Mapping[str, list[T] | SlothError]) -> dict[str, list[T]]:
        """Return the answers, and put the errors into `errors`. Raises the error itself of a single agent."""
        found: dict[str, list[T]] = {}
        for name, answer in answers.items():
            if isinstance(answer, SlothError):
                self.errors[name] = answer
            else:
                found[name] = answer
        if not found and len(self.errors) == 1:
            raise next(iter(self.errors.values()))
        return found

    def _query_hosts(self, query: StateQuery[T], write: bool) -> Mapping[str, list[T] | SlothError]:
        from sloth.engine.query import Query

        storage = self.storage()
        settings = Query(write=write, warn=warn, passwords=self.passwords, storage=storage)
        answers = asyncio.run(settings.states(self.agents(), query))
        if write:
            deliver(storage)
        return answers

    def _query_replicas(self, query: StateQuery[T]) -> Mapping[str, list[T] | SlothError]:
        if query.needs_history:
            raise UsageError("a replica has no history, only the states", hint="leave out --cached")
        return {
            name: query_replica(path, query) if path.exists() else no_replica(name)
            for name, path in self.replicas().items()
        }

    def replicas(self) -> dict[str, Path]:
        """Return where the replicas of the agents that the pattern selects are, or would be, by name."""
        storage = self.storage()
        names = self._replica_names(storage)
        memory = storage.memory()
        paths = {name: memory.replica_path(name) for name in names}
        memory.close()
        return paths

    def _replica_names(self, storage: Storage) -> list[str]:
        """Return the agents that the pattern selects, after their replicas were fetched from the backend."""
        if not _SELECTS_SEVERAL.search(self.pattern):
            fetch_replicas(storage, [self.pattern])
        memory = storage.memory()
        is_replica = memory.replica_path(self.pattern).exists()
        memory.close()
        if is_replica:
            return [self.pattern]
        names = [agent.name for agent in self.agents()]
        fetch_replicas(storage, names)
        return names

    def one_record(self, agent: str, key: str, candidates: Sequence[T], key_of: Callable[[T], str]) -> T:
        """Return the only candidate that `key` may mean. Raises StateError: not found, or ambiguous."""
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            names = ", ".join(map(key_of, candidates))
            raise StateError(f"{key} is ambiguous: {names}", hint="use the whole key")
        hint = ""
        if agent == self.pattern:
            found = self.query(queries.list_records(module=key.partition(":")[0]))
            hint = did_you_mean(key, [record.key for records in found.values() for record in records])
        raise StateError(f"no state of {key} on {agent}", hint=hint or "see sloth-runner state list")

    def write_answers(self, found: dict[str, list[S]], nothing: str, write: Callable[[Rows[S], bool], None]) -> int:
        """Write all answers, as JSON or with write(rows, several), or the sentence `nothing`; return status()."""
        rows = [(name, row) for name, answer in found.items() for row in answer]
        if self.json:
            write_json([{"agent": name, **row.shown()} for name, row in rows])
        elif rows:
            write(rows, len(found) > 1)
        elif not self.errors:
            click.echo(nothing)
        return self.status()

    def status(self) -> int:
        """Write which agents did not answer to stderr; return the exit status: 0, 1, or 4 if they were unreachable."""
        for name, error in self.errors.items():
            write_error(name, error)
        return exit_status(self.errors.values())


def no_replica(name: str) -> StateError:
    """Return the error of an agent that has no replica."""
    return StateError(f"no replica of {name} found", hint="a run creates it")
