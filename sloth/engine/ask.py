"""Asks one host about its state, outside of any run."""

from __future__ import annotations

import socket
from typing import Any

from sloth.errors import HostError
from sloth.inventory import Host
from sloth.payload import wire
from sloth.state.memory import Memory
from sloth.transport import Connector, Link, LocalLink, Session, bundle


async def ask(
    host: Host, questions: list[tuple[str, dict[str, Any]]], *, write: bool = False, become_password: str | None = None
) -> list[list[dict[str, Any]]]:
    """Run state operations (see payload.__main__.operate) on `host`, in order; return the rows of each.

    write: take the host's run lock, since something will be changed. Raises HostError, StateError.
    """
    link: Link = LocalLink() if host.connection == "local" else await Connector().connect(host)
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
            answers = [await session.store(op, args) for op, args in questions]
            await session.close()
        except HostError:
            await session.abort()
            raise
        return answers
    finally:
        memory.close()
        await link.close()
