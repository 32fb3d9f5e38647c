"""`sloth-runner secret`: manages a site's secrets, in an encrypted file beside it."""

from __future__ import annotations

import getpass
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from sloth.cli import credentials, parameters
from sloth.cli.output import confirm, write_json
from sloth.errors import StateError, UsageError
from sloth.frozen import frozen
from sloth.state.vault import FILE, Vault


@frozen
class VaultOptions:
    """Which file of secrets is meant, and its keys."""

    site: str | None
    vault: str | None
    key_file: str | None
    passphrase: bool

    def open(self, create: bool = False) -> Vault:
        """Return the vault; create: one that does not exist yet may be created, so a new passphrase is asked twice."""
        if self.site and self.vault:
            raise UsageError("give either --file or --vault")
        path = Path(self.vault) if self.vault else (Path(self.site).parent if self.site else Path()) / FILE
        return Vault(path, credentials.keys(self.key_file, self.passphrase, create and not path.exists()))


_vault_options = parameters.collect(
    "where",
    VaultOptions,
    click.option(
        "-f",
        "--file",
        "site",
        cls=parameters.OnceOption,
        metavar="SITE",
        type=click.Path(),
        help=f"The site whose secrets are meant: {FILE} is in its directory.  [default: the current directory]",
    ),
    click.option("--vault", metavar="FILE", type=click.Path(), help="The encrypted file itself, instead of --file."),
    parameters.KEY_FILE,
    parameters.PASSPHRASE,
)


@click.group()
def secret() -> None:
    """Manage a site's secrets, which are encrypted in a file beside it.

    The file secrets.vault belongs in git: everybody can read its names, but only those with the key its values. In a
    site, secret("db/password") returns the value; it is redacted wherever it would be shown or stored.
    """


@secret.command("set")
@click.argument("name")
@click.argument("value", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.option("--stdin", is_flag=True, help="Read the value from standard input, without its final newline.")
@click.option("--keep-newline", is_flag=True, help="With --stdin: keep the final newline.")
@click.option("--from-file", metavar="FILE", type=click.Path(), help="Read the value from a file, exactly as it is.")
@_vault_options
def set_secret(
    name: str, value: tuple[str, ...], stdin: bool, keep_newline: bool, from_file: str | None, where: VaultOptions
) -> None:
    """Set a secret. You are asked for its value.

    The value is never given on the command line, where other users of this machine could read it.
    """
    if value:
        raise UsageError("other users can read a value on the command line", hint="use --stdin")
    vault = where.open(create=True)
    if stdin and from_file:
        raise UsageError("give either --stdin or --from-file")
    if keep_newline and not stdin:
        raise UsageError("--keep-newline needs --stdin", hint="--from-file keeps the whole file")
    vault.set({name: _read_value(name, stdin, keep_newline, from_file)})
    click.echo(f"set {name} in {vault.path}", err=True)


def _read_value(name: str, stdin: bool, keep_newline: bool, from_file: str | None) -> str:
    if from_file:
        try:
            # newline="": Python must not translate what is in a key file, say
            with open(from_file, encoding="utf-8", newline="") as file:
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"cannot read {from_file}: {why}") from error
    if stdin:
        value = sys.stdin.read()
        return value if keep_newline else value.removesuffix("\n")  # `echo` and `pass show` add it
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the value on", hint="use --stdin")
    value = getpass.getpass(f"{name}: ")
    if getpass.getpass("Repeat the value: ") != value:
        raise UsageError("values do not match")
    return value


@secret.command()
@click.argument("name")
@_vault_options
def get(name: str, where: VaultOptions) -> None:
    """Write the value of a secret to standard output, exactly as it is."""
    sys.stdout.write(where.open().get(name))
    if sys.stdout.isatty():
        click.echo()


@secret.command("list")
@parameters.TABLE_OR_JSON
@_vault_options
def list_secrets(output: str, where: VaultOptions) -> None:
    """List the names of all secrets. No key is needed."""
    vault = where.open()
    names = vault.names()
    if output == "json":
        write_json(names)
    elif names:
        click.echo("\n".join(names))
    else:
        click.echo(f"no secret in {vault.path}", err=True)


@secret.command()
@click.argument("name")
@parameters.YES
@_vault_options
def remove(name: str, yes: bool, where: VaultOptions) -> None:
    """Remove a secret."""
    vault = where.open()
    vault.get(name)  # it must exist, and the key must be the right one
    confirm(f"Remove {name} from {vault.path}?", yes)
    vault.set({name: None})


@secret.command()
@click.argument("name")
@_vault_options
def edit(name: str, where: VaultOptions) -> None:
    """Edit the value of a secret with $EDITOR; a new secret starts empty.

    While you edit it, the value is in a file that only you may read, and which is kept in memory if possible.
    """
    vault = where.open(create=True)
    old = vault.get(name) if name in vault.names() else None
    new = _edit(old or "")
    if new == (old or ""):
        click.echo("nothing changed", err=True)
        return
    vault.set({name: new}, before={name: old})
    click.echo(f"set {name} in {vault.path}", err=True)


def _edit(text: str) -> str:
    memory = Path(f"/run/user/{os.getuid()}")  # a tmpfs with systemd
    # A closed terminal must not leave the value behind.
    former = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        return _edit_in(text, memory)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


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
                raise StateError(f"{command[0]} ended with status {status}; nothing changed")
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot run {command[0]}: {error.strerror}", hint="set $EDITOR") from error
        finally:
            for left in Path(directory).iterdir():  # including an editor's backups
                if left.is_file():
                    left.write_bytes(b"\0" * left.stat().st_size)


@secret.command()
@parameters.NEW_KEY_FILE
@parameters.NEW_PASSPHRASE
@_vault_options
def rekey(new_key_file: str | None, new_passphrase: bool, where: VaultOptions) -> None:
    """Encrypt all secrets again, with a new key."""
    vault = where.open()
    new = credentials.new_keys(new_key_file, new_passphrase, where.key_file, where.passphrase)
    click.echo(f"{vault.path} is encrypted with the key {vault.rekey(new)}", err=True)
