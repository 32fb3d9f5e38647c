"""Walks through a site's programs before a run, with invented answers, to find what is wrong in its calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sloth.engine.assets import with_inner
from sloth.engine.delegates import find_delegate
from sloth.engine.planned_handlers import ELSEWHERE, NOT_CONFIRMED, cannot_be_taken_back
from sloth.engine.prompts import Prompts, invented
from sloth.engine.scan import Problem
from sloth.errors import CallError, SiteError, UsageError
from sloth.inventory import Inventory
from sloth.payload.kernel.options import split
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import ArgumentError
from sloth.playbook import (
    Done,
    Error,
    Evaluate,
    Facts,
    Fetch,
    HostFacts,
    HostVars,
    Invoke,
    Judge,
    Matching,
    Output,
    Program,
    Prompt,
    Raise,
    Render,
    Request,
    Secret,
    Shared,
    Sleep,
    Sync,
    Turn,
    Variable,
)
from sloth.playbook.template import find_template

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


class Walk:
    """Drives a program with invented answers.

    guessed: whether any was invented so far. What follows may be the answer's fault, so it proves nothing; later tasks
    may read what earlier ones have made of it. problems: wrong arguments, and missing files. must_confirm: the task has
    `confirm`, so it must not do what cannot be taken back.
    """

    def __init__(
        self, program: Program, inventory: Inventory, extra: Mapping[str, Json], prompts: Prompts | None
    ) -> None:
        """extra: variables of the command line; prompts: answers the site's questions; None: invented answers do."""
        self._program = program
        self._extra = extra
        self._prompts = prompts
        self._inventory = inventory
        self.guessed = False
        self.must_confirm = False
        self.problems: list[Problem] = []

    def through(self, request: Request) -> Done | Error:
        """Go on to the end of the program."""
        while not isinstance(request, (Done, Error)):
            request = self._program.resume(self._answer(request))
        return request

    def _answer(self, request: Request) -> object:
        if isinstance(request, Invoke):
            return self._invoke(request)
        if isinstance(request, Judge):
            return False
        if isinstance(request, Render) and not self.guessed:
            try:
                find_template(request.source, with_inner(request.sources, "templates"))
            except CallError as error:
                error.where = error.where or request.where
                return Raise(error)
        if isinstance(request, Prompt):
            return self._answer_prompt(request)
        self.guessed = self.guessed or not isinstance(request, (Sync, Output, Turn, Sleep))
        return _invented(request)

    def _answer_prompt(self, prompt: Prompt) -> object:
        try:
            if self._prompts is not None:
                return self._prompts.answer(prompt)
            if prompt.name in self._extra:
                return Prompts(self._extra).answer(prompt)
        except UsageError as error:
            if self._prompts is not None:
                raise
            return Raise(error)
        self.guessed = True
        return invented(prompt)

    def _invoke(self, request: Invoke) -> object:
        try:
            cls = find(request.name)
            arguments, options = split(cls, request.args)
            args = cls.check(arguments)
            if self.must_confirm and cannot_be_taken_back(cls, args):
                self.problems.append(Problem(request.where, f"{request.name}: {NOT_CONFIRMED}", ELSEWHERE))
            if options.get("notify"):
                self._program.resolve(options["notify"], request.where)
            delegate = options.get("delegate_to")
            if delegate and not self.guessed:
                find_delegate(self._inventory, delegate, request.where)
        except (CallError, SiteError) as error:
            if not self.guessed:
                self.problems.append(Problem(request.where, f"{request.name}: {error.message}", error.hint))
        except ArgumentError as error:
            if request.protected:
                return Raise(CallError(error.message, hint=error.hint, where=request.where))
            if not self.guessed:
                self.problems.append(Problem(request.where, error.message, error.hint))
        if request.attempt:
            self.guessed = True
            return {"id": 0, "judge": True, "fields": _invented(Fetch(0, "", request.where))}
        return 0


def _invented(request: Request) -> object:
    """Return an answer that lets a program go on as it would after a successful call."""
    match request:
        case Fetch():
            return {
                "changed": True, "failed": False, "status": "changed", "msg": "", "stdout": "", "stderr": "",
                "exit_code": 0, "success": True, "exists": True,
            }  # fmt: skip
        case Facts() | HostVars() | HostFacts():
            return {}
        case Render() | Secret() | Variable():
            return ""
        case Evaluate():
            return {"value": ""}
        case Matching():
            return {"cost": 0}
        case Shared():
            return Raise(SiteError("not known before a run"))
    return None
