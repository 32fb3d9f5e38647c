"""Options that several commands share, and what they come to."""

from __future__ import annotations

import functools
import getpass
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from sloth.errors import UsageError
from sloth.inventory import Host, Inventory, find_inventory
from sloth.state.keys import Keys

Command = Callable[..., Any]

INVENTORY = click.option(
    "-i", "--inventory", metavar="FILE", help="The inventory (TOML). Without one: this machine, as agent `local`."
)
LIMIT = click.option(
    "-l", "--limit", multiple=True, metavar="PATTERN", help="Only these hosts: web*, @group, !name, comma lists."
)
EXTRA = click.option("-e", "--extra", multiple=True, metavar="KEY=VALUE", help="Set a variable (above all others).")
VALUES = click.option("--values", multiple=True, metavar="FILE", help="Set variables from a TOML or JSON file.")
MODULES = click.option(
    "--modules", metavar="DIR", type=click.Path(exists=True, file_okay=False), help="Your own modules [modules/]."
)
ASK_PASSWORD = click.option(
    "-K", "--ask-become-pass", is_flag=True, help="Ask for the password of sudo, once for all hosts."
)
FORKS = click.option("--forks", type=click.IntRange(1), default=50, show_default=True, help="Hosts worked on at once.")
BECOME = click.option("-b", "--become", is_flag=True, help="As root, by sudo.")
BECOME_USER = click.option("--become-user", metavar="NAME", help="As this account, by sudo.")


def running(command: Command) -> Command:
    """The options of every command that changes hosts."""
    for option in (
        click.option(
            "--lock-wait",
            type=click.FloatRange(0),
            default=10,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for a host on which another run is at work.",
        ),
        ASK_PASSWORD,
        FORKS,
    ):
        command = option(command)
    return command


def reporting(command: Command) -> Command:
    """The options of how a run is shown."""
    for option in (
        click.option(
            "-v", "--verbose", count=True, help="Show unchanged calls and skipped tasks too; -vv: times and places."
        ),
        click.option(
            "-o",
            "--output",
            type=click.Choice(["rich", "plain", "json", "ndjson"]),
            help="Default: rich on a terminal, else plain.",
        ),
        click.option("-D", "--diff", is_flag=True, help="Show what changes in files and attributes."),
    ):
        command = option(command)
    return command


KEY_FILE = click.option("--key-file", metavar="FILE", help="Keys, one a line [$SLOTH_KEY_FILE, or $SLOTH_KEY itself].")
PASSPHRASE = click.option("--passphrase", is_flag=True, help="Ask for a passphrase instead of a key.")
JUNIT = click.option("--junit", metavar="FILE", help="Also write the result as JUnit XML.")
CHECK = click.option("-C", "--check", is_flag=True, help="Say what would change, and change nothing.")


def checking(command: Command) -> Command:
    """The options of a look ahead."""
    for option in (
        click.option("--exit-code", is_flag=True, help="With --check: exit with 3 when changes are pending."),
        CHECK,
    ):
        command = option(command)
    return command


def words(values: Iterable[str]) -> tuple[str, ...]:
    """The words of options that may be repeated and hold comma lists."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())


def read_inventory(path: str | None) -> Inventory:
    """The inventory that -i, the environment or the working directory names; else this machine alone."""
    found = find_inventory(path)
    return Inventory.read(found) if found else Inventory.local()


def select(inventory: Inventory, pattern: str | tuple[str, ...], where: str) -> tuple[Host, ...]:
    """The hosts that `pattern` selects; `local` is this machine, even when the inventory does not name it.

    Raises UsageError when there are none.
    """
    if pattern in ("local", ("local",)) and "local" not in inventory.hosts:
        inventory = Inventory.local()
    hosts = inventory.select(pattern, where)
    if not hosts:
        raise UsageError("no host is selected", hint="see sloth-runner inventory list")
    return tuple(hosts)


def modules_directory(given: str | None, beside: Path) -> Path:
    """Where a site's own modules are: what --modules says, else `modules` beside the site."""
    return Path(given) if given else beside / "modules"


def keys(key_file: str | None, passphrase: bool, again: bool = False) -> Keys:
    """What --key-file and --passphrase say; again: a new passphrase is asked for twice."""
    asks = functools.cache(lambda: _passphrase(again)) if passphrase else None
    return Keys(Path(key_file) if key_file else None, asks)


def _passphrase(again: bool) -> str:
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for a passphrase on", hint="set $SLOTH_PASSPHRASE")
    said = getpass.getpass("passphrase: ")
    if again and getpass.getpass("once more: ") != said:
        raise UsageError("these were two different passphrases")
    return said


def ask_password() -> str:
    """The password of sudo, asked for on the terminal."""
    return getpass.getpass("become password: ")
