"""The option --backend, and what this controller keeps and shares with it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from sloth.cli import credentials
from sloth.cli.filled import FilledText
from sloth.errors import UsageError
from sloth.inventory import BackendSetting, Inventory, find_backend, find_inventory
from sloth.state.storage import Storage

NO_BACKEND = "none"
BACKEND = click.option(
    "--backend",
    metavar="URL",
    type=FilledText(),
    expose_value=False,
    callback=credentials.note_value,
    help="Share locks, values, run records and copies of states with other controllers: etcd://, s3://, consul:// "
    "(which has met a stub only); or none.  [default: $SLOTH_BACKEND, else that of the inventory]",
)


NO_LOCK = click.option(
    "--no-lock",
    is_flag=True,
    expose_value=False,
    callback=credentials.note_value,
    help="Do not lock the site in the backend: other runs of it may be at work at the same time.",
)


def storage(inventory: Inventory) -> Storage:
    """Return what this controller keeps, with the backend that --backend, the environment or the inventory names.

    Raises UsageError when its URL is invalid.
    """
    return _storage(inventory.backend)


def storage_without_hosts(names: Sequence[str]) -> Storage:
    """Return what storage() does, for commands that do not read the inventory: names are those of --inventory."""
    return _storage(find_backend(find_inventory(names)))


def _storage(setting: BackendSetting | None) -> Storage:
    named = (
        (credentials.noted_value("backend"), "--backend"),
        (os.environ.get("SLOTH_BACKEND"), "$SLOTH_BACKEND"),
        (setting.url, setting.where) if setting is not None else ("", ""),
    )
    url, where = next((pair for pair in named if pair[0]), (None, ""))
    if url is None or url == NO_BACKEND:
        return Storage()
    from sloth.state.backends.location import parse  # most controllers share nothing

    try:
        location = parse(url)
    except UsageError as error:
        error.where = error.where or where
        raise
    keys = credentials.keys_of_command() if setting is not None and setting.encrypt else None
    return Storage(None, location, keys, locks_sites=not credentials.noted_value("no_lock"))
