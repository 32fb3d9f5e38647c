"""What the handlers of a task with `confirm` will do, found out before it begins: the host does it again by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.engine.context import RunContext
from sloth.engine.handlers import PostTasks
from sloth.engine.interpreter import Interpreter
from sloth.errors import CallError, SlothError
from sloth.payload.kernel.options import split
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Action, ArgumentError
from sloth.playbook import Done, Error, Fetch, Invoke, Output, Program, Raise, Request, Shared, Sleep, Sync, Task

if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Call
    from sloth.payload.kernel.values import Arguments, JsonObject

NOT_CONFIRMED = "a task with `confirm` must not do what cannot be taken back"
ELSEWHERE = "do it in a handler, which runs again after its changes were taken back, or in another task"


def cannot_be_taken_back(cls: type[Call], args: Arguments) -> bool:
    """Return whether a call with these arguments is an action that changes something."""
    return issubclass(cls, Action) and not cls.only_waits and not args.get("read_only")


class PlannedHandlers:
    """Walks through the handlers of one host."""

    def __init__(self, context: RunContext, interpreter: Interpreter, post_tasks: PostTasks) -> None:
        self._context = context
        self._interpreter = interpreter
        self._post_tasks = post_tasks

    async def calls_of(self, program: Program, handler: Task) -> list[JsonObject]:
        """Walk through a handler without making its calls; return those that the host makes again by itself."""
        calls: list[JsonObject] = []
        request = program.start(handler)
        while not isinstance(request, (Done, Error)):
            try:
                answer = await self._invented(request, handler, calls)
            except SlothError as error:
                answer = Raise(error)
            request = program.resume(answer)
        if isinstance(request, Error):
            raise CallError(
                f"what the handler {handler.name} does must be known before `confirm`: {request.message}",
                hint=request.hint,
                where=request.where or handler.where,
            )
        return calls

    async def _invented(self, request: Request, handler: Task, calls: list[JsonObject]) -> object:
        """Answer a request of a handler as it would be answered when everything succeeds."""
        match request:
            case Invoke():
                given = request.args
                if self._context.saved is not None:
                    from sloth.engine.plans.invoke import prepare  # no other run needs it

                    given, _ = prepare(request, self._interpreter.secret)
                try:
                    cls = find(request.name)
                    arguments, options = split(cls, given)
                    args = cls.check(arguments)
                except ArgumentError as error:
                    raise CallError(error.message, hint=error.hint, where=request.where) from error
                if options.keys() - {"notify"}:
                    text = f"a handler of a task with `confirm` cannot use the option {min(options)}"
                    raise CallError(text, where=request.where)
                if cannot_be_taken_back(cls, args):
                    calls.append(self._planned(request, handler, cls, args))
                return 0
            case Fetch():
                return {"changed": True, "failed": False, "status": "changed", "msg": "", "stdout": "", "stderr": "",
                        "exit_code": 0, "success": True, "exists": True}  # fmt: skip
            case Sync() | Output() | Sleep():
                return None
            case Shared():
                raise CallError("shared values are not known to the host", where=request.where)
        return await self._interpreter.answer(request)

    def _planned(self, request: Invoke, handler: Task, cls: type[Call], args: Arguments) -> JsonObject:
        if cls.ships or cls.fetches:
            raise CallError(f"{request.name} needs the controller", where=request.where)
        if self._context.secrets.found_in(args, []):
            raise CallError(f"{request.name} has a secret in it, which the host must not keep", where=request.where)
        given = {name: value for name, value in args.items() if value is not None}
        return {"handler": self._post_tasks.shown(handler.name), "name": request.name, "args": given}
