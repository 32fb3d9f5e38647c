"""Workers of a Dask cluster: Dask passes messages on and notices when one is lost; it runs nothing again."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sloth.engine.workers.address import EngineAddress, is_loopback, parse
from sloth.engine.workers.channel import Batch, decode
from sloth.engine.workers.files import SiteContents
from sloth.engine.workers.job import host_list
from sloth.engine.workers.link import Link
from sloth.engine.workers.messages import CODEC
from sloth.engine.workers.relay import GONE, LINE, MAIN, MARK, Relay, about, describe_process
from sloth.engine.workers.workers import Workers
from sloth.errors import UsageError
from sloth.inventory.templated import Templated

if TYPE_CHECKING:
    from sloth.engine.workers.link import Take

CONNECT = 15.0  # seconds for the scheduler, and then for its workers, to answer
POLL = 1.0  # seconds that a poll waits for messages
LOST = 30.0  # seconds without any answer after which a worker is lost
ENDING = 12.0  # seconds that a worker has to end


class Gone(OSError):
    """A worker or the scheduler is not there any more."""


class Side(Batch):
    """One of the two connections of a worker, as parts of what is sent to its relay."""

    def __init__(self, mark: int, out: asyncio.Queue[bytes]) -> None:
        super().__init__()
        self._mark = mark
        self._out = out

    def _write(self, data: bytes) -> None:
        self._out.put_nowait(MARK.pack(self._mark, len(data)) + data)


class Remote(Link):
    """A worker of the cluster."""

    advice = "look at the log of the Dask worker and at its machine's memory"

    def __init__(
        self, number: int, hosts: Sequence[str], client: Any, address: str, facts: dict[str, str], is_here: bool
    ) -> None:
        super().__init__(number, hosts)
        self.address = address
        self.facts = facts
        self.is_here = is_here
        self.directory = ""
        self._client = client
        self._future: Any = None
        self._actor: Any = None
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._line = Side(LINE, self._out)
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
            self._why = f"it did not start within {CONNECT:g} seconds"
            raise Gone(self._why) from None
        except Exception as error:  # Dask raises what the other end has raised, of whatever kind
            self._why = f"it could not be started: {error}"
            raise Gone(self._why) from error
        self.channel = Side(MAIN, self._out)
        self._sending = asyncio.create_task(self._send())

    async def serve(self, take: Take) -> None:
        assert self.channel is not None
        assert self._sending is not None
        while not self.is_done:
            polling = asyncio.ensure_future(self._call("poll", POLL))
            await asyncio.wait({polling, self._sending}, return_when=asyncio.FIRST_COMPLETED)
            if self._sending.done():
                polling.cancel()
                raise Gone(self._why)
            for mark, frame in _parts(await polling):
                if mark == GONE:
                    raise EOFError
                take(self, self._line if mark == LINE else self.channel, decode(frame))
            await asyncio.sleep(0)

    async def _send(self) -> None:
        """Send what is to be sent, as much as there is at a time."""
        with contextlib.suppress(Gone):
            while True:
                data = bytearray(await self._out.get())
                while not self._out.empty():
                    data += self._out.get_nowait()
                await self._call("send", bytes(data))

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
            self._why = self._why or _describe(error)
        raise Gone(self._why)

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

    async def open(self) -> None:
        """Connect to the cluster. Raises UsageError."""
        address = parse(self._context.options.engine)
        self._client = await connect(address)
        try:
            self._found = await _look_at(self._client, address)
        except BaseException:
            await self.close()
            raise

    async def _open(self, most: int) -> tuple[Link, ...]:
        if self._client is None:
            await self.open()
        own = describe_process()["machine"]
        count = max(1, min(self._context.options.workers or len(self._found), most))
        links = []
        for number in range(count):
            address, facts = self._found[number % len(self._found)]
            is_here = bool(own) and facts["machine"] == own
            links.append(Remote(number, self.hosts[number::count], self._client, address, facts, is_here))
        return tuple(links)

    def _brief(self, link: Link) -> None:
        if link.is_here:
            super()._brief(link)
            return
        if self._contents is None:
            self._contents = SiteContents(self._context)
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
        if client is not None:
            with _quiet(), contextlib.suppress(Exception):  # whatever is wrong with the cluster: the run is over
                async with asyncio.timeout(ENDING):
                    await client.close()


async def connect(address: EngineAddress) -> Any:
    """Return a client of the scheduler. Raises UsageError when Dask is missing, or the scheduler cannot be reached."""
    try:
        from distributed import Client
        from distributed.security import Security
    except ImportError:
        raise UsageError("--engine needs Dask", hint="pip install 'sloth-runner[dask]'") from None
    security = None
    if address.tls is not None:
        files = {name: str(path) for name, path in address.tls.items()}
        given = (
            {"tls_ca_file": files["ca"], "tls_client_cert": files["cert"], "tls_client_key": files["key"]}
            if files
            else {}  # those of Dask's own configuration
        )
        security = Security(require_encryption=True, **given)
        if not security.tls_ca_file or not security.tls_client_cert:
            raise UsageError(
                f"--engine: there are no certificates for {address}",
                hint="name them in the URL (?ca=&cert=&key=), or in Dask's configuration (distributed.comm.tls)",
            )
    await _reach(address)
    client = None
    try:
        with _quiet():
            client = Client(address.url, asynchronous=True, security=security, timeout=CONNECT, name="sloth-runner")
            async with asyncio.timeout(CONNECT):
                await client
    except Exception as error:  # of Dask, of TLS, of the network
        if client is not None:
            with _quiet(), contextlib.suppress(Exception):
                await client.close(timeout=1)
        raise UsageError(
            f"the scheduler {address} cannot be reached: {_describe(error)}",
            hint=f"is it a scheduler of Dask {'with' if address.tls is not None else 'without'} TLS, and do the "
            "certificates fit? see docs/scale.md",
        ) from None
    return client


async def _reach(address: EngineAddress) -> None:
    """Raise UsageError when nothing listens at an address: Dask tries again and again, and does not say why."""
    try:
        async with asyncio.timeout(CONNECT):
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.close()
    except TimeoutError:
        why = f"no answer within {CONNECT:g} seconds"
    except OSError as error:
        why = error.strerror or str(error)
    else:
        return
    hint = "start one: dask scheduler --protocol tls ...; see docs/scale.md"
    raise UsageError(f"the scheduler {address} cannot be reached: {why}", hint=hint)


async def _look_at(client: Any, address: EngineAddress) -> list[tuple[str, dict[str, str]]]:
    """Return the workers that can be used. Raises UsageError when there are none, or they run another program."""
    try:
        async with asyncio.timeout(CONNECT):
            while not (workers := sorted((await client.scheduler.identity(n_workers=-1))["workers"])):  # noqa: ASYNC110  Dask's own wait polls, too
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise UsageError(
            f"the scheduler {address} has no workers", hint=f"start some: dask worker {address.url}"
        ) from None
    for worker in workers:
        scheme, _, rest = worker.partition("://")
        if scheme != "tls" and not is_loopback(rest.rpartition(":")[0].strip("[]")):
            raise UsageError(f"the worker {worker} has no TLS, and is not on this machine", hint="see docs/scale.md")
    try:
        async with asyncio.timeout(CONNECT):
            answers = await client.run(about, workers=workers, on_error="return")
    except Exception as error:
        raise UsageError(f"the workers of {address} do not answer: {_describe(error)}") from None
    own = describe_process()
    return [(worker, _checked(worker, answers.get(worker), own)) for worker in workers]


def _checked(worker: str, answer: object, own: dict[str, str]) -> dict[str, str]:
    """Return what a worker is. Raises UsageError for one that does not run this program."""
    if isinstance(answer, (ImportError, AttributeError)):
        raise UsageError(
            f"the worker {worker} cannot load sloth-runner: {answer}",
            hint=f"install sloth-runner {own['version']} where its Python finds it",
        )
    if not isinstance(answer, bytes):
        raise UsageError(f"the worker {worker} cannot be used: {answer}")
    facts: dict[str, str] = json.loads(answer)
    for key, what in (("version", "sloth-runner"), ("python", "Python")):
        if facts.get(key) != own[key]:
            raise UsageError(
                f"the worker {facts.get('host')} ({worker}) has {what} {facts.get(key)}, and this machine {own[key]}",
                hint="both must be the same",
            )
    if facts.get("code") != own["code"]:
        raise UsageError(
            f"the worker {facts.get('host')} ({worker}) has other sources of sloth-runner {own['version']}",
            hint="install the same package on both, and start the worker again",
        )
    return facts


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        mark, size = MARK.unpack_from(data, at)
        at += MARK.size
        yield mark, data[at : at + size]
        at += size


def _describe(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT:g} seconds"
    text = str(error) or type(error).__name__
    return text if len(text) < 300 else text[:300] + "..."


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let Dask log nothing: what it has to say is in the errors."""
    for name in ("distributed", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    yield
