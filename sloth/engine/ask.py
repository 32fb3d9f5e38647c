"""Asks one host about its state or its facts, outside of any run."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from sloth.errors import CallError, HostError
from sloth.inventory import Host
from sloth.payload import wire
from sloth.state.memory import Memory
from sloth.transport import Connector, Link, LocalLink, Session, bundle

ANSWER = 120.0  # seconds within which a host answers a look


async def ask(
    host: Host, questions: list[tuple[str, dict[str, Any]]], *, write: bool = False, become_password: str | None = None
) -> list[list[dict[str, Any]]]:
    """Run state operations (see payload.__main__.operate) on `host`, in order; return the rows of each.

    write: take the host's run lock, since something will be changed. Raises HostError, StateError.
    """
    async with _session(host, write, become_password) as session:
        return [await session.store(op, args) for op, args in questions]


async def look(host: Host, name: str, args: dict[str, Any], *, become_password: str | None = None) -> dict[str, Any]:
    """Make one Query, such as facts.gather, on `host`; return its result values. Raises HostError, CallError."""
    async with _session(host, False, become_password) as session:
        _, future = await session.submit(name, args, [], epoch=0, task="", where="")
        reply = await asyncio.wait_for(future, ANSWER)
        if reply.status == "failed":
            raise CallError(reply.error, hint=reply.hint, detail=reply.detail, host=host.name, call=name)
        return dict(reply.values)


@contextlib.asynccontextmanager
async def _session(host: Host, write: bool, become_password: str | None) -> AsyncIterator[Session]:
    """A session with `host` that belongs to no run."""
    connector = Connector()
    link: Link = LocalLink() if host.connection == "local" else await connector.connect(host)
    payload = bundle.build()
    memory = Memory()
    try:
        known = memory.known([host.name]).get(host.name)
        session = Session(
            link,
            host_name=host.name,
            hello={
                "t": "hello",
                "v": wire.VERSION,
                "agent": host.name,
                "run": "state command",
                "who": "state",
                "origin": socket.gethostname(),
                "readonly": not write,
                "lock_wait": 10,
            },
            bundle=payload,
            known=known is not None and known.payload == payload.sha256,
            python=host.python,
            become=host.become,
            become_password=become_password,
        )
        try:
            await session.open()
            yield session
            await session.close()
        except HostError:
            await session.abort()
            raise
    finally:
        memory.close()
        await link.close()
