"""Asks a host itself, when somebody says so: its whole history, the handlers that are owed, what holds its lock."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sloth.engine.query import Agent, Query, query_state
from sloth.errors import SlothError, StateError, UsageError
from sloth.frozen import frozen
from sloth.inventory import Host
from sloth.payload.session.messages import LockHolder
from sloth.state import queries
from sloth.state.queries import Change, Handler, StateRecord, Stats
from sloth.state.storage import Storage
from sloth.web.data.host import require_host
from sloth.web.guard import SLASH

if TYPE_CHECKING:
    from sloth.transport import Session
    from sloth.web.app import Site

CHANGES = 100  # of the history
SECONDS = 90.0
AT_ONCE = 4


@frozen
class Answer:
    """What one account of a host has answered."""

    agent: str
    changes: tuple[Change, ...]
    handlers: tuple[Handler, ...]
    frozen: tuple[StateRecord, ...]
    stats: tuple[Stats, ...]
    lock: LockHolder | None


class Asking:
    """The page that asks a host: a form, and what came back."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._slots = asyncio.Semaphore(AT_ONCE)

    def route(self) -> Route:
        return Route("/hosts/{host}/ask", self.ask, methods=["GET", "POST"], name="ask")

    async def ask(self, request: Request) -> Response:
        """Show the form, or ask the host and show what it answers."""
        name = str(request.path_params["host"]).replace(SLASH, "/")
        try:
            host = await run_in_threadpool(require_host, self._site.source, name)
            inventory = await run_in_threadpool(lambda: self._site.source.inventory)
            known = inventory.hosts.get(name) if inventory is not None else None
            open_storage = self._site.settings.storage
            problem, answers = "", []
            if known is None or open_storage is None:
                problem = "The inventory does not have this host, so it cannot be asked."
            elif request.method == "POST":
                try:
                    answers = await self._answers(known, open_storage())
                except SlothError as error:
                    problem = str(error)
            text = await run_in_threadpool(
                self._site.template, "host_ask.html", title="Ask the host", section="hosts", host=host, problem=problem,
                answers=answers, can_ask=known is not None and open_storage is not None,
            )  # fmt: skip
            return HTMLResponse(text)
        except SlothError as error:
            return self._site.error_page(400 if isinstance(error, UsageError) else 404, error)

    async def _answers(self, host: Host, storage: Storage) -> list[Answer]:
        """Return the answers of all accounts of a host. Raises SlothError."""
        async with self._slots:
            names = await run_in_threadpool(_accounts, storage, host.name)
            agents = [Agent(host, account) for account in ("", *names)]
            query = Query(storage=storage, run="web")
            try:
                found = await asyncio.wait_for(query.each(agents, _ask), SECONDS)
            except TimeoutError:
                raise StateError(f"{host.name} has not answered within {SECONDS:g} seconds") from None
        answers = []
        for agent, answer in found.items():
            if isinstance(answer, SlothError):
                raise answer
            answers.append(dataclasses.replace(answer, agent=agent))
        return answers


def _accounts(storage: Storage, host: str) -> list[str]:
    memory = storage.memory()
    try:
        return memory.accounts(host)
    finally:
        memory.close()


async def _ask(agent: Agent, session: Session) -> Answer:
    records = await query_state(session, queries.list_records())
    return Answer(
        agent=agent.name,
        changes=tuple(await query_state(session, queries.list_changes(limit=CHANGES))),
        handlers=tuple(await query_state(session, queries.list_handlers())),
        frozen=tuple(record for record in records if record.frozen),
        stats=tuple(await query_state(session, queries.read_stats())),
        lock=next(iter(await query_state(session, queries.read_lock())), None),
    )
