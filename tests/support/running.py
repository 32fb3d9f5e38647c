"""Run sites through the real engine and the real payload, and read the events of a run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

from sloth.engine.events import CallFinished, Event, HostFinished, Log, Result
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.storage import Storage

ENGINE = "SLOTH_TEST_ENGINE"  # the URL of the engine that they have
WORKERS = "SLOTH_TEST_WORKERS"  # how many workers the runs of a test have


async def run_site(
    site: Path | Site,
    inventory: Inventory,
    controller: Path,
    options: Options | None = None,
    hosts: str | Sequence[str] = "all",
) -> list[Event]:
    """Run a site over the hosts and return all events; the controller's memory is below `controller`."""
    return (await run_whole(site, inventory, controller, options, hosts))[0]


async def run_whole(
    site: Path | Site,
    inventory: Inventory,
    controller: Path,
    options: Options | None = None,
    hosts: str | Sequence[str] = "all",
) -> tuple[list[Event], int]:
    """Run the site file as run_site() does; return all events and the exit status."""
    events: list[Event] = []
    storage = Storage(controller)
    memory = storage.memory()
    options = replace(
        options or Options(), workers=int(os.environ.get(WORKERS, "0")), engine=os.environ.get(ENGINE, "")
    )
    try:
        status = await Run(
            site if isinstance(site, Site) else Site.read(str(site)),
            inventory,
            inventory.select(hosts),
            options,
            events.append,
            memory,
            storage.shared(),
            storage=storage,
        ).run()
    finally:
        memory.close()
    return events, status


async def run_local(source: str, home: Path, options: Options | None = None) -> list[Event]:
    """Run site text on this machine as agent `local`, with `home` as the account's home."""
    site = home / ".sloth-runner" / "site.sloth"
    site.parent.mkdir(mode=0o700, exist_ok=True)
    site.write_text(source)
    with mock.patch.dict(os.environ, {"HOME": str(home)}):
        return await run_site(site, Inventory.local(), home / ".sloth-runner" / "controller", options)


def results(events: list[Event]) -> list[Result]:
    """Return the result of every call, in order."""
    return [event.result for event in events if isinstance(event, CallFinished)]


def reasons(events: list[Event]) -> Counter[tuple[str, str]]:
    """Count the calls by (status, reason)."""
    return Counter((result.status, result.reason) for result in results(events))


def finished_hosts(events: list[Event]) -> dict[str, HostFinished]:
    """Return how each host ended, by name."""
    return {event.host: event for event in events if isinstance(event, HostFinished)}


def printed(events: list[Event], host: str = "") -> list[str]:
    """Return what sites have printed and logged, of one host if it is named."""
    return [event.text for event in events if isinstance(event, Log) and host in ("", event.host)]


async def failure(source: str, home: Path) -> str:
    """Return what a task whose function is `source` fails of."""
    home.mkdir(exist_ok=True)
    events = await run_local(f'task({{ name = "t", run = function() {source} end }})', home)
    return finished_hosts(events)["local"].error or ""
