"""`sloth-runner demo`: real runs over SSH, for somebody who has no servers at hand."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

import click

from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.report import make
from sloth.state.storage import Storage

SITE = Path(__file__).parent / "demo_site" / "site.sloth"
NAMES = ("web1", "web2", "db1")
VARS = """
[groups.web]
hosts = ["web*"]
[groups.web.vars]
port = 8080
[defaults.vars]
version = "1.0"
workers = 2
"""


@click.command()
@click.option("--keep", is_flag=True, help="Keep the directory with the hosts' home directories, and print its path.")
def demo(keep: bool) -> int:
    """Show runs over three temporary SSH servers on this machine.

    The servers listen on 127.0.0.1 only, run as you, have home directories of their own, and are removed in the end.
    """
    directory = Path(tempfile.mkdtemp(prefix="sloth-demo-"))
    try:
        return asyncio.run(_demo(directory))
    finally:
        if keep:
            click.echo(f"\nkept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


async def _demo(directory: Path) -> int:
    from sloth.transport.loopback import LoopbackFleet

    async with LoopbackFleet(NAMES, directory) as fleet:
        (directory / "inventory.toml").write_text(fleet.inventory_toml() + VARS)
        inventory = Inventory.read(directory / "inventory.toml")
        click.echo(f"Three SSH servers are running on 127.0.0.1: {', '.join(NAMES)}. Their site is {SITE}")
        steps = [
            ("1. The first run: nothing exists yet.", False, 0),
            ("2. The same again: nothing differs, so nothing changes.", False, 0),
            ("3. Somebody edits web1's front page by hand. What would a run do?", True, 0),
            ("4. The run repairs it, and reports why.", False, 0),
        ]
        for number, (heading, check, expected) in enumerate(steps):
            if number == 2:
                page = fleet.homes["web1"] / "app" / "index.html"
                page.write_text("<h1>hacked</h1>\n")
            click.secho(f"\n{heading}", bold=True)
            if await _run(inventory, directory, check) != expected:
                return 1
    return 0


async def _run(inventory: Inventory, directory: Path, check: bool) -> int:
    home = directory / "controller"
    kind = "rich" if sys.stdout.isatty() else "plain"
    reporter = make(kind, diff=check, verbosity=0, stdout=sys.stdout, stderr=sys.stderr)
    hosts = inventory.select("all")
    storage = Storage(home)
    memory, shared = storage.memory(), storage.shared()
    command = "sloth-runner run -i inventory.toml -f site.sloth" + (" --check --diff" if check else "")
    click.secho(f"$ {command}", dim=True)
    try:
        return await Run(
            Site.read(os.fspath(SITE)), inventory, hosts, Options(check=check), reporter.emit, memory, shared
        ).run()
    finally:
        reporter.close()
        memory.close()
