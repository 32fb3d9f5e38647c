"""Runs a site over hosts and reports it: what run, call, exec and adopt have in common."""

from __future__ import annotations

# signal.getsignal() describes handlers in words to find out that they are none of its constants.
import _signal  # type: ignore[import-not-found]  # typeshed does not have it
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sloth.cli.output import warn
from sloth.engine.options import Options
from sloth.engine.prune import Orphans
from sloth.engine.run import Run
from sloth.engine.stepping import Ask
from sloth.errors import StateError, UsageError
from sloth.inventory import Host, Inventory
from sloth.playbook import Site
from sloth.report import Reporter, make
from sloth.state.memory import Memory
from sloth.state.storage import Storage

if TYPE_CHECKING:
    from types import FrameType

    from sloth.engine.plans.file import SavedPlan
    from sloth.engine.plans.recorder import Recorder

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class EventLoop(asyncio.SelectorEventLoop):
    """The usual event loop, which does not wait at its end for threads that resolve names or read slow disks."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  it overrides one
        executor = getattr(self, "_default_executor", None)
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do what Python does at a Ctrl-C. asyncio.Runner, which replaces Python's handler, leaves this one alone."""
    raise KeyboardInterrupt


def _further_reporters(
    kind: str,
    junit: str | None,
    log: str | None,
    profile: str | None,
    traces: bool,
    followed: Sequence[str] | None,
) -> Iterator[Reporter]:
    """Yield the reporters besides that of the output, whose kind this is. Raises UsageError."""
    if junit:
        from sloth.report.junit import JUnit

        yield JUnit(junit)
    if log:
        from sloth.report.log_file import LogFile

        yield LogFile(log)
    if profile is not None:
        from sloth.report.profile import Profile

        yield Profile(sys.stderr if kind in ("json", "ndjson") else sys.stdout, profile or None)
    if traces:
        from sloth.report.traces import Traces

        yield Traces()
    if followed is not None:
        from sloth.cli.following import Following

        yield Following(followed)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from sloth.report.annotations import Annotations

        yield Annotations(sys.stderr if kind in ("json", "ndjson") else sys.stdout)


def execute(
    site: Site,
    inventory: Inventory,
    hosts: Sequence[Host],
    options: Options,
    storage: Storage,
    *,
    tasks: Sequence[str] = (),
    output: str | None = None,
    diff: bool = False,
    verbose: int = 0,
    exit_code: bool = False,
    reporter: Reporter | None = None,
    junit: str | None = None,
    log: str | None = None,
    profile: str | None = None,
    traces: bool = False,
    web: bool = False,
    confirm: Callable[[Orphans], bool] | None = None,
    step: Ask | None = None,
    recorder: Recorder | None = None,
    plan: SavedPlan | None = None,
    ended: Callable[[Run, int], None] | None = None,
) -> int:
    """Run the site and report it; return the exit status.

    storage: where the run is recorded, and what it shares with others.
    tasks: the names of the tasks that are known before the run.
    reporter: use this one instead of the one that `output` names.
    exit_code: return 3 when something changed.
    junit, log: also write these files.
    profile: also write where the time went: "" the table alone, else the picture to this file, too.
    traces: also send the run as a trace.
    web: also serve the web UI while it goes on.
    confirm: ask it before anything is pruned; step: before each task.
    recorder: records a check as a plan.
    plan: is applied instead of the site.
    ended: is called with the run and its exit status when all has been reported.
    """
    if storage.location is not None and not site.adhoc and not site.is_portable:
        raise UsageError(
            f"the site {site.title} needs a name: with a backend, other controllers must know it by the same one",
            hint="use --site-name NAME"
            + (" when you plan" if site.remembered else ", or keep it in a git working copy with a remote"),
        )
    kind = output or ("rich" if sys.stdout.isatty() else "plain")

    def usual() -> float | None:
        from sloth.engine.history import usual_seconds

        with contextlib.suppress(StateError):
            return usual_seconds(memory, site, options, hosts)
        return None

    if reporter is None:
        reporter = make(kind, diff=diff, verbosity=verbose, stdout=sys.stdout, stderr=sys.stderr, usual=usual)
    followed = tuple(map(str, inventory.paths)) if web else None
    reporters = [reporter, *_further_reporters(kind, junit, log, profile, traces, followed)]

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
        backend, shared = storage.backend(), storage.shared()
        delivery = None
        if backend is not None:
            from sloth.state.sync.deliver import Delivery

            delivery = Delivery(memory, backend)
        job = Run(
            site,
            inventory,
            hosts,
            options,
            lambda event: to_each(lambda one: one.emit(event)),
            memory,
            shared,
            confirm=confirm,
            tasks=tasks,
            step=step,
            recorder=recorder,
            plan=plan,
            delivery=delivery,
            storage=storage,
        )
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            if _signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
                loop.add_signal_handler(number, job.interrupt)
        lock = None
        if backend is not None and storage.locks_sites and not options.check and not site.adhoc:
            from sloth.engine.site_lock import SiteLock

            lock = SiteLock(shared, job, options.lock_wait)
        try:
            if lock is not None:
                await lock.take()
            status = await job.run()
        finally:
            said = await lock.release() if lock is not None else ""
            to_each(lambda one: one.close())
            await storage.close()
            if said:
                warn(f"warning: {said}")
        if (broken or (lock is not None and lock.is_taken_over)) and status in (0, 3):
            status = 1
        if ended is not None:
            ended(job, status)
        return 3 if status == 0 and exit_code and job.has_changed else status

    if _signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    # Before there is an event loop, which would answer no Ctrl-C while another process locks it.
    memory = storage.memory()
    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            return runner.run(run(memory))
    finally:
        memory.close()
        for error in broken.values():
            with contextlib.suppress(OSError):
                reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
                print(f"error: the report cannot be written: {reason}", file=sys.stderr)
