"""`sloth-runner secret`: a site's secrets, in an encrypted file beside it."""

from __future__ import annotations

import getpass
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sloth.cli import parameters
from sloth.cli.state_source import show_json
from sloth.errors import StateError, UsageError
from sloth.state.keys import Keys
from sloth.state.vault import FILE, Vault


def _of_a_vault(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        parameters.PASSPHRASE,
        parameters.KEY_FILE,
        click.option("--vault", metavar="FILE", help="The file itself."),
        click.option("-f", "--file", "site", metavar="SITE", help=f"The site beside which {FILE} is [here]."),
    ):
        command = option(command)
    return command


def _vault(site: str | None, vault: str | None, key_file: str | None, passphrase: bool, again: bool = False) -> Vault:
    if site and vault:
        raise UsageError("give --file or --vault, not both")
    path = Path(vault) if vault else (Path(site).parent if site else Path()) / FILE
    return Vault(path, parameters.keys(key_file, passphrase, again and not path.exists()))


@click.group()
def secret() -> None:
    """Keep a site's secrets, encrypted, in a file beside it.

    The file secrets.vault belongs into git: its names can be read by everybody, its values by those who have the key.
    In a site secret("db/password") is the value; it is masked wherever it would be shown or stored.
    """


@secret.command("set")
@click.argument("name")
@click.argument("value", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.option("--stdin", is_flag=True, help="Read the value from the standard input, as it is.")
@click.option("--from-file", metavar="FILE", help="The value is what is in this file.")
@_of_a_vault
def set_secret(name: str, value: tuple[str, ...], stdin: bool, from_file: str | None, **where: Any) -> None:
    """Set a secret. The value is asked for; it is never on the command line, where everybody could read it."""
    if value:
        raise UsageError("a value on the command line can be read by everybody", hint="give --stdin")
    kept = _vault(**where, again=True)
    if stdin and from_file:
        raise UsageError("give --stdin or --from-file, not both")
    kept.set({name: _value(name, stdin, from_file)})
    click.echo(f"{name} is set in {kept.path}", err=True)


def _value(name: str, stdin: bool, from_file: str | None) -> str:
    if from_file:
        try:
            return Path(from_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageError(f"{from_file} cannot be read: {why}") from error
    if stdin:
        return sys.stdin.read()
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the value on", hint="give --stdin")
    value = getpass.getpass(f"{name}: ")
    if getpass.getpass("once more: ") != value:
        raise UsageError("these were two different values")
    return value


@secret.command()
@click.argument("name")
@_of_a_vault
def get(name: str, **where: Any) -> None:
    """Write the value of a secret to the standard output, as it is."""
    sys.stdout.write(_vault(**where).get(name))
    if sys.stdout.isatty():
        click.echo()


@secret.command("list")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@_of_a_vault
def list_secrets(output: str, **where: Any) -> None:
    """List the names of the secrets; no key is needed."""
    kept = _vault(**where)
    names = kept.names()
    if output == "json":
        show_json(names)
    elif names:
        click.echo("\n".join(names))
    else:
        click.echo(f"there is no secret in {kept.path}", err=True)


@secret.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_of_a_vault
def remove(name: str, yes: bool, **where: Any) -> None:
    """Remove a secret."""
    from sloth.cli.state_source import confirm

    kept = _vault(**where)
    kept.get(name)
    confirm(f"Remove {name} from {kept.path}?", yes)
    kept.set({name: None})


@secret.command()
@click.argument("name")
@_of_a_vault
def edit(name: str, **where: Any) -> None:
    """Edit the value of a secret in $EDITOR; a new name begins empty.

    The value is in a file that only you may read, in memory where the machine has such a place, while you edit it.
    """
    kept = _vault(**where, again=True)
    old = kept.get(name) if name in kept.names() else None
    new = _edited(old or "")
    if new == (old or ""):
        click.echo("nothing was changed", err=True)
        return
    kept.set({name: new}, before={name: old})
    click.echo(f"{name} is set in {kept.path}", err=True)


def _edited(text: str) -> str:
    memory = Path(f"/run/user/{os.getuid()}")
    # A closed terminal must not leave the value behind.
    ended = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        return _edit_in(text, memory)
    finally:
        for number, former in ended.items():
            signal.signal(number, former)


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _edit_in(text: str, memory: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="sloth-", dir=memory if memory.is_dir() else None) as directory:
        path = Path(directory) / "secret"
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        command = [*shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"), str(path)]
        try:
            status = subprocess.run(command, check=False).returncode
            if status:
                raise StateError(f"{command[0]} ended with status {status}; nothing was changed")
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{command[0]} cannot be run: {error.strerror}", hint="set $EDITOR") from error
        finally:
            for left in Path(directory).iterdir():  # an editor's own copies, too
                if left.is_file():
                    left.write_bytes(b"\0" * left.stat().st_size)


@secret.command()
@click.option("--new-key-file", metavar="FILE", help="The new key; without it, the first of $SLOTH_KEY or --key-file.")
@click.option("--new-passphrase", is_flag=True, help="Ask for a new passphrase.")
@_of_a_vault
def rekey(new_key_file: str | None, new_passphrase: bool, **where: Any) -> None:
    """Encrypt all secrets anew, under a new key."""
    kept = _vault(**where)
    new: Keys = parameters.keys(where["key_file"], where["passphrase"])
    if new_key_file or new_passphrase:
        new = parameters.keys(new_key_file, new_passphrase, again=True)
    click.echo(f"{kept.path} is encrypted with the key {kept.rekey(new)}", err=True)
