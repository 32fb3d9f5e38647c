"""A whole run: which hosts, how many at once, what they share, and the events of all of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sloth.engine.barriers import Barriers
from sloth.engine.emitter import Emitter
from sloth.engine.events import (
    CHANGED,
    UNKNOWN,
    UNREACHABLE,
    Event,
    RunFinished,
    RunStarted,
)
from sloth.engine.host import GRACE
from sloth.engine.interruption import Interruption
from sloth.engine.making import make_context
from sloth.engine.options import Options
from sloth.engine.prune import Orphans, Pruning
from sloth.engine.recording import Recording
from sloth.engine.sealing import SecretSealer
from sloth.engine.secrets import Secrets
from sloth.engine.shard import Shard
from sloth.engine.stepping import Ask, Stepping
from sloth.inventory import Host, Inventory
from sloth.playbook import Site
from sloth.state.memory import Memory
from sloth.state.shared import Shared
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.engine.plans.file import SavedPlan
    from sloth.engine.plans.recorder import Recorder
    from sloth.engine.workers.workers import Workers
    from sloth.state.storage import Storage
    from sloth.state.sync.deliver import Delivery


class Run:
    """One run of one site over some hosts: `site`, `hosts`, `options`, and the `secrets` that it has read.

    Attributes:
        interruption: whether the user has interrupted it.
    """

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
        storage: Storage | None = None,
    ) -> None:
        """emit: called for every event, in order, on the event loop's thread; confirm: see Pruning.

        While run() runs, memory does not block.
        tasks: the names of the tasks that are known before the run, for RunStarted; step: asked before each task.
        recorder: records a check as a plan; plan: is applied instead of the site.
        delivery: brings what is recorded to a backend; storage: what workers open, needed with them.
        """
        self.run_id = time.strftime("%Y%m%d-%H%M%S-") + os.urandom(3).hex()
        self.interruption = Interruption()
        self.options = options
        self.site = site
        self._task_names = tuple(tasks)
        self.hosts = tuple(hosts)
        self._memory = memory
        self._shard = Shard(self.hosts, options.forks)
        self._workers: Workers | None = None
        self._has_unknown_tag = False
        self.secrets = Secrets(site.directories if plan is None else plan.directories, options.keys)
        self.secrets.learn(sorted(options.prompts.secrets))
        shared.sealer = SecretSealer(self.secrets, options.keys)
        redact = self.secrets.redact
        self._out = Emitter(self.secrets, emit, options.check, recorder.happened if recorder is not None else None)
        self._recording = Recording(memory, self.run_id, self._out, delivery)
        self._context = make_context(
            run_id=self.run_id,
            site=site,
            options=options,
            inventory=inventory,
            hosts=hosts,
            out=self._out,
            memory=memory,
            shared=shared,
            secrets=self.secrets,
            barriers=Barriers((host.name for host in hosts), options.linear),
            pruning=Pruning((host.name for host in hosts), lambda found: confirm is None or confirm(redact(found))),
            stepping=Stepping(step),
            pause=self._shard.pause,
            recorder=recorder,
            saved=plan,
        )
        if options.workers or options.engine:
            assert storage is not None
            kind = _workers_class(options)
            self._workers = kind(self._context, self._out, self.hosts, storage, memory, is_stepping=step is not None)

    # The course of the run

    async def run(self) -> int:
        """Run everything and return the exit status (without `--exit-code`'s 3)."""
        begun = time.monotonic()
        if self._workers is not None and not await self._open(self._workers):
            return self.exit_status()
        names, check = tuple(host.name for host in self.hosts), self.options.check
        sources = tuple(map(str, self._context.inventory.paths))
        self._out.emit(RunStarted(time.time(), self.run_id, self.site.title, check, names, self._task_names, sources))
        self._memory.do_not_block()
        paths = self._context.inventory.paths
        await self._recording.begin(self.site, self.options, self.hosts, paths, self.interruption)
        if self._workers is not None:
            await self._workers.run(self._recording.keep)
        else:
            await self._shard.run(self._context, self._out, self._recording.keep)
        await self._shard.close(self._context, self._out)
        for text in _unknown_tags(self._context.tags, self.hosts, self.options):
            self._has_unknown_tag = True
            self._out.error("", text)
        seconds = time.monotonic() - begun
        summary = self._out.counts.summary(len(names))
        status, interrupted = self.exit_status(), self.interrupted  # Ctrl-C from here on stops no host's work
        await self._recording.end(seconds, summary, status, self.interruption)
        self._out.emit(RunFinished(time.time(), self.run_id, seconds, summary, interrupted))
        return status

    async def _open(self, workers: Workers) -> bool:
        """Prepare workers; return whether they are there before the run is interrupted. Raises UsageError."""
        opening = asyncio.ensure_future(workers.open())
        if not await self.interruption.precedes(opening):
            await opening
            return True
        opening.cancel()
        await asyncio.wait({opening})
        return False

    @property
    def has_unknown(self) -> bool:
        """Whether a check could not know what something would do."""
        return self._out.counts[UNKNOWN.value] > 0

    def interrupt(self) -> None:
        """End the run: every host finishes or abandons what it does and is released. The second time, it is cut off."""
        if not self.interrupted:
            self.interruption.set()
            self._out.warn(f"interrupted: hosts have up to {GRACE:g} seconds to end what they do")
        (self._workers or self._shard).interrupt()

    def warn(self, text: str) -> None:
        """Report a warning of the run."""
        self._out.warn(text)

    def fail(self, text: str) -> None:
        """Report an error that is no host's; the run has failed then."""
        self._out.failed = True
        self._out.error("", text)

    @property
    def interrupted(self) -> bool:
        """Whether the run was interrupted."""
        return self.interruption.happened()

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


def _workers_class(options: Options) -> type[Workers]:
    """Return the kind of the workers of a run. Most runs have none, and must not pay for them."""
    if options.engine:
        from sloth.engine.workers.engine import DaskWorkers

        return DaskWorkers
    from sloth.engine.workers.workers import Workers

    return Workers


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
