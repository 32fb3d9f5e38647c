"""Queries of hosts outside of any run: of their state or their facts, many at once, over one connection each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, TypeVar

from sloth.engine.defect import defect
from sloth.engine.sessions import Purpose, Sessions
from sloth.errors import CallError, HostError, SlothError
from sloth.frozen import frozen
from sloth.inventory import Host
from sloth.passwords import Passwords
from sloth.payload.kernel.status import Status
from sloth.payload.session.messages import Call
from sloth.state.queries import StateQuery
from sloth.state.storage import Storage
from sloth.transport import Listener, Session

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

ANSWER = 120.0  # seconds within which a host answers a call
T = TypeVar("T")
R = TypeVar("R")


@frozen
class Agent:
    """One account of one host, and so one state; account: "" is the one that the inventory names."""

    host: Host
    account: str = ""

    @property
    def name(self) -> str:
        """As people write it, and as the controller remembers it: web1, or web1@deploy."""
        return f"{self.host.name}@{self.account}" if self.account else self.host.name


@frozen
class Query:
    """How to query. write: take the host's run lock; run, site: under which the host records what is done."""

    write: bool = False
    passwords: Passwords = Passwords()
    forks: int = 50
    run: str = "state command"
    site: str = ""
    custom: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    storage: Storage = field(default_factory=Storage, repr=False)
    warn: Callable[[str], None] = lambda text: None  # called with what the user should know, and is no error

    async def each(
        self,
        agents: Iterable[Agent],
        ask: Callable[[Agent, Session], Awaitable[T]],
        answered: Callable[[str, T | SlothError], None] = lambda name, answer: None,
    ) -> dict[str, T | SlothError]:
        """Query every agent; return what `ask` returned, or the error that came instead, by the agent's name.

        answered: is called with each answer as soon as it has come.
        """
        slots = asyncio.Semaphore(self.forks)

        async def one(agent: Agent) -> T | SlothError:
            answer = await attempt(agent)
            answered(agent.name, answer)
            return answer

        async def attempt(agent: Agent) -> T | SlothError:
            async with slots:
                try:
                    async with self.session(agent) as session:
                        return await ask(agent, session)
                except SlothError as error:
                    return error
                except Exception as error:  # the answers of the other hosts must not be lost with this one
                    return HostError(defect(error))

        chosen = list(agents)
        answers = await asyncio.gather(*(one(agent) for agent in chosen))
        return {agent.name: answer for agent, answer in zip(chosen, answers, strict=True)}

    async def states(
        self,
        agents: Iterable[Agent],
        query: StateQuery[R],
        answered: Callable[[str, list[R] | SlothError], None] = lambda name, answer: None,
    ) -> dict[str, list[R] | SlothError]:
        """Make one query of the state of every agent; return the answers, or errors, by the agent's name."""
        return await self.each(agents, lambda agent, session: query_state(session, query), answered)

    async def calls(
        self, agents: Iterable[Agent], name: str, args: JsonObject | None = None
    ) -> dict[str, JsonObject | SlothError]:
        """Make one call that only looks, such as facts.gather, on every agent; return values, or errors, by name."""
        return await self.each(agents, lambda agent, session: _call(agent.host.name, session, name, args or {}))

    @contextlib.asynccontextmanager
    async def session(self, agent: Agent) -> AsyncIterator[Session]:
        """Open a session with one agent. Raises HostError."""
        purpose = Purpose(
            run=self.run,
            site=self.site,
            readonly=not self.write,
            passwords=self.passwords,
            custom=self.custom,
        )
        memory = self.storage.memory()
        sessions = Sessions(purpose, memory, [agent.host])
        try:
            session = await sessions.open(agent.host, agent.account or agent.host.become or "", Listener())
            try:
                if self.write:
                    moved_to = (await session.ready).set_aside
                    if moved_to:
                        self.warn(f"{agent.name}: the state file was damaged; it is kept as {moved_to}")
                yield session
                replica, _ = await session.close()
            except BaseException:
                await session.abort()
                raise
            if replica:
                memory.absorb(agent.name, replica, session.replica_rows)
        finally:
            memory.close()
            await sessions.disconnect(agent.host)
            await sessions.close()


async def query_state(session: Session, query: StateQuery[T]) -> list[T]:
    """Return the answer of a session's host to a query. Raises StateError, HostError."""
    return query.read(await session.query(query.op, query.args))


async def _call(host: str, session: Session, name: str, args: JsonObject) -> JsonObject:
    _, future = await session.submit(lambda number: Call(id=number, epoch=0, name=name, args=args))
    try:
        reply = await asyncio.wait_for(future, ANSWER)
    except TimeoutError:
        raise HostError(f"{host} has not answered {name} within {ANSWER:g} seconds") from None
    if reply.status is Status.FAILED:
        raise CallError(reply.error, hint=reply.hint, detail=reply.detail, host=host, call=name)
    return reply.values
