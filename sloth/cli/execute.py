"""Runs a site over hosts and reports it: what run, call, exec and adopt have in common."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sloth.engine.options import Options
from sloth.engine.prune import Orphans
from sloth.engine.run import Run
from sloth.inventory import Host, Inventory
from sloth.playbook import Site
from sloth.report import Reporter, make
from sloth.state.memory import Memory

if TYPE_CHECKING:
    from sloth.engine.plans.file import SavedPlan
    from sloth.engine.plans.recorder import Recorder

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class EventLoop(asyncio.SelectorEventLoop):
    """The usual event loop, which does not wait at its end for threads that resolve names or read slow disks."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  it overrides one
        executor = getattr(self, "_default_executor", None)
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)


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
    recorder: Recorder | None = None,
    plan: SavedPlan | None = None,
    ended: Callable[[Run, int], None] | None = None,
) -> int:
    """Run the site and report it; return the exit status.

    tasks: the names of the tasks that are known before the run.
    reporter: use this one instead of the one that `output` names.
    exit_code: return 3 when something changed.
    junit: also write this file.
    confirm: ask it before anything is pruned.
    recorder: records a check as a plan.
    plan: is applied instead of the site.
    ended: is called with the run and its exit status when all has been reported.
    """
    kind = output or ("rich" if sys.stdout.isatty() else "plain")
    if reporter is None:
        reporter = make(kind, diff=diff, verbosity=verbose, stdout=sys.stdout, stderr=sys.stderr)
    reporters = [reporter]
    if junit:
        from sloth.report.junit import JUnit

        reporters.append(JUnit(junit))

    broken: dict[Reporter, Exception] = {}

    def to_each(do: Callable[[Reporter], None]) -> None:
        """Let every reporter do something; one that fails must not keep the others from it."""
        for one in reporters:
            if one not in broken:
                try:
                    do(one)
                except Exception as error:
                    broken[one] = error

    async def run(memory: Memory) -> int:
        job = Run(
            site,
            inventory,
            hosts,
            options,
            lambda event: to_each(lambda one: one.emit(event)),
            memory,
            confirm=confirm,
            tasks=tasks,
            recorder=recorder,
            plan=plan,
        )
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                loop.add_signal_handler(number, job.interrupt)
        try:
            status = await job.run()
        finally:
            to_each(lambda one: one.close())
        if broken and status in (0, 3):
            status = 1
        if ended is not None:
            ended(job, status)
        return 3 if status == 0 and exit_code and job.has_changed else status

    memory = Memory()  # before there is an event loop, which would answer no Ctrl-C while another process locks it
    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            return runner.run(run(memory))
    finally:
        memory.close()
        for error in broken.values():
            with contextlib.suppress(OSError):
                reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
                print(f"error: the report cannot be written: {reason}", file=sys.stderr)
