"""Renders templates for the engine: plain texts here, all others in a process that can be ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import json
import os
import pickle
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sloth.errors import CallError, StateError, UsageError
from sloth.frozen import frozen
from sloth.playbook.requests import Evaluate, Matching
from sloth.playbook.substitution import is_usual, substitute
from sloth.playbook.template import find_template, is_plain, may_need_more, read_template, read_text
from sloth.playbook.worker import HEADER, LARGEST, SECONDS

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

SILENCE = 60.0  # seconds without an answer after which the process is ended, whatever it waits for
HINT = "simplify the template: a loop, a repetition or a regular expression in it needs far too much"
# The process has the controller's search path, and of its environment only what programs need: no secret.
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from sloth.playbook.worker import main; main()"
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ")

LookUps = Mapping[str, Callable[[str], Any]]  # the answer, or what returns it


class TooLong(CallError):
    """It did not end within its time."""


@frozen(eq=False)
class Others:
    """`hostvars`: the names of all hosts, and what looks up their variables and gathers their facts.

    variables: returns those of a host, and what those with Jinja in them may use besides.
    """

    names: Sequence[str]
    variables: Callable[[str], tuple[JsonObject, JsonObject]]
    facts: Callable[[str], Awaitable[JsonObject]]


class Worker:
    """The process, started when it is needed first, and again after it had to be ended."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._late: dict[str, str] = {}  # path of a template that took too long -> where

    async def start(self) -> None:
        """Start the process, so that the first template need not wait for it."""
        async with self._turn:
            with contextlib.suppress(CallError):  # call() raises it again
                await self._running()

    async def call(self, request: JsonObject, look_ups: LookUps | None = None, key: str = "") -> Json:
        """Return the answer to a request. Raises CallError for what is wrong with the template.

        key: what is not tried again when it has taken too long; its path unless given.
        """
        path = str(request["path"])
        key = key or path
        async with self._turn:
            if key in self._late:  # whoever comes next must not wait as long again
                raise self._too_long(key)
            process = await self._running()
            try:
                answer = await self._exchange(process, request, look_ups or {})
            except TimeoutError:
                answer = {"late": path}
            except (EOFError, OSError, ValueError):
                answer = await self._why(process, path)
            except BaseException:  # the rest of the answer would be taken for the next one
                await self.close()
                raise
            if "late" in answer or "ended" in answer:
                await self.close()
        if "late" in answer:
            self._late[key] = str(answer["late"])
            raise self._too_long(key)
        if "ended" in answer:
            raise CallError(str(answer["ended"]), hint=HINT, where=path)
        if "error" in answer:
            raise CallError(str(answer["error"]), hint=str(answer["hint"]), where=str(answer["where"]))
        return answer.get("value")

    async def _exchange(
        self, process: asyncio.subprocess.Process, request: JsonObject, look_ups: LookUps
    ) -> JsonObject:
        message: JsonObject = request
        while True:
            async with asyncio.timeout(SILENCE):
                answer = await self._send(process, message)
            kind = answer.get("look_up")
            if kind is None:
                return answer
            try:
                if kind not in look_ups:
                    raise CallError(f"{kind} cannot be used here")
                found = look_ups[kind](str(answer["name"]))
                message = {"value": await found if inspect.isawaitable(found) else found}
            except (CallError, StateError, UsageError) as error:  # others end the host
                message = {"error": error.message, "hint": error.hint}

    async def _send(self, process: asyncio.subprocess.Process, message: JsonObject) -> JsonObject:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(HEADER.pack(len(data)) + data)
        await process.stdin.drain()
        (size,) = HEADER.unpack(await process.stdout.readexactly(HEADER.size))
        if size > LARGEST * 2:
            raise ValueError("too large")
        answer = json.loads(await process.stdout.readexactly(size))
        if not isinstance(answer, dict):
            raise ValueError("no answer")
        return answer

    async def _why(self, process: asyncio.subprocess.Process, path: str) -> JsonObject:
        """Return why the process has ended, or speaks nonsense."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await process.wait()
        if process.returncode is not None and -process.returncode in (24, 9):  # SIGXCPU, or the kernel is out of memory
            return {"late": path}
        return {"ended": f"the process that renders templates ended (status {process.returncode})"}

    def _too_long(self, key: str) -> TooLong:
        text = f"rendering did not end within {SECONDS} seconds"
        return TooLong(text, hint=HINT, where=self._late.get(key, key))

    async def match(self, request: Matching) -> Json:
        """Return the answer to a regular expression that takes long: {"late": why} if it takes too long."""
        expression = dataclasses.asdict(request.expression)
        message: JsonObject = {
            "op": "match", "path": request.where, "directories": (), "expression": expression,
        }  # fmt: skip
        try:
            return await self.call(message, key=f"{request.where} {request.expression.pattern}")
        except TooLong:
            return {"late": f"matching the regular expression did not end within {SECONDS} seconds"}

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            # An editable installation finds this package by a hook, and not on the search path.
            search = [*(os.path.abspath(path) for path in sys.path), str(Path(__file__).parents[2])]
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-S", "-c", _START, json.dumps(search),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                    env=environment, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise CallError(f"cannot start the process that renders templates: {error.strerror}") from error
        return self._process

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        transport: Any = getattr(process, "_transport", None)  # or its pipes stay open until it is collected
        await asyncio.shield(process.wait())
        if transport is not None:
            transport.close()


class Templates:
    """The templates beside one file of a site."""

    def __init__(self, directories: Sequence[Path], worker: Worker) -> None:
        """directories: where to look for templates, in this order."""
        self._directories = tuple(directories)
        self._worker = worker
        self._needs: dict[str, frozenset[str]] = {}

    def file(self, name: str) -> Path:
        """Return the path of a template. Raises CallError when it is not found."""
        return find_template(name, self._directories)

    async def needs(self, name: str) -> frozenset[str]:
        """Return which of `facts` and `hostvars` the template may read, or one that it includes.

        To gather facts costs a round trip, and to pass the names of all hosts, time.
        """
        path = str(self.file(name))
        if path not in self._needs:
            found = await self._worker.call(self._request("needs", path)) if may_need_more(read_text(path)) else ()
            self._needs[path] = _names(found)
        return self._needs[path]

    async def needs_of(self, request: Evaluate) -> frozenset[str]:
        """Return which of `facts` and `hostvars` an expression may read."""
        if not may_need_more(request.source):
            return frozenset()
        message = {**self._request("needs_of", request.where), "source": request.source}
        return _names(await self._worker.call(message, key=_key(request)))

    async def expression(self, request: Evaluate, variables: Mapping[str, Any]) -> Json:
        """Return what an expression is; see Renderer.expression(). Raises CallError."""
        if is_plain(request.source):
            return request.source
        message = {**self._request("expression", request.where), "source": request.source}
        look_ups = _add_variables(message, variables)
        return await self._worker.call(message, look_ups, _key(request))

    async def render(self, name: str, variables: Mapping[str, Any], options: Mapping[str, Json] | None = None) -> str:
        """Return the rendered text. Raises CallError with the template's file and line.

        variables: `secret` among them is called here, for the names that the template asks for, and so are the
        functions of `hostvars`, if that is Others.
        """
        path = str(self.file(name))
        text, header = read_template(path)
        settings = {**(options or {}), **header}
        if not header and is_plain(text, settings):
            return text
        if all(is_usual(name, value) for name, value in settings.items()):
            plain = substitute(text, variables)
            if plain is not None:
                return plain
        request = self._request("render", path)
        look_ups = _add_variables(request, variables)
        request["options"] = dict(options or {})
        return str(await self._worker.call(request, look_ups))

    async def evaluate(self, name: str, value: Json, variables: Mapping[str, Any]) -> Json:
        """Return the value of a variable that has Jinja in it. Raises CallError with its position."""
        request = self._request("evaluate", getattr(value, "where", name))
        look_ups = _add_variables(request, variables)
        request["name"], request["value"] = name, value
        return await self._worker.call(request, look_ups)

    def _request(self, op: str, path: str) -> JsonObject:
        return {"op": op, "path": path, "directories": tuple(map(str, self._directories))}


def _add_variables(request: JsonObject, variables: Mapping[str, Any]) -> LookUps:
    """Add the variables to a request; return what looks up those that are not passed with it."""
    look_ups: dict[str, Callable[[str], Any]] = {"secret": variables.get("secret", _no_secret)}
    others = variables.get("hostvars")
    passed = {key: value for key, value in variables.items() if key != "secret"}
    if isinstance(others, Others):
        del passed["hostvars"]
        request["hosts"] = list(others.names)
        look_ups |= {"hostvars": others.variables, "hostfacts": others.facts}
    request["variables"] = passed
    return look_ups


def _no_secret(name: str) -> Json:
    raise CallError("secrets cannot be used here")


def _key(request: Evaluate) -> str:
    return f"{request.where} {request.source}"


def _names(found: Json) -> frozenset[str]:
    return frozenset(map(str, found)) if isinstance(found, (list, tuple)) else frozenset()
