"""Keys and passwords that options name, or that are asked for on the terminal."""

from __future__ import annotations

import functools
import getpass
import os
import sys
from pathlib import Path

import click

from sloth.errors import UsageError
from sloth.passwords import Passwords
from sloth.state.keys import Keys

_ASKED = "sloth.cli.asked"  # of the context: option -> whether it was given


def note(context: click.Context, option: click.Parameter, is_given: bool) -> None:
    """Take note of whether an option that asks for a password was given."""
    context.meta.setdefault(_ASKED, {})[option.name] = is_given


def note_value(context: click.Context, option: click.Parameter, value: str | bool | None) -> None:
    """Take note of the value of an option that several commands have and pass on unseen."""
    if value is not None:
        context.meta[f"{_ASKED}.{option.name}"] = value


def noted_value(name: str) -> str | None:
    """Return the value of such an option in the running command; None when it was not given."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(f"{_ASKED}.{name}")


def keys(key_file: str | None, passphrase: bool, again: bool = False) -> Keys:
    """Return the keys of --key-file and --passphrase; again: ask for a new passphrase twice."""
    ask = None
    if passphrase:
        context = click.get_current_context(silent=True)
        known = {} if context is None else context.meta  # a command asks once, however often it needs it
        ask = known.setdefault(f"{_ASKED}.passphrase.{again}", functools.cache(lambda: _ask_passphrase(again)))
    return Keys(Path(key_file) if key_file else None, ask)


def keys_of_command() -> Keys:
    """Return the keys of --key-file and --passphrase of the running command, or else those of the environment."""
    context = click.get_current_context(silent=True)
    given = {} if context is None else context.params
    return keys(given.get("key_file"), bool(given.get("passphrase")))


def new_keys(new_key_file: str | None, new_passphrase: bool, key_file: str | None, passphrase: bool) -> Keys:
    """Return the keys to encrypt with again: those of the first two options, or else of the others."""
    if new_key_file or new_passphrase:
        return keys(new_key_file, new_passphrase, again=True)
    return keys(key_file, passphrase)


def _ask_passphrase(again: bool) -> str:
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for a passphrase on", hint="set $SLOTH_PASSPHRASE")
    passphrase = getpass.getpass("Passphrase: ")
    if again and getpass.getpass("Repeat the passphrase: ") != passphrase:
        raise UsageError("passphrases do not match")
    return passphrase


def passwords() -> Passwords:
    """Return the passwords that the options of the running command want, asked for on the terminal."""
    wanted = click.get_current_context().meta.get(_ASKED, {})
    login = _ask_password("SSH password: ", "-k") if wanted.get("ask_pass") else None
    if not wanted.get("ask_become_pass"):
        return Passwords(login)
    default = "" if login is None else " [that of SSH]"
    return Passwords(login, _ask_password(f"become password{default}: ", "-K") or login)


def _ask_password(prompt: str, option: str) -> str:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise UsageError(
            f"there is no terminal to ask for the password of {option} on",
            hint="set password_env or become_password_command in the inventory",
        ) from None
    return getpass.getpass(prompt)
