"""Asks hosts about their state or their facts, outside of any run: many at once, over one connection each."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sloth.errors import CallError, SlothError
from sloth.inventory import Host
from sloth.payload.session import wire
from sloth.state.memory import Known, Memory
from sloth.transport import Connector, Link, LocalLink, Session, bundle

ANSWER = 120.0  # seconds within which a host answers a look
T = TypeVar("T")


def who() -> str:
    """The user at the controller."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


@dataclass(frozen=True)
class Agent:
    """One account of one host, and so one state; account: "" is the one that the inventory says."""

    host: Host
    account: str = ""

    @property
    def name(self) -> str:
        """As people write it, and as the controller remembers it: web1, or web1@deploy."""
        return f"{self.host.name}@{self.account}" if self.account else self.host.name


@dataclass(frozen=True)
class Inquiry:
    """How to ask. write: take the host's run lock; run, site: under which the host records what is done."""

    write: bool = False
    become_password: str | None = field(default=None, repr=False)
    forks: int = 50
    run: str = "state command"
    site: str = ""
    custom: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    warn: Callable[[str], None] = lambda text: None  # told what the user should know, and is no error

    async def each(
        self, agents: Iterable[Agent], question: Callable[[Agent, Session], Awaitable[T]]
    ) -> dict[str, T | SlothError]:
        """Ask every agent; return what `question` returned, or the error that came instead, by the agent's name."""
        places = asyncio.Semaphore(self.forks)

        async def one(agent: Agent) -> T | SlothError:
            async with places:
                try:
                    async with self.session(agent) as session:
                        return await question(agent, session)
                except SlothError as error:
                    return error

        chosen = list(agents)
        answers = await asyncio.gather(*(one(agent) for agent in chosen))
        return {agent.name: answer for agent, answer in zip(chosen, answers, strict=True)}

    @contextlib.asynccontextmanager
    async def session(self, agent: Agent) -> AsyncIterator[Session]:
        """A session with one agent. Raises HostError."""
        connector = Connector()
        memory = Memory()
        link: Link | None = None
        try:
            link = LocalLink() if agent.host.connection == "local" else await connector.connect(agent.host)
            session = self._make(agent, link, memory)
            try:
                await session.open()
                if self.write:
                    aside = (await session.ready).get("aside")
                    if aside:
                        self.warn(f"{agent.name}: the state file was damaged; it is kept as {aside}")
                yield session
                replica = await session.close()
            except BaseException:
                await session.abort()
                raise
            if replica:
                memory.absorb(agent.name, replica)
        finally:
            memory.close()
            if link is not None:
                await link.close()
            await connector.close()

    def _make(self, agent: Agent, link: Link, memory: Memory) -> Session:
        payload = bundle.build(self.custom, memory.directory)
        known = memory.known([agent.host.name]).get(agent.name) or Known()
        return Session(
            link,
            host_name=agent.host.name,
            hello={
                "t": "hello",
                "v": wire.VERSION,
                "agent": agent.host.name,
                "run": self.run,
                "site": self.site,
                "who": who(),
                "origin": socket.gethostname(),
                "readonly": not self.write,
                "lock_wait": 10,
                "replica": {"id": known.store_id, "seq": known.seq},
            },
            bundle=payload,
            known=known.payload == payload.sha256,
            python=agent.host.python,
            become=agent.account or agent.host.become,
            become_password=self.become_password,
        )


async def look(host: Host, name: str, args: dict[str, Any], *, become_password: str | None = None) -> dict[str, Any]:
    """Make one Query, such as facts.gather, on `host`; return its result values. Raises HostError, CallError."""
    async with Inquiry(become_password=become_password).session(Agent(host)) as session:
        _, future = await session.submit(name, args, [], epoch=0, task="", where="")
        reply = await asyncio.wait_for(future, ANSWER)
        if reply.status == "failed":
            raise CallError(reply.error, hint=reply.hint, detail=reply.detail, host=host.name, call=name)
        return dict(reply.values)
