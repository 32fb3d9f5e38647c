"""`sloth-runner key`: creates keys that encrypt secrets and exported states."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sloth.errors import StateError
from sloth.state.keys import generate as new_key
from sloth.state.keys import key_id


@click.group()
def key() -> None:
    """Create keys that encrypt secrets and exported states.

    Keys are taken from --key-file, $SLOTH_KEY (several are separated by commas) or $SLOTH_KEY_FILE. The first key
    encrypts, and every key decrypts. To replace a key, put the new one first, run `secret rekey` and `state rekey`,
    then remove the old one.
    """


@key.command()
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(), help="Write the key to a new file that only you may read."
)
def generate(output: str | None) -> None:
    """Create a new key."""
    created = new_key()
    if output is None:
        click.echo(created)
        return
    path = Path(output)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise StateError(f"{path} already exists", hint="choose another name: a lost key cannot be recovered") from None
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(created + "\n")
        file.flush()
        os.fsync(file.fileno())
    click.echo(f"wrote the key {key_id(created.encode('ascii'))} to {path}", err=True)
