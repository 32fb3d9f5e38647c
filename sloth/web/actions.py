"""What pages can do besides reading, each after a question: look for drift, release a lock, freeze or thaw a resource.

Both steps are POST requests of a login, from a page of this server (see guard.py); the second one also proves, by a
token that holds once, that this login was asked exactly that. Who did it is written down before it is done.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from sloth.errors import SlothError, StateError, UsageError
from sloth.frozen import frozen
from sloth.report.text import fold_names
from sloth.suggest import did_you_mean_or_list
from sloth.web import audit

if TYPE_CHECKING:
    from sloth.web.app import Site
    from sloth.web.settings import Actions as Able

LONGEST = 500  # characters of a field
ANSWERED = 1000  # questions whose answers are remembered, so that none is answered twice
# The fields of each action, by its name, with what pages call them.
FIELDS: dict[str, dict[str, str]] = {
    "drift": {"hosts": "Hosts"},
    "unlock": {"lock": "Lock", "number": "Number"},
    "unfreeze": {"host": "Host", "key": "Resource"},
    "freeze": {"host": "Host", "key": "Resource", "until": "Until (3d, 12h, 2026-12-01)", "why": "Why"},
}
# What the page of the question asks for besides.
_OPEN = ("until", "why")
TITLES = {
    "drift": "Look for drift",
    "unlock": "Release a lock",
    "freeze": "Freeze a resource",
    "unfreeze": "Thaw a resource",
}


@frozen
class Asked:
    """An action with its fields, as it is asked about."""

    action: str
    fields: Mapping[str, str]

    @property
    def fixed(self) -> dict[str, str]:
        """The fields that the question does not ask for."""
        return {name: value for name, value in self.fields.items() if name not in _OPEN}


class Actions:
    """The endpoints of actions."""

    def __init__(self, site: Site, able: Able) -> None:
        self._site = site
        self._able = able
        self._secret = secrets.token_bytes(32)
        self._answered: dict[str, str] = {}  # token -> the page that shows what came of it; the oldest first

    def routes(self) -> list[Route]:
        return [
            Route("/actions/ask", self.ask, methods=["POST"]),
            Route("/actions/do", self.do, methods=["POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        """Show the question."""
        try:
            asked, _ = await _read(request)
            details = await run_in_threadpool(self._details, asked)
        except SlothError as error:
            return self._site.error_page(400, error)
        return self._question(request, asked, details)

    def _question(
        self, request: Request, asked: Asked, details: str, error: SlothError | None = None, who: str = ""
    ) -> HTMLResponse:
        text = self._site.template(
            "ask.html", title=TITLES[asked.action], section="", asked=asked, labels=FIELDS[asked.action],
            open=[name for name in asked.fields if name in _OPEN], details=details, error=error, who=who,
            csrf=self._token(request, asked, secrets.token_hex(16)),
        )  # fmt: skip
        return HTMLResponse(text, 200 if error is None else 400)

    async def do(self, request: Request) -> Response:
        """Do what was asked about, if it was."""
        try:
            asked, others = await _read(request)
            token = others.get("csrf", "")
            if not hmac.compare_digest(token.encode(), self._token(request, asked, token.partition(".")[0]).encode()):
                return self._site.error_page(403, UsageError("this was not asked", hint="begin again"))
        except SlothError as error:
            return self._site.error_page(400, error)
        who = others.get("who", "").strip()
        try:
            if not who:
                raise UsageError("your name is missing: it is written down with what was done")
            address = request.client.host if request.client is not None else ""
            if token in self._answered:  # a second click, or the page was loaded again
                target = self._answered[token]
            else:
                self._remember(token, "/actions")
                target = await run_in_threadpool(self._perform, asked, who, address)
                self._remember(token, target)
        except SlothError as error:
            return self._question(request, asked, "", error, who)
        return RedirectResponse(f"{self._site.settings.prefix}{target}", 303)

    def _details(self, asked: Asked) -> str:
        """Return what the question adds. Raises SlothError when the action makes no sense."""
        if asked.action == "drift":
            names = self._able.hosts(asked.fields["hosts"])
            return f"{len(names)} hosts: {fold_names(names)}. Nothing is changed on them."
        if asked.action == "unlock":
            held = self._able.holder(asked.fields["lock"], _number(asked))
            return f"{held}, and may still need it: what it protects may then be changed by two at once."
        self._able.hosts(asked.fields["host"])
        if asked.action == "unfreeze":
            return "Runs may change it again."
        return "Runs will leave it alone until then, whatever their site says."

    def _perform(self, asked: Asked, who: str, address: str) -> str:
        """Do it; return the path of the page that shows what came of it. Raises SlothError."""
        record = partial(audit.write, self._site.settings.directory, who, address, asked.action, asked.fields)
        try:
            record("begun")
        except OSError as error:
            raise StateError(f"nothing was done, since it cannot be written down: {error.strerror}") from error
        able, fields = self._able, asked.fields
        try:
            if asked.action == "drift":
                run = able.drift(fields["hosts"], who)
                record(f"run {run}")
                return f"/runs/{quote(run, safe='')}"
            if asked.action == "unlock":
                outcome = able.unlock(fields["lock"], _number(asked))
            elif asked.action == "unfreeze":
                outcome = able.unfreeze(fields["host"], fields["key"])
            else:
                outcome = able.freeze(
                    fields["host"], fields["key"], fields["until"], f"{fields['why']} ({who}, web UI)"
                )
        except SlothError as error:
            record(f"failed: {error.message}")
            raise
        record(outcome)
        return "/actions"

    def _remember(self, token: str, target: str) -> None:
        self._answered[token] = target
        if len(self._answered) > ANSWERED:
            del self._answered[next(iter(self._answered))]

    def _token(self, request: Request, asked: Asked, once: str) -> str:
        """Return the token of a question; once: what tells it from the same question asked again."""
        session = str(request.scope.get("session_id", ""))
        text = json.dumps([once, session, asked.action, sorted(asked.fixed.items())])
        return f"{once}.{hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()}"


def _number(asked: Asked) -> int:
    try:
        return int(asked.fields["number"])
    except ValueError:
        raise UsageError("the number of a lock is an integer") from None


async def _read(request: Request) -> tuple[Asked, dict[str, str]]:
    """Return the action that a form names, and its other fields. Raises UsageError."""
    try:
        given = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=20)
    except ValueError as error:
        raise UsageError("invalid form") from error
    form = {name: values[0] for name, values in given.items()}
    action = form.pop("action", "")
    if action not in FIELDS:
        raise UsageError(f"unknown action {action[:LONGEST]!r}", hint=did_you_mean_or_list(action, FIELDS, "actions"))
    names = FIELDS[action]
    for name, label in names.items():
        if name not in _OPEN and not form.get(name, "").strip():
            raise UsageError(f"{label} is missing")
        if len(form.get(name, "")) > LONGEST or "\0" in form.get(name, ""):
            raise UsageError(f"{label} must be a text of up to {LONGEST} characters")
    return Asked(action, {name: form.pop(name, "").strip() for name in names}), form
