"""A whole run: which hosts, how many at once, what they share, and the events of all of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sloth.engine.assets import Shipper
from sloth.engine.barriers import Barriers
from sloth.engine.context import RunContext
from sloth.engine.delegates import Delegates
from sloth.engine.emitter import Emitter
from sloth.engine.events import (
    CHANGED,
    FAILED,
    SKIPPED,
    UNKNOWN,
    UNREACHABLE,
    Event,
    HostFinished,
    RunFinished,
    RunStarted,
)
from sloth.engine.host import GRACE, HostRun
from sloth.engine.modules import module_names, named_calls
from sloth.engine.options import Options
from sloth.engine.other_hosts import OtherHosts
from sloth.engine.prune import Orphans, Pruning
from sloth.engine.recording import Recording
from sloth.engine.sealing import SecretSealer
from sloth.engine.secrets import Secrets
from sloth.engine.sessions import Purpose, Sessions
from sloth.engine.stepping import Ask, Stepping
from sloth.inventory import Host, Inventory
from sloth.playbook import Site
from sloth.state.memory import Memory
from sloth.state.shared import Shared
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.engine.plans.file import SavedPlan
    from sloth.engine.plans.recorder import Recorder
    from sloth.state.sync.deliver import Delivery

LONG = 1.0  # seconds after which a call is reported while it runs


class Run:
    """One run of one site over some hosts: `site`, `hosts`, `options`, and the `secrets` that it has read."""

    def __init__(
        self,
        site: Site,
        inventory: Inventory,
        hosts: Sequence[Host],
        options: Options,
        emit: Callable[[Event], None],
        memory: Memory,
        shared: Shared,
        confirm: Callable[[Orphans], bool] | None = None,
        tasks: Sequence[str] = (),
        step: Ask | None = None,
        recorder: Recorder | None = None,
        plan: SavedPlan | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        """emit: called for every event, in order, on the event loop's thread; confirm: see Pruning.

        While run() runs, memory does not block.
        tasks: the names of the tasks that are known before the run, for RunStarted; step: asked before each task.
        recorder: records a check as a plan; plan: is applied instead of the site.
        delivery: brings what is recorded to a backend.
        """
        self.run_id = time.strftime("%Y%m%d-%H%M%S-") + os.urandom(3).hex()
        self.interrupted = False
        self.options = options
        self.site = site
        self._task_names = tuple(tasks)
        self.hosts = tuple(hosts)
        self._memory = memory
        self._slots = asyncio.Semaphore(options.forks)
        self._tasks: list[asyncio.Task[None]] = []
        self._active: dict[str, HostRun] = {}
        self._has_unknown_tag = False
        self.secrets = Secrets(site.directories if plan is None else plan.directories, options.keys)
        self.secrets.learn(sorted(options.prompts.secrets))
        shared.sealer = SecretSealer(self.secrets, options.keys)
        redact = self.secrets.redact
        self._out = Emitter(self.secrets, emit, options.check, recorder.happened if recorder is not None else None)
        self._recording = Recording(memory, self.run_id, self._out, delivery)
        purpose = Purpose(
            run=self.run_id,
            site=site.identity,
            check=options.check,
            adopt=options.adopt,
            lock_wait=options.lock_wait,
            shared=any(b"delegate_to" in file.source for file in site.files),
            passwords=options.passwords,
            custom=options.custom,
            calls=named_calls(site),
        )
        sessions = Sessions(purpose, self._memory, inventory.hosts.values() if purpose.shared else hosts)
        self._context = RunContext(
            run_id=self.run_id,
            site=site,
            options=options,
            inventory=inventory,
            modules=module_names(),
            emit=self._out.emit,
            note_facts=self._out.note_facts,
            pause=self._pause,
            barriers=Barriers((host.name for host in hosts), options.linear),
            pruning=Pruning((host.name for host in hosts), lambda found: confirm is None or confirm(redact(found))),
            secrets=self.secrets,
            shared=shared,
            shipper=Shipper(self._memory),
            sessions=sessions,
            tags={},
            stepping=Stepping(step),
            others=OtherHosts({host.name for host in hosts}),
            delegates=Delegates(sessions, self._out.emit),
            recorder=recorder,
            saved=plan,
            refused=self._out.refused,
            complete=self._out.complete,
        )

    # The course of the run

    async def run(self) -> int:
        """Run everything and return the exit status (without `--exit-code`'s 3)."""
        begun = time.monotonic()
        names, check = tuple(host.name for host in self.hosts), self.options.check
        sources = tuple(map(str, self._context.inventory.paths))
        self._out.emit(RunStarted(time.time(), self.run_id, self.site.title, check, names, self._task_names, sources))
        self._memory.do_not_block()
        paths = self._context.inventory.paths
        await self._recording.begin(self.site, self.options, self.hosts, paths, self.is_interrupted)
        self._context.shipper.warm_up(self.site)
        self._tasks = [asyncio.create_task(self._run_host(host), name=host.name) for host in self.hosts]
        if self.interrupted:
            asyncio.get_running_loop().call_soon(self._cancel)  # when each has begun, so that it reports its end
        watch = asyncio.create_task(self._watch())
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        watch.cancel()
        for host, end in zip(self.hosts, ends, strict=True):
            if not isinstance(end, Exception) and host.name in self._out.ended:
                continue
            # Nobody foresaw this error, perhaps a reporter's: the exit status must not improve because of it.
            self._out.failed = True
            if host.name not in self._out.ended:
                text = f"{type(end).__name__}: {end}; hint: this is a defect of sloth-runner: please report it"
                self._out.emit(HostFinished(time.time(), host.name, FAILED, time.monotonic() - begun, text))
            else:
                self._out.error(host.name, f"{type(end).__name__}: {end}")
        await self._context.others.close()
        self._out.failed |= not await self._context.delegates.close(lambda: self.interrupted)
        await self._context.sessions.close()
        await self._context.shipper.close()
        for text in _unknown_tags(self._context.tags, self.hosts, self.options):
            self._has_unknown_tag = True
            self._out.error("", text)
        seconds = time.monotonic() - begun
        summary = self._out.counts.summary(len(names))
        status, interrupted = self.exit_status(), self.interrupted  # Ctrl-C from here on stops no host's work
        await self._recording.end(seconds, summary, status, self.is_interrupted)
        self._out.emit(RunFinished(time.time(), self.run_id, seconds, summary, interrupted))
        return status

    @property
    def has_unknown(self) -> bool:
        """Whether a check could not know what something would do."""
        return self._out.counts[UNKNOWN.value] > 0

    async def _watch(self) -> None:
        """Report the calls that take long, and record how far hosts have come: this process may be killed."""
        while True:
            await asyncio.sleep(LONG)
            for run in list(self._active.values()):
                run.report_long_call()
            self._recording.keep()

    async def _run_host(self, host: Host) -> None:
        try:
            async with self._slots:
                run = self._active[host.name] = HostRun(self._context, host)
                await run.run()
        except asyncio.CancelledError:  # it had not begun
            self._out.emit(HostFinished(time.time(), host.name, SKIPPED, 0.0, None))
        finally:
            self._active.pop(host.name, None)
            self._context.barriers.ended(host.name)  # whatever happened: others may wait for it
            await self._context.pruning.ended(host.name)

    def interrupt(self) -> None:
        """End the run: every host finishes or abandons what it does and is released. The second time, it is cut off."""
        if not self.interrupted:
            text = f"interrupted: hosts have up to {GRACE:g} seconds to end what they do"
            self._out.warn(text)
            for run in self._active.values():
                run.report_stop()
            self.interrupted = True
            self._cancel()
        else:
            for run in self._active.values():
                run.abandon()
            self._context.delegates.abandon()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def warn(self, text: str) -> None:
        """Report a warning of the run."""
        self._out.warn(text)

    def fail(self, text: str) -> None:
        """Report an error that is no host's; the run has failed then."""
        self._out.failed = True
        self._out.error("", text)

    def is_interrupted(self) -> bool:
        """Return whether the run was interrupted."""
        return self.interrupted

    def exit_status(self) -> int:
        """Return the contract's exit status: 130, 1, 4, 3, 2 or 0."""
        if self.interrupted:
            return 130
        if self._out.failed:
            return 1
        if self._out.counts[UNREACHABLE.value]:
            return 4
        if self._out.refused:
            return 3
        return 2 if self._has_unknown_tag else 0

    @property
    def has_changed(self) -> bool:
        """Whether anything changed (or, in a check, would)."""
        return self._out.counts[CHANGED.value] > 0

    @contextlib.asynccontextmanager
    async def _pause(self) -> AsyncIterator[None]:
        """Give this host's slot to another while it waits for others."""
        self._slots.release()
        try:
            yield
        finally:
            if not self.interrupted:  # then nobody needs to wait for anybody
                await self._slots.acquire()


def _unknown_tags(found: Mapping[str, frozenset[str]], hosts: Sequence[Host], options: Options) -> list[str]:
    """Return errors about tags that no task has. (preflight() finds them where the tasks do not depend on hosts.)

    found: the tags of all tasks, of each host that has loaded the site.
    """
    known = {tag for tags in found.values() for tag in tags} | {"always", "never"}
    if len(found) < len(hosts):
        return []  # the tasks of some host are not known
    return [
        f'no task has the tag "{tag}"; hint: {did_you_mean_or_list(tag, sorted(known), "tags")}'
        for tag in dict.fromkeys((*options.tags, *options.skip_tags))
        if tag not in known
    ]
