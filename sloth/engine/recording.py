"""The record of a run or check on the controller: that it began, how far its hosts have come, and how it ended."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.emitter import Emitter
from sloth.engine.interruption import Interruption
from sloth.engine.options import Options
from sloth.engine.resume import given
from sloth.engine.used_values import used_values
from sloth.errors import StateError
from sloth.inventory import Host
from sloth.playbook import Site
from sloth.state.author import who
from sloth.state.memory import Memory
from sloth.state.patience import patiently
from sloth.state.run_records import RunCounts, RunKind

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject
    from sloth.state.sync.deliver import Delivery

# GitLab, Jenkins, Buildkite, CircleCI, Woodpecker, Drone, Travis, and what most of the others set.
_JOBS = (
    "CI_JOB_URL", "BUILD_URL", "BUILDKITE_BUILD_URL", "CIRCLE_BUILD_URL", "CI_PIPELINE_URL", "DRONE_BUILD_LINK",
    "TRAVIS_BUILD_WEB_URL", "CI_JOB_ID", "BUILD_ID",
)  # fmt: skip


class Recording:
    """Writes what was emitted of one run to the controller's memory."""

    def __init__(self, memory: Memory, run: str, emitter: Emitter, delivery: Delivery | None = None) -> None:
        """delivery: brings what is recorded to a backend while the run goes on."""
        self._memory = memory
        self._runs = memory.runs
        self._run = run
        if memory.outbox is not None:
            memory.outbox.run = run
        self._out = emitter
        self._delivery = delivery
        self._about: JsonObject = {}

    async def begin(
        self,
        site: Site,
        options: Options,
        hosts: Sequence[Host],
        inventory: Sequence[Path],
        interruption: Interruption,
    ) -> None:
        """Record that the run begins; inventory: its sources. Raises StateError; of a check, that is a warning."""
        what = None if site.adhoc or site.remembered or options.check else given(site, options, hosts)
        if options.resume is not None and not options.check:
            what = options.resume.given(what)
            self._out.progress += options.resume.rows()
        kind = RunKind.CHECK if options.check else RunKind.RUN
        self._about = _about(options, inventory)
        about = json.dumps(self._out.redact(self._about))
        begin = partial(self._runs.begin, self._run, site.title, who(), len(hosts), what, kind, about)
        try:
            await patiently(begin, interruption.happened)
        except StateError as error:
            if options.check:
                self._out.warn(f"the controller cannot record this check: {error}")
            elif not interruption.happened():
                raise
        if self._delivery is not None:
            self._delivery.start()

    def keep(self) -> None:
        """Record what was done by now: this process may be killed, and others may follow the run."""
        progress, results, hosts = self._out.take_progress(), self._out.results.take(), self._out.timings.take()
        if progress or results or hosts:
            try:
                self._runs.add(self._run, results=results, hosts=hosts, progress=progress)
            except StateError:  # another process has the file: the next time
                self._out.progress[:0] = progress
                self._out.results.rows[:0] = results
                self._out.timings.hosts[:0] = hosts

    async def end(self, seconds: float, counts: RunCounts, status: int, interruption: Interruption) -> None:
        """Record how the run ended; that this cannot be done is a warning."""
        end = partial(
            self._runs.end,
            self._run,
            counts=counts,
            seconds=seconds,
            status=status,
            results=self._out.results.rows,
            progress=self._out.take_progress(),
            hosts=self._out.timings.hosts,
            about=json.dumps(self._out.redact(self._about)),  # more secrets are known than at its beginning
        )
        try:
            if self._out.facts:
                await patiently(partial(self._memory.keep_facts, self._out.facts), interruption.happened)
            await patiently(end, interruption.happened)
        except StateError as error:
            self._out.warn(f"the controller cannot record how this run ended: {error}")
        await self._finish_delivery(interruption)

    async def _finish_delivery(self, interruption: Interruption) -> None:
        """Bring the rest to the backend, until the user wants to wait no longer.

        What it lacks then is a warning, and no failure: nothing is lost, and the next command brings it.
        """
        if self._delivery is None:
            return
        is_hurried = interruption.happened()
        finishing = asyncio.create_task(self._delivery.finish(is_hurried))
        if not is_hurried and await interruption.precedes(finishing):
            finishing.cancel()
        await asyncio.wait([finishing])
        left = self._delivery.left() if finishing.cancelled() else finishing.result()
        if left:
            self._out.warn(left)


def ci_job(environment: Mapping[str, str]) -> str:
    """Return the address, or the number, of the job of a CI system that this is; "" for none."""
    server, repository, run = (environment.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    if server and repository and run:  # also of Gitea and Forgejo
        return f"{server}/{repository}/actions/runs/{run}"
    return next((environment[name] for name in _JOBS if environment.get(name)), "")


def own_process() -> list[str | int]:
    """Return what tells whether this process still is there: its namespace and its number; nothing without /proc."""
    try:
        return [os.readlink("/proc/self/ns/pid"), os.getpid()]
    except OSError:
        return []


def _about(options: Options, inventory: Sequence[Path]) -> JsonObject:
    """Return how a run was called."""
    found: JsonObject = {
        "command": list(options.command),
        "inventory": [str(path) for path in inventory],
        "limit": options.limit,
        "plan": options.plan,
        "tags": list(options.tags),
        "skip_tags": list(options.skip_tags),
        "values": sorted(options.extra),
        "used": used_values(options.extra),
        "origin": socket.gethostname(),
        "job": ci_job(os.environ),
        "process": own_process(),
    }
    return {name: value for name, value in found.items() if value}
