"""A whole run: which hosts, how many at once, what they share, and the events of all of them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from sloth.engine.assets import Shipper
from sloth.engine.barriers import Barriers, order
from sloth.engine.events import (
    CHANGED,
    FAILED,
    SKIPPED,
    UNCHANGED,
    UNKNOWN,
    UNREACHABLE,
    CallFinished,
    Event,
    HostFinished,
    Log,
    RunFinished,
    RunStarted,
    TaskFinished,
)
from sloth.engine.host import HostRun
from sloth.engine.options import Options
from sloth.engine.prune import Orphans, Pruning
from sloth.engine.query import who
from sloth.engine.secrets import Revealed
from sloth.errors import SiteError, StateError
from sloth.inventory import Host, Inventory
from sloth.payload.kernel.registry import call_names
from sloth.payload.session import wire
from sloth.playbook import Site, Task
from sloth.state.memory import Known, Memory
from sloth.state.shared import Shared
from sloth.transport import Connector, Link, LocalLink, Session, bundle

BOOTSTRAP = 30.0  # seconds from the start of the command on the host to its first sign of life


class Run:
    """One run of one site over some hosts."""

    def __init__(
        self,
        site: Site,
        inventory: Inventory,
        hosts: Sequence[Host],
        options: Options,
        emit: Callable[[Event], None],
        memory: Memory | None = None,
        shared: Shared | None = None,
        confirm: Callable[[Orphans], bool] | None = None,
    ) -> None:
        """emit: called for every event, in order, on the event loop's thread; confirm: see Pruning."""
        self.site = site
        self.options = options
        self.run_id = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)
        self.who = who()
        self.barriers = Barriers(host.name for host in hosts)
        self.shared = shared or Shared()
        self.vault = Revealed(site.directory, options.keys)
        self.pruning = Pruning((host.name for host in hosts), confirm or (lambda found: True))
        self.groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
        self.modules = module_names()
        self.interrupted = False
        self._inventory = inventory
        self._hosts = tuple(hosts)
        self._sink = emit
        self._memory = memory or Memory()
        self._owned = self._memory if memory is None else None
        self.shipper = Shipper(site.directory, self._memory)
        self._known = self._memory.known([name for host in hosts for name in (host.name,)])
        self._places = asyncio.Semaphore(options.forks)
        self._connector = Connector()
        self._links: dict[str, asyncio.Task[Link]] = {}
        self._bundle = bundle.build(options.custom, self._memory.directory)
        self._tasks: list[asyncio.Task[None]] = []
        self._counts = dict.fromkeys((CHANGED, UNCHANGED, FAILED, SKIPPED, UNKNOWN, UNREACHABLE), 0)
        self._origin = socket.gethostname()
        self._told: list[dict[str, Any]] = []
        self.failed = False
        self.usage_errors: list[SiteError] = []

    # The course of the run

    async def run(self) -> int:
        """Run everything and return the exit status (without `--exit-code`'s 3)."""
        begun = time.monotonic()
        names = tuple(host.name for host in self._hosts)
        self.emit(RunStarted(time.time(), self.run_id, self.site.path, self.options.check, names, ()))
        if not self.options.check:
            self._memory.begin_run(self.run_id, self.site.path, self.who, len(names))
        self._tasks = [asyncio.create_task(self._host(host), name=host.name) for host in self._hosts]
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connector.close()
        seconds = time.monotonic() - begun
        summary = {"hosts": len(names), **self._counts}
        self.emit(RunFinished(time.time(), self.run_id, seconds, summary, self.interrupted))
        status = self.exit_status()
        if not self.options.check:
            self._memory.end_run(self.run_id, self._counts[CHANGED], self._counts[FAILED], seconds, status, self._told)
        return status

    async def _host(self, host: Host) -> None:
        try:
            async with self._places:
                await HostRun(self, host).run()
        except asyncio.CancelledError:  # it had not begun
            self.emit(HostFinished(time.time(), host.name, SKIPPED, 0.0, None))
            await self.barriers.ended(host.name)
            await self.pruning.ended(host.name)

    def close(self) -> None:
        """Close the memory that this run has opened itself."""
        if self._owned is not None:
            self._owned.close()

    def interrupt(self) -> None:
        """End the run: every host finishes or abandons what it does and is released."""
        self.interrupted = True
        for task in self._tasks:
            task.cancel()

    def exit_status(self) -> int:
        """The contract's exit code: 130, 1, 4 or 0."""
        if self.interrupted:
            return 130
        if self.failed:
            return 1
        return 4 if self._counts[UNREACHABLE] else 0

    @property
    def changed(self) -> bool:
        """Whether anything changed (or, in a check, would)."""
        return self._counts[CHANGED] > 0

    def emit(self, event: Event) -> None:
        """Count and pass on one event."""
        if isinstance(event, CallFinished):
            if event.result.status in (CHANGED, FAILED) and not self.options.check:
                self._told.append(self._summary(event))
            self._counts[event.result.status] = self._counts.get(event.result.status, 0) + 1
        elif isinstance(event, HostFinished):
            self.failed = self.failed or event.status == FAILED
            self._counts[UNREACHABLE] += event.status == UNREACHABLE
        elif isinstance(event, TaskFinished) and event.status == SKIPPED:
            self._counts[SKIPPED] += 1
        self._sink(event)

    def _summary(self, event: CallFinished) -> dict[str, Any]:
        """What the controller remembers of a call that changed something, or failed."""
        result = event.result
        told = {"host": event.host, "task": event.task, "key": result.key, "status": result.status}
        told.update(reason=result.reason, place=result.where, error=result.error)
        return {name: self.vault.mask(value) for name, value in told.items()}

    @contextlib.asynccontextmanager
    async def pause(self) -> AsyncIterator[None]:
        """Give up this host's place while it waits for others."""
        self._places.release()
        try:
            yield
        finally:
            await self._places.acquire()

    # What hosts ask for

    def plan(self, tasks: Iterable[Task]) -> list[Task]:
        """Tasks in the order in which they run. Raises SiteError for a cycle in depends_on."""
        by_name = {task.name: task for task in tasks}
        try:
            return order(by_name)
        except ValueError as error:
            raise SiteError(f"depends_on goes round in a circle: {error}", where=self.site.path) from error

    def matches(self, pattern: str | Sequence[str], host: Host, where: str) -> bool:
        """Whether a task's `hosts` names `host`."""
        return self._inventory.contains(pattern, host, where)

    def known(self, name: str) -> Known:
        """What the controller remembers of an agent."""
        return self._known.get(name) or Known()

    # Sessions

    async def open_session(self, host: Host, account: str, on_phase: Callable[[str], None], run: HostRun) -> Session:
        """Start a payload on `host` as `account` ("": the one we log in as). Raises HostError."""
        if host.name not in self._links:
            on_phase("connecting")
            self._links[host.name] = asyncio.create_task(self._connect(host))
        link = await asyncio.shield(self._links[host.name])
        known = self.known(_agent(host, account))
        session = Session(
            link,
            host_name=host.name,
            hello={
                "t": "hello",
                "v": wire.VERSION,
                "agent": host.name,
                "run": self.run_id,
                "site": self.site.identity,
                "adopt": self.options.adopt,
                "who": self.who,
                "origin": self._origin,
                "check": self.options.check,
                "lock_wait": self.options.lock_wait,
                "replica": {"id": known.store_id, "seq": known.seq},
            },
            bundle=self._bundle,
            known=known.payload == self._bundle.sha256,
            python=host.python,
            become=account or None,
            become_password=self.options.become_password,
            on_output=lambda number, stream, data: run.on_output(session, number, stream, data),
            on_waiting=lambda holder: on_phase(f"waiting for {holder}"),
            on_fetch=lambda number: run.on_fetch(session, number),
            bootstrap_timeout=BOOTSTRAP,
        )
        await session.open()
        return session

    async def _connect(self, host: Host) -> Link:
        if host.connection == "local":
            return LocalLink()
        return await self._connector.connect(host)

    async def disconnect(self, host: Host) -> None:
        """Close the connection to `host`, if there is one."""
        task = self._links.pop(host.name, None)
        if task is None:
            return
        if not task.done():
            task.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await (await task).close()

    def remember(self, host: Host, account: str, replica: Mapping[str, Any] | None, shipped: Iterable[str]) -> None:
        """Keep what a session taught us: the payload is there, these contents are, and the state's changes."""
        try:
            self._memory.remember(
                _agent(host, account),
                payload=self._bundle.sha256,
                assets=frozenset(shipped),
                replica=dict(replica) if replica else None,
            )
        except StateError as error:  # only a memory: the next run asks the host again
            self.emit(Log(time.time(), host.name, "", "warn", f"the controller cannot remember this run: {error}"))


def module_names() -> dict[str, list[str]]:
    """The namespaces of Lua and their functions."""
    names: dict[str, list[str]] = {}
    for name in call_names():
        namespace, _, verb = name.partition(".")
        names.setdefault(namespace, []).append(verb)
    names.pop("facts", None)  # the global `facts` is a value
    return names


def _agent(host: Host, account: str) -> str:
    """The name under which an account of a host is remembered."""
    return f"{host.name}@{account}" if account and account != (host.become or "") else host.name
