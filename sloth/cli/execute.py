"""From a site, hosts and options to one Run and one reporter: what run, call and exec have in common."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence

from sloth.engine.events import Event
from sloth.engine.options import Options
from sloth.engine.prune import Orphans
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
    junit: str | None = None,
    confirm: Callable[[Orphans], bool] | None = None,
) -> int:
    """Run and report; return the exit status.

    reporter: makes another one than `output` names; junit: a file that is written, too; confirm: asks before pruning.
    """

    def usual(job: Run) -> Reporter:
        kind = output or ("rich" if sys.stdout.isatty() else "plain")
        return make(kind, diff=diff, verbosity=verbose, stdout=sys.stdout, stderr=sys.stderr)

    async def go() -> int:
        sink: list[Reporter] = []

        def emit(event: Event) -> None:
            for one in sink:
                one.emit(event)

        job = Run(site, inventory, hosts, options, emit, confirm=confirm)
        sink.append((reporter or usual)(job))
        if junit:
            from sloth.report.junit import JUnit

            sink.append(JUnit(junit))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, job.interrupt)
        try:
            status = await job.run()
        finally:
            for one in sink:
                one.close()
            job.close()
        return 3 if status == 0 and exit_code and job.has_changed else status

    return asyncio.run(go())
