"""`sloth-runner key`: keys that encrypt secrets and exported states."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sloth.errors import StateError
from sloth.state.keys import generate as new_key
from sloth.state.keys import key_id


@click.group()
def key() -> None:
    """Make keys that encrypt secrets and exported states.

    Keys are looked for in --key-file, $SLOTH_KEY (several with commas) and $SLOTH_KEY_FILE. The first key encrypts, all
    decrypt: to change keys, put the new one first, run `secret rekey` and `state rekey`, then drop the old one.
    """


@key.command()
@click.option("-o", "--output", metavar="FILE", help="Write it to a new file that only you may read.")
def generate(output: str | None) -> None:
    """Make a new key."""
    made = new_key()
    if output is None:
        click.echo(made)
        return
    path = Path(output)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise StateError(f"{path} is there already", hint="a key that is lost cannot be brought back") from None
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(made + "\n")
        file.flush()
        os.fsync(file.fileno())
    click.echo(f"the key {key_id(made.encode('ascii'))} is in {path}", err=True)
