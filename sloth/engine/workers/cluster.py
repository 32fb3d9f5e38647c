"""A cluster of Dask as a run finds it: reached, its workers looked at, or refused with the reason."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import warnings
from typing import Any

from sloth.engine.workers.address import EngineAddress, is_loopback
from sloth.engine.workers.placing import Found
from sloth.engine.workers.relay import about, describe_process
from sloth.errors import UsageError

CONNECT = 15.0  # seconds for the scheduler, and then for its workers, to answer
GUESS = 5.0  # seconds for finding out what is wrong with a scheduler that has not answered
_NOT_LOADED = ("ImportError(", "ModuleNotFoundError(", "AttributeError(")  # as Dask passes on what its worker met


async def connect(address: EngineAddress) -> Any:
    """Return a client of the scheduler. Raises UsageError when Dask is missing, or the scheduler cannot be reached."""
    try:
        from distributed import Client, __version__
    except ImportError:
        raise UsageError("an engine needs Dask", hint="pip install 'sloth-runner[dask]'") from None
    _silence()
    security = None
    if address.tls is not None:
        from sloth.engine.workers.certificates import security_of

        security = security_of(address)
    context = security.get_connection_args("client")["ssl_context"] if security is not None else None
    await _reach(address, context)
    client = None
    try:
        client = Client(address.url, asynchronous=True, security=security, timeout=CONNECT, name="sloth-runner")
        async with asyncio.timeout(CONNECT):
            await client
    except (Exception, asyncio.CancelledError) as error:  # of Dask, of TLS, of the network
        if client is not None:
            with contextlib.suppress(Exception):
                await client.close(timeout=1)
        if isinstance(error, asyncio.CancelledError):
            raise
        if address.tls is None and await _has_tls(address):
            hint = f"use dasks://{address} with certificates, see docs/scale.md"
            raise UsageError(f"the scheduler {address} takes connections with TLS only", hint=hint) from None
        raise UsageError(
            f"the scheduler {address} cannot be reached: {describe_error(error)}",
            hint=f"is it a scheduler of Dask {__version__}, the version here? see docs/scale.md",
        ) from None
    return client


async def _reach(address: EngineAddress, context: ssl.SSLContext | None) -> None:
    """Raise UsageError when nothing listens at an address, or TLS fails: Dask tries again, and does not say why."""
    hint = f"start one: dask scheduler {'' if context is None else '--protocol tls '}...; see docs/scale.md"
    try:
        async with asyncio.timeout(CONNECT):
            name = (address.name or address.host) if context is not None else None
            reader, writer = await asyncio.open_connection(
                address.host, address.port, ssl=context, server_hostname=name
            )
            try:
                # A scheduler greets at once; with TLS 1.3 it refuses a certificate only after the handshake.
                if context is not None and not await reader.read(1):
                    raise ConnectionResetError("it has closed the connection")
            finally:
                writer.transport.abort()
        return
    except TimeoutError:
        why = f"no answer within {CONNECT:g} seconds"
    except ssl.SSLError as error:
        from sloth.engine.workers.certificates import explain

        why, hint = explain(error)
    except UnicodeError:  # Python's answer to a name that is none
        why, hint = f"a part of the name {address.host} is empty or too long", "check the URL"
    except OSError as error:
        why = error.strerror or str(error)
    raise UsageError(f"the scheduler {address} cannot be reached: {why}", hint=hint)


async def _has_tls(address: EngineAddress) -> bool:
    """Return whether a server speaks TLS, whoever it is: nothing is sent to it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(GUESS):
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
        writer.transport.abort()
        return True
    except (OSError, TimeoutError):
        return False


async def look_at(client: Any, address: EngineAddress) -> list[Found]:
    """Return the workers that can be used. Raises UsageError when there are none, or they run another program."""
    try:
        async with asyncio.timeout(CONNECT):
            while not (known := (await _identity(client))["workers"]):  # noqa: ASYNC110  Dask's own wait polls, too
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise UsageError(
            f"the scheduler {address} has no workers", hint=f"start some: dask worker {address.url}"
        ) from None
    workers = sorted(known)
    for worker in workers:
        scheme, _, rest = worker.partition("://")
        if scheme != "tls" and not is_loopback(rest.rpartition(":")[0].strip("[]")):
            raise UsageError(f"the worker {worker} has no TLS, and is not on this machine", hint="see docs/scale.md")
    try:
        async with asyncio.timeout(CONNECT):
            answers = await client.run(about, workers=workers, on_error="return")
    except Exception as error:
        raise UsageError(f"the workers of {address} do not answer: {describe_error(error)}") from None
    own = describe_process()
    return [
        Found(
            worker,
            frozenset((str(known[worker].get("name", worker)), *known[worker].get("resources", {}))),
            _checked(worker, answers.get(worker), own),
        )
        for worker in workers
    ]


async def _identity(client: Any) -> Any:
    """Return what a scheduler says of itself and of all its workers, which older ones always do."""
    try:
        return await client.scheduler.identity(n_workers=-1)
    except TypeError:
        return await client.scheduler.identity()


def _checked(worker: str, answer: object, own: dict[str, str]) -> dict[str, str]:
    """Return what a worker is. Raises UsageError for one that does not run this program."""
    if isinstance(answer, (ImportError, AttributeError)) or str(answer).startswith(_NOT_LOADED):
        raise UsageError(
            f"the worker {worker} cannot load sloth-runner: {answer}",
            hint=f"install sloth-runner {own['version']}, with all it needs, where its Python finds it",
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


def describe_error(error: BaseException) -> str:
    """Return what an error of Dask says, for people."""
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT:g} seconds"
    text = str(error) or type(error).__name__
    return text if len(text) < 300 else text[:300] + "..."


def _silence() -> None:
    """Let Dask say nothing: what it has to say is in the errors, and look_at() compares what must be the same."""
    from distributed.versions import VersionMismatchWarning

    warnings.simplefilter("ignore", VersionMismatchWarning)
    for name in ("distributed", "tornado", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado"):  # its configuration gives some a level of their own
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
