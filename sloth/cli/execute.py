"""Runs a site over hosts and reports it: what run, call, exec and adopt have in common."""

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


def execute(
    site: Site,
    inventory: Inventory,
    hosts: Sequence[Host],
    options: Options,
    *,
    tasks: Sequence[str] = (),
    output: str | None = None,
    diff: bool = False,
    verbose: int = 0,
    exit_code: bool = False,
    reporter: Reporter | None = None,
    junit: str | None = None,
    confirm: Callable[[Orphans], bool] | None = None,
) -> int:
    """Run the site and report it; return the exit status.

    tasks: the names of the tasks that are known before the run.
    reporter: use this one instead of the one that `output` names.
    exit_code: return 3 when something changed.
    junit: also write this file.
    confirm: ask it before anything is pruned.
    """
    kind = output or ("rich" if sys.stdout.isatty() else "plain")
    if reporter is None:
        reporter = make(kind, diff=diff, verbosity=verbose, stdout=sys.stdout, stderr=sys.stderr)
    reporters = [reporter]
    if junit:
        from sloth.report.junit import JUnit

        reporters.append(JUnit(junit))

    def emit(event: Event) -> None:
        for one in reporters:
            one.emit(event)

    async def run() -> int:
        job = Run(site, inventory, hosts, options, emit, confirm=confirm, tasks=tasks)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, job.interrupt)
        try:
            status = await job.run()
        finally:
            for one in reporters:
                one.close()
            job.close()
        return 3 if status == 0 and exit_code and job.has_changed else status

    return asyncio.run(run())
