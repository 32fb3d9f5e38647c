"""From a site, hosts and options to one Run and one reporter: what run, call and exec have in common."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence

from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.inventory import Host, Inventory
from sloth.playbook import Site
from sloth.report import Reporter, make


def launch(
    site: Site,
    inventory: Inventory,
    hosts: Sequence[Host],
    options: Options,
    *,
    output: str | None = None,
    diff: bool = False,
    verbose: int = 0,
    exit_code: bool = False,
    reporter: Callable[[Run], Reporter] | None = None,
) -> int:
    """Run and report; return the exit status. reporter: makes another one than `output` names."""

    def usual(job: Run) -> Reporter:
        kind = output or ("rich" if sys.stdout.isatty() else "plain")
        return make(kind, diff=diff, verbosity=verbose, stdout=sys.stdout, stderr=sys.stderr, secrets=job.vault.mask)

    async def go() -> int:
        sink: list[Reporter] = []
        job = Run(site, inventory, hosts, options, lambda event: sink[0].emit(event))
        sink.append((reporter or usual)(job))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, job.interrupt)
        try:
            status = await job.run()
        finally:
            sink[0].close()
        return 3 if status == 0 and exit_code and job.changed else status

    return asyncio.run(go())
