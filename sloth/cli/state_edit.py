"""The commands of `sloth-runner state` that alter what is remembered; hosts themselves stay as they are."""

from __future__ import annotations

import fnmatch
import json
import time
from typing import Any

import click

from sloth.cli import parameters, state_source
from sloth.cli.state_source import Asked, confirm, one_of, show_json
from sloth.errors import StateError, UsageError
from sloth.report.text import neutral
from sloth.state.shared import Shared

YES = click.option("--yes", is_flag=True, help="Do not ask.")


def _done(of: Asked, document: Any, text: str) -> int:
    click.echo(json.dumps(document) if of.json else neutral(text))
    return of.status()


def _count(number: int, word: str = "state") -> str:
    return f"{number} {word}{'s' * (number != 1)}"


@click.command()
@click.argument("key")
@YES
@state_source.state_options
def delete(key: str, yes: bool, of: Asked) -> int:
    """Forget one state. The host itself is left as it is.

    KEY is the whole key, or module:id when that is unique (user:john is user:create:john).
    """
    of.editing()
    found = of.ask("show", key=key)
    if len(found) > 1:
        keys = {row["key"] for rows in found.values() for row in rows}
        if len(keys) != 1:
            one_of(of, of.pattern, key, [{"key": one} for one in sorted(keys)])
        exact = keys.pop()
    else:
        exact = next((one_of(of, agent, key, rows)["key"] for agent, rows in found.items()), key)
    confirm(f"Forget {exact} on {', '.join(found)}?", yes)
    answers = of.ask("delete", write=True, key=exact)
    deleted = any(row["deleted"] for rows in answers.values() for row in rows)
    return _done(of, {"key": exact, "deleted": deleted}, f"forgot {exact}")


@click.command()
@click.argument("patterns", nargs=-1, metavar="[KEY]...")
@click.option("--untracked", is_flag=True, help="Everything that its site no longer names (see state list orphaned).")
@YES
@state_source.state_options
def rm(patterns: tuple[str, ...], untracked: bool, yes: bool, of: Asked) -> int:
    """Forget several states. The hosts themselves are left as they are.

    A KEY may have * and ? in it: sloth-runner state rm 'file:*:/srv/old/*'
    """
    of.editing()
    if bool(patterns) == untracked:
        raise UsageError("name keys, or give --untracked", hint="state clear forgets everything")
    found = of.ask("list", orphaned=untracked)
    chosen = {
        agent: [row["key"] for row in rows if untracked or any(fnmatch.fnmatchcase(row["key"], p) for p in patterns)]
        for agent, rows in found.items()
    }
    total = sum(len(keys) for keys in chosen.values())
    if not total:
        return _done(of, {"deleted": 0}, "there is nothing to forget")
    for agent, keys in chosen.items():
        for key in [] if of.json else keys:
            click.echo(neutral(f"{agent}  {key}"))
    confirm(f"Forget {_count(total)}?", yes)
    deleted = 0
    for agent, keys in chosen.items():
        one = Asked(agent, inventory=of.inventory, become_password=of.become_password)
        for key in keys:
            deleted += sum(row["deleted"] for rows in one.ask("delete", write=True, key=key).values() for row in rows)
    return _done(of, {"deleted": deleted}, f"forgot {_count(deleted)}")


@click.command()
@YES
@state_source.state_options
def clear(yes: bool, of: Asked) -> int:
    """Forget every state. The host itself is left as it is, and so is the history."""
    of.editing()
    found = of.ask("stats")
    count = sum(rows[0]["resources"] for rows in found.values())
    confirm(f"Forget all {count} states of {', '.join(found)}?", yes)
    deleted = sum(rows[0]["deleted"] for rows in of.ask("clear", write=True).values())
    return _done(of, {"deleted": deleted}, f"forgot {_count(deleted)}")


@click.command()
@click.argument("old")
@click.argument("new")
@YES
@state_source.state_options
def mv(old: str, new: str, yes: bool, of: Asked) -> int:
    """Give a state another key, with its history: what was file.copy in the site is file.template now, say.

    sloth-runner state mv file:copy:/etc/app.conf file:template:/etc/app.conf
    """
    of.editing()
    confirm(f"Rename {old} to {new}?", yes)
    answers = of.ask("move", write=True, old=old, new=new)
    moved = [agent for agent, rows in answers.items() if rows[0]["moved"]]
    if not moved and not of.errors:
        raise StateError(f"nothing is remembered of {old} on {of.pattern}", hint="see state list")
    return _done(of, {"key": new, "moved": moved}, f"{old} is {new} on {', '.join(moved)}")


@click.command()
@click.option("--older", type=click.IntRange(0), metavar="DAYS", help="Also forget history and runs older than this.")
@state_source.state_options
def vacuum(older: int | None, of: Asked) -> int:
    """Make the state file as small as it can be; with --older DAYS old history goes, too."""
    of.editing()
    before = None if older is None else int(time.time()) - older * 86400
    found = of.ask("vacuum", write=True, older=before)
    rows = [{"agent": agent, **answer[0]} for agent, answer in found.items()]
    if of.json:
        show_json(rows)
    else:
        for row in rows:
            click.echo(f"{row['agent']}: forgot {_count(row['changes'], 'change')}, freed {row['freed']} bytes")
    return of.status()


@click.command()
@state_source.state_options
def check(of: Asked) -> int:
    """Check a state file: whether it is sound, and whether it agrees with the host.

    Exit status: 1 when the file is not sound, 3 when the host differs (sloth-runner drift says how).
    """
    of.editing()
    found = of.ask("check")
    problems = [{"agent": agent, **row} for agent, rows in found.items() for row in rows]
    from sloth.cli.drift import differences, survey
    from sloth.engine.query import Query

    hosts = survey(of.pattern, of.inventory, Query(become_password=of.become_password))
    different = [{"agent": agent, "key": row["key"], "msg": row["msg"]} for agent, row in differences(hosts)]
    if of.json:
        show_json({"problems": problems, "different": different})
    else:
        for row in problems:
            click.secho(neutral(f"{row['agent']}: {row['problem']}"), fg="red")
        for row in different:
            click.secho(neutral(f"{row['agent']}: {row['key']} is not as it was applied"), fg="yellow")
        if not problems and not different and not of.errors:
            click.echo(f"{', '.join(found)}: sound, and as applied")
    return of.status() or (1 if problems else 3 if different else 0)


@click.command()
@click.argument("name")
@YES
def unlock(name: str, yes: bool) -> None:
    """Take a shared lock (state.lock) from whoever holds it."""
    confirm(f"Take the lock {name} from its holder?", yes)
    holder = Shared().break_lock(name)
    if holder is None:
        raise StateError(f"there is no lock {name}", hint="see sloth-runner state list lock")
    click.echo(f"{name} is free; {neutral(holder)} held it")


@click.command()
@click.argument("call", metavar="MODULE")
@click.argument("words", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--agent", default="local", show_default=True, metavar="PATTERN", help="On which hosts.")
@parameters.INVENTORY
@parameters.BECOME
@parameters.BECOME_USER
@parameters.MODULES
@click.option("-o", "--output", type=click.Choice(["rich", "plain", "json", "ndjson"]), help="As of `run`.")
def adopt(
    call: str,
    words: tuple[str, ...],
    agent: str,
    inventory: str | None,
    become: bool,
    become_user: str | None,
    modules: str | None,
    output: str | None,
) -> int:
    """Record something that is there as managed, and change nothing; it fails where the host is not so.

    \b
    sloth-runner state adopt user.create name=deploy shell=/bin/bash --agent 'web*'

    MODULE and NAME=VALUE are as for `sloth-runner call`.
    """
    from sloth.cli.adhoc import made
    from sloth.cli.execute import launch
    from sloth.engine.options import Options

    site, files = made(call, words, modules, become_user or become)
    everything = parameters.read_inventory(inventory)
    selected = parameters.select(everything, agent, "--agent")
    return launch(site, everything, selected, Options(adopt=True, custom=files), output=output, verbose=1)


EDITING = (delete, rm, clear, mv, vacuum, check, unlock, adopt)
