"""The commands of `sloth-runner state` that edit the recorded states. The hosts themselves stay as they are."""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Mapping

import click

from sloth.cli import backend_option, parameters
from sloth.cli.completed import Completed, completed
from sloth.cli.output import confirm, count, format_time, write_json
from sloth.cli.state_source import AGENT, Source, state_options
from sloth.errors import SlothError, StateError, UsageError
from sloth.report.text import neutral
from sloth.state import queries
from sloth.state.local import LOCAL
from sloth.state.queries import DriftStatus
from sloth.suggest import did_you_mean


def _finish(source: Source, document: Mapping[str, object], text: str) -> int:
    click.echo(json.dumps(document) if source.json else neutral(text))
    return source.status()


@click.command()
@click.argument("key", shell_complete=completed(Completed.KEYS))
@parameters.YES
@state_options
def delete(key: str, yes: bool, source: Source) -> int:
    """Delete one state. The host itself is left as it is.

    KEY is the whole key, or module:id when that is unique: user:john is user:create:john.
    """
    source.refuse_replica()
    found = source.query(queries.match_keys(key))
    if len(found) > 1:
        keys = {match for matches in found.values() for match in matches}
        exact = source.one_record(source.pattern, key, sorted(keys), str)
    else:
        exact = next((source.one_record(agent, key, matches, str) for agent, matches in found.items()), key)
    confirm(f"Delete the state of {exact} on {', '.join(found)}?", yes)
    answers = source.query(queries.delete_record(exact), write=True)
    deleted = any(any(answer) for answer in answers.values())
    return _finish(source, {"key": exact, "deleted": deleted}, f"deleted the state of {exact}")


@click.command()
@click.argument("patterns", nargs=-1, metavar="[KEY]...", shell_complete=completed(Completed.KEYS))
@click.option("--untracked", is_flag=True, help="Everything that its site no longer names: see state list orphaned.")
@parameters.YES
@state_options
def rm(patterns: tuple[str, ...], untracked: bool, yes: bool, source: Source) -> int:
    """Delete several states. The hosts themselves are left as they are.

    A KEY may contain * and ?: sloth-runner state rm 'file:*:/srv/old/*'
    """
    source.refuse_replica()
    if bool(patterns) == untracked:
        raise UsageError("give either keys or --untracked", hint="state clear deletes every state")
    found = source.query(queries.list_records(orphaned=untracked))
    chosen = {
        agent: [row.key for row in rows if untracked or any(fnmatch.fnmatchcase(row.key, p) for p in patterns)]
        for agent, rows in found.items()
    }
    total = sum(len(keys) for keys in chosen.values())
    if not total:
        return _finish(source, {"deleted": 0}, "no state to delete")
    for agent, keys in chosen.items():
        for key in [] if source.json else keys:
            click.echo(neutral(f"{agent}  {key}"))
    confirm(f"Delete {count(total, 'state')}?", yes)
    deleted = 0
    for agent, keys in chosen.items():
        one = Source(agent, inventory=source.inventory, passwords=source.passwords)
        for key in keys:
            deleted += sum(sum(answer) for answer in one.query(queries.delete_record(key), write=True).values())
    return _finish(source, {"deleted": deleted}, f"deleted {count(deleted, 'state')}")


@click.command()
@parameters.YES
@state_options
def clear(yes: bool, source: Source) -> int:
    """Delete every state. The host itself is left as it is, and so is the history."""
    source.refuse_replica()
    found = source.query(queries.read_stats())
    total = sum(row.resources for rows in found.values() for row in rows)
    confirm(f"Delete all {total} states of {', '.join(found)}?", yes)
    deleted = sum(sum(answer) for answer in source.query(queries.clear(), write=True).values())
    return _finish(source, {"deleted": deleted}, f"deleted {count(deleted, 'state')}")


@click.command()
@click.argument("old", shell_complete=completed(Completed.KEYS))
@click.argument("new")
@parameters.YES
@state_options
def mv(old: str, new: str, yes: bool, source: Source) -> int:
    """Rename the key of a state, with its history: when the site has replaced file.copy by file.template, say.

    sloth-runner state mv file:copy:/etc/app.conf file:template:/etc/app.conf
    """
    source.refuse_replica()
    confirm(f"Rename {old} to {new}?", yes)
    answers = source.query(queries.move_record(old, new), write=True)
    moved = [agent for agent, answer in answers.items() if any(answer)]
    if not moved and not source.errors:
        raise StateError(f"no state of {old} on {source.pattern}", hint="see sloth-runner state list")
    return _finish(source, {"key": new, "moved": moved}, f"renamed {old} to {new} on {', '.join(moved)}")


@click.command()
@click.option("--older", type=click.IntRange(0), metavar="DAYS", help="Also delete history and runs older than this.")
@state_options
def vacuum(older: int | None, source: Source) -> int:
    """Make the state file as small as possible; with --older DAYS, delete old history as well."""
    source.refuse_replica()
    before = None if older is None else int(time.time()) - older * 86400
    found = source.query(queries.vacuum(before), write=True)
    rows = [(agent, row) for agent, answer in found.items() for row in answer]
    if source.json:
        write_json([{"agent": agent, "changes": row.changes, "freed": row.bytes} for agent, row in rows])
    else:
        for agent, row in rows:
            click.echo(f"{agent}: deleted {count(row.changes, 'change')}, freed {row.bytes} bytes")
    return source.status()


@click.command()
@state_options
def check(source: Source) -> int:
    """Check that a state file is sound, and that the host still matches it.

    Exit status: 1 when the file is damaged, 3 when the host differs (sloth-runner drift shows how).
    """
    source.refuse_replica()
    found = source.query(queries.check_file())
    problems = [(agent, problem) for agent, answer in found.items() for problem in answer]
    from sloth.cli.drift import find_drift
    from sloth.engine.query import Query

    answered: str | list[str] = LOCAL
    if source.pattern != LOCAL:
        answered = [agent.host.name for agent in source.agents() if agent.name in found]
    answers = find_drift(answered, source.inventory, Query(passwords=source.passwords)) if answered else {}
    different: list[tuple[str, queries.Drift]] = []
    for agent, answer in answers.items():
        if isinstance(answer, SlothError):
            source.errors.setdefault(agent, answer)
        else:
            different += [(agent, row) for row in answer if row.status is DriftStatus.DRIFT]
    if source.json:
        write_json(
            {
                "problems": [{"agent": agent, "problem": problem} for agent, problem in problems],
                "different": [{"agent": agent, "key": row.key, "msg": row.msg} for agent, row in different],
            }
        )
    else:
        for agent, problem in problems:
            click.secho(neutral(f"{agent}: {problem}"), fg="red")
        for agent, row in different:
            click.secho(neutral(f"{agent}: {row.key} does not match the record"), fg="yellow")
        unsound = {agent for agent, _ in (*problems, *different)} | source.errors.keys()
        if sound := [agent for agent in found if agent not in unsound]:
            click.echo(neutral(f"{', '.join(sound)}: the file is sound, and the host matches it"))
    return source.status() or (1 if problems else 3 if different else 0)


@click.command()
@click.argument("name")
@parameters.YES
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
def unlock(name: str, yes: bool, inventory: tuple[str, ...]) -> None:
    """Release a shared lock (state.lock, or a run's), whoever holds it.

    Only the lock that is shown is released: if another holder takes it before you answer, it stays.
    """
    source = Source(LOCAL, inventory=inventory)
    lock = source.ask_shared(lambda shared: shared.locks.find(name))
    if lock is None:
        held = [one.name for one in source.ask_shared(lambda shared: shared.locks.held())]
        raise StateError(f"lock {name} not found", hint=did_you_mean(name, held) or "see sloth-runner state locks")
    holder = neutral(lock.describe())
    confirm(
        f"Release the lock {name}, although {holder}, its holder since {format_time(lock.taken)}, may need it?", yes
    )
    freed = source.ask_shared(lambda shared: shared.locks.release_any(name, lambda now: now.number == lock.number))
    if freed is None:
        raise StateError(f"the lock {name} was not released: {holder} has not held it any more")
    click.echo(f"released {name}, which {holder} held")


@click.command()
@click.argument("call", metavar="MODULE", shell_complete=completed(Completed.MODULES))
@click.argument("words", nargs=-1, metavar="[NAME=VALUE]...", shell_complete=completed(Completed.WORDS))
@AGENT
@parameters.INVENTORY
@parameters.BECOME
@parameters.BECOME_USER
@parameters.MODULES
@parameters.REPORT
@backend_option.BACKEND
def adopt(
    call: str,
    words: tuple[str, ...],
    agent: str,
    inventory: tuple[str, ...],
    become: bool,
    become_user: str | None,
    modules: str | None,
    output: str | None,
) -> int:
    """Record something that exists as managed, without changing it; fail where the host differs.

    \b
    sloth-runner state adopt user.create name=deploy shell=/bin/bash --agent 'web*'

    MODULE and NAME=VALUE are as for `sloth-runner call`.
    """
    from sloth.cli.adhoc import make_site
    from sloth.cli.execute import execute
    from sloth.engine.options import Options

    site, files = make_site(call, words, modules, become_user or become)
    everything = parameters.read_inventory(inventory)
    selected = parameters.select(everything, agent, "--agent")
    storage = backend_option.storage(everything)
    return execute(site, everything, selected, Options(adopt=True, custom=files), storage, output=output, verbose=1)


EDITING = (delete, rm, clear, mv, vacuum, check, unlock, adopt)
