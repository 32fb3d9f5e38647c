"""The options --engine and --workers, and what an inventory says of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sloth.cli.filled import FilledText
from sloth.cli.parameters import evaluate_variable
from sloth.errors import InventoryError, UsageError
from sloth.inventory.engine import TAGS, EngineSetting
from sloth.inventory.templated import Templated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sloth.inventory import Host
    from sloth.payload.kernel.values import Json

NO_ENGINE = "none"
WORKERS = click.option(
    "--workers",
    type=click.IntRange(0),
    metavar="N",
    help="Divide the hosts among N processes of this machine.  [default: that of the inventory, else 0]",
)
ENGINE = click.option(
    "--engine",
    metavar="URL",
    type=FilledText(),
    help="Divide the hosts among the workers of a Dask cluster: dasks://scheduler:8786, or dask:// on this machine; or "
    "none.  [default: $SLOTH_ENGINE, else that of the inventory]",
)


def engine_and_workers(url: str | None, workers: int | None, setting: EngineSetting | None) -> tuple[str, str, int]:
    """Return the URL of the engine, "" for none, what names it, and how many workers there are, 0 when nothing says it.

    url, workers: the options. Raises UsageError when the URL is invalid.
    """
    setting = setting or EngineSetting()
    named = ((url, "--engine"), (os.environ.get("SLOTH_ENGINE"), "$SLOTH_ENGINE"), (setting.url, setting.where))
    found, where = next((pair for pair in named if pair[0]), ("", ""))
    if workers is None:  # those of the inventory are of its own engine
        workers = setting.workers if where in (setting.where, "") else 0
    if not found or found == NO_ENGINE:
        return "", "", workers
    from sloth.engine.workers.address import parse  # most runs have no engine

    try:
        parse(found)
    except UsageError as error:
        error.where = error.where or where
        raise
    return found, where, workers


def near(setting: EngineSetting | None, hosts: Sequence[Host], extra: Mapping[str, Json]) -> dict[str, tuple[str, ...]]:
    """Return by which names hosts know the workers that are near them, of those hosts that know some.

    extra: variables that override those of hosts. Raises InventoryError for a value that is no name.
    """
    if setting is None or not setting.near:
        return {}
    found = {host.name: _near(setting.near, host, extra) for host in hosts}
    return {name: names for name, names in found.items() if names}


def _near(variable: str, host: Host, extra: Mapping[str, Json]) -> tuple[str, ...]:
    if variable == TAGS:
        return host.tags
    value = extra.get(variable, host.vars.get(variable))
    if isinstance(value, Templated):
        value = evaluate_variable(host, variable, value)
    if value is None:
        return ()
    if not isinstance(value, str) or not value:
        raise InventoryError(
            f"{host.name}: {variable} must be the name of a worker, not {value!r}: [engine] near names this variable"
        )
    return (value,)
