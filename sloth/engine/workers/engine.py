"""Workers of a Dask cluster: Dask passes messages on and notices when one is lost; it runs nothing again."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sloth.engine.workers.address import parse
from sloth.engine.workers.channel import HEADER, Batch, decode
from sloth.engine.workers.cluster import CONNECT, connect, describe_error, look_at
from sloth.engine.workers.files import SiteContents
from sloth.engine.workers.job import host_list
from sloth.engine.workers.link import Link
from sloth.engine.workers.messages import CODEC
from sloth.engine.workers.placing import Found, deal, refuse_far
from sloth.engine.workers.relay import GONE, LINE, MAIN, MARK, Relay, machine
from sloth.engine.workers.workers import Workers
from sloth.errors import UsageError
from sloth.inventory.templated import Templated

if TYPE_CHECKING:
    from sloth.engine.workers.link import Take
    from sloth.engine.workers.messages import Job

POLL = 1.0  # seconds that a poll waits for messages
LOST = 30.0  # seconds without any answer after which a worker is lost
ENDING = 12.0  # seconds that a worker has to end
PART = 1024 * 1024  # bytes that are sent at a time: each time, a slow connection has LOST seconds for them
AWAKE = 5.0  # seconds between two signs to the scheduler that its cluster is in use


class Gone(OSError):
    """A worker or the scheduler is not there any more."""


class Side(Batch):
    """One of the two connections of a worker, as parts of what is sent to its relay.

    Each is sent by itself: a worker that waits for an answer on one of them does not read the other meanwhile.
    """

    def __init__(self, mark: int) -> None:
        super().__init__()
        self._mark = mark
        self._out: asyncio.Queue[bytes] = asyncio.Queue()

    def _write(self, data: bytes) -> None:
        for part in parts(HEADER.pack(len(data)) + data):
            self._out.put_nowait(MARK.pack(self._mark, len(part)) + part)

    async def next(self) -> bytes:
        """Return what is to be sent next, as much as there is at a time."""
        data = bytearray(await self._out.get())
        while len(data) < PART and not self._out.empty():
            data += self._out.get_nowait()
        return bytes(data)


class Remote(Link):
    """A worker of the cluster."""

    advice = "look at the log of the Dask worker and at its machine's memory"

    def __init__(self, number: int, hosts: Sequence[str], client: Any, worker: Found, is_here: bool) -> None:
        super().__init__(number, hosts)
        self.address = worker.address
        self.facts = worker.facts
        self.is_here = is_here
        self.directory = ""
        self._client = client
        self._future: Any = None
        self._actor: Any = None
        self._line = Side(LINE)
        self._sending: asyncio.Task[None] | None = None
        self._why = ""

    @property
    def name(self) -> str:
        """What people know it by."""
        return f"{self.facts['host']} ({self.address}, user {self.facts['user']})"

    async def start(self) -> None:
        self._future = self._client.submit(
            Relay, actor=True, pure=False, retries=0, workers=[self.address], allow_other_workers=False
        )
        try:
            async with asyncio.timeout(CONNECT):
                self._actor = await self._future
            self.directory = (await self._call("begin", self.is_here, limit=CONNECT)).decode()
        except TimeoutError:
            self._why = (
                f"it did not start within {CONNECT:g} seconds: it may be busy, or paused, since its memory is full"
            )
            raise Gone(self._why) from None
        except Exception as error:  # Dask raises what the other end has raised, of whatever kind
            self._why = f"it could not be started: {error}"
            raise Gone(self._why) from error
        self.channel = main = Side(MAIN)
        self._sending = asyncio.create_task(self._send(main, self._line))

    async def serve(self, take: Take) -> None:
        assert self.channel is not None
        assert self._sending is not None
        while not self.is_done:
            polling = asyncio.ensure_future(self._call("poll", POLL))
            await asyncio.wait({polling, self._sending}, return_when=asyncio.FIRST_COMPLETED)
            if self._sending.done():
                polling.cancel()
                raise Gone(self._why)
            for mark, frame in _marked(await polling):
                if mark == GONE:
                    raise EOFError
                take(self, self._line if mark == LINE else self.channel, decode(frame))
            await asyncio.sleep(0)

    async def _send(self, *sides: Side) -> None:
        """Send what is to be sent, until the worker is lost."""

        async def send(side: Side) -> None:
            while True:
                await self._call("send", await side.next())

        try:
            async with asyncio.TaskGroup() as group:
                for side in sides:
                    group.create_task(send(side))
        except* Gone:
            pass

    async def _call(self, method: str, *args: object, limit: float = LOST) -> bytes:
        """Call the relay. Raises Gone when it cannot be reached, or has raised something."""
        try:
            async with asyncio.timeout(limit):
                return bytes(await getattr(self._actor, method)(*args))
        except TimeoutError:
            self._why = self._why or f"it has not answered for {limit:g} seconds"
        except asyncio.CancelledError:
            raise
        except Exception as error:  # Dask raises what the other end has raised, of whatever kind
            self._why = self._why or describe_error(error)
        raise Gone(self._why)

    def cut_off(self) -> None:
        self._why = self._why or "it did not end after the second interrupt"
        if self._sending is not None:
            self._sending.cancel()

    async def end(self) -> str:
        if self._sending is not None:
            self._sending.cancel()
        how = f"{self.name}: {self._why}"
        if self._actor is not None and not self._why:
            try:
                how = f"{self.name}: {(await self._call('end', limit=ENDING)).decode()}"
            except Gone:
                how = f"{self.name}: {self._why}"
        if self._future is not None:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self._future.release()
        return how


class DaskWorkers(Workers):
    """Workers of a cluster, of which each gets a share of the hosts, unless --workers says how many shares."""

    _client: Any = None
    _contents: SiteContents | None = None
    _waking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect to the cluster. Raises UsageError."""
        address = parse(self._context.options.engine)
        try:
            self._client = await connect(address)
        except UsageError as error:
            error.where = error.where or self._context.options.engine_from
            raise
        try:
            self._found = await look_at(self._client, address)
            if self._context.options.only_near:
                refuse_far(self.hosts, self._context.options.near, self._found)
            if not all(map(_is_here, self._found)):
                self._contents = SiteContents(self._context)
        except BaseException:
            await self.close()
            raise

    async def _open(self, most: int) -> tuple[Link, ...]:
        if self._client is None:
            await self.open()
        self._waking = asyncio.create_task(_keep_awake(self._client))
        options = self._context.options
        count = max(1, min(options.workers or len(self._found), most))
        return tuple(
            Remote(number, share.hosts, self._client, share.worker, _is_here(share.worker))
            for number, share in enumerate(deal(self.hosts, self._found, count, options.near))
        )

    def _job(self, link: Link) -> Job:
        """Return it without our keys and secrets, which the run alone uses: it goes through the scheduler."""
        job = super()._job(link)
        wanted = {self._context.inventory.hosts[name].password_env for name in link.hosts}
        environment = {
            name: value for name, value in job.environment.items() if name in wanted or not _OURS.match(name)
        }
        return dataclasses.replace(job, environment=environment)

    def _brief(self, link: Link) -> None:
        if link.is_here:
            super()._brief(link)
            return
        assert self._contents is not None
        contents, inventory = self._contents, self._context.inventory
        every = contents.needs_other_hosts or any(
            isinstance(value, Templated) and "hostvars" in str(value.value)
            for name in link.hosts
            for value in inventory.hosts[name].vars.values()
        )
        own = inventory.hosts if every else link.hosts
        wanted = [env for name in own if (env := inventory.hosts[name].password_env)]
        assert link.channel is not None
        link.channel.send_encoded(CODEC.encode([host_list(inventory, () if every else set(inventory.hosts) - {*own})]))
        link.channel.send(contents.message())
        job = dataclasses.replace(
            self._job(link),
            directory=None,
            replicate_to=None,
            known=self._memory.known(own),
            environment=contents.variables(os.environ, wanted),
        )
        link.channel.send(job, is_urgent=True)

    async def close(self) -> None:
        """Leave the cluster; nothing of the run is left in it."""
        client, self._client = self._client, None
        if self._waking is not None:
            self._waking.cancel()
        if client is not None:
            with contextlib.suppress(Exception):  # whatever is wrong with the cluster: the run is over
                async with asyncio.timeout(ENDING):
                    await client.close()


_OURS = re.compile(r"SLOTH_(KEY|PASSPHRASE|SECRET_.*)\Z")


def _is_here(worker: Found) -> bool:
    """Return whether a worker is on this machine, as the same user."""
    return worker.facts["machine"] == machine() != ""


async def _keep_awake(client: Any) -> None:
    """Let a scheduler with an idle-timeout see that its cluster is in use: it minds tasks, and no actors."""
    while True:
        task = client.submit(int, pure=False)
        await asyncio.sleep(AWAKE)
        task.release()


def parts(data: bytes) -> Iterator[bytes]:
    """Yield data in parts that are sent one by one."""
    return (data[at : at + PART] for at in range(0, len(data), PART))


def _marked(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        mark, size = MARK.unpack_from(data, at)
        at += MARK.size
        yield mark, data[at : at + size]
        at += size
