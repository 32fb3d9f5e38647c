"""Renders templates for the engine: plain texts here, all others in a process that can be ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sloth.errors import CallError, SlothError
from sloth.playbook.template import find_template, may_need_facts, plain_text, read_header
from sloth.playbook.worker import HEADER, LARGEST, SECONDS

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

SILENCE = 60.0  # seconds without an answer after which the process is ended, whatever it waits for
HINT = "simplify the template: a loop, a repetition or a regular expression in it needs far too much"
# The process has the controller's search path, and of its environment only what programs need: no secret.
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from sloth.playbook.worker import main; main()"
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ")

Lookup = Callable[[str], str]


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

    async def call(self, request: JsonObject, secret: Lookup | None = None) -> Json:
        """Return the answer to a request. Raises CallError for what is wrong with the template."""
        path = str(request["path"])
        async with self._turn:
            if path in self._late:  # whoever comes next must not wait as long again
                raise self._too_long(path)
            process = await self._running()
            try:
                async with asyncio.timeout(SILENCE):
                    answer = await self._exchange(process, request, secret)
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
            self._late[path] = str(answer["late"])
            raise self._too_long(path)
        if "ended" in answer:
            raise CallError(str(answer["ended"]), hint=HINT, where=path)
        if "error" in answer:
            raise CallError(str(answer["error"]), hint=str(answer["hint"]), where=str(answer["where"]))
        return answer.get("value")

    async def _exchange(
        self, process: asyncio.subprocess.Process, request: JsonObject, secret: Lookup | None
    ) -> JsonObject:
        message: JsonObject = request
        while True:
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
            if "secret" not in answer or secret is None:
                return answer
            try:
                message = {"value": secret(str(answer["secret"]))}
            except SlothError as error:
                message = {"error": error.message, "hint": error.hint}

    async def _why(self, process: asyncio.subprocess.Process, path: str) -> JsonObject:
        """Return why the process has ended, or speaks nonsense."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await process.wait()
        if process.returncode is not None and -process.returncode in (24, 9):  # SIGXCPU, or the kernel is out of memory
            return {"late": path}
        return {"ended": f"the process that renders templates ended (status {process.returncode})"}

    def _too_long(self, path: str) -> CallError:
        text = f"rendering did not end within {SECONDS} seconds"
        return CallError(text, hint=HINT, where=self._late.get(path, path))

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
        self._facts: dict[str, bool] = {}

    def file(self, name: str) -> Path:
        """Return the path of a template. Raises CallError when it is not found."""
        return find_template(name, self._directories)

    async def needs_facts(self, name: str) -> bool:
        """Return whether the template, or one that it includes, may read `facts`: gathering them costs a round trip."""
        path = str(self.file(name))
        if path not in self._facts:
            self._facts[path] = may_need_facts(path) and bool(
                await self._worker.call(self._request("needs_facts", path))
            )
        return self._facts[path]

    async def render(self, name: str, variables: Mapping[str, Any], options: Mapping[str, Json] | None = None) -> str:
        """Return the rendered text. Raises CallError with the template's file and line.

        variables: `secret` among them is called here, for the names that the template asks for.
        """
        path = str(self.file(name))
        settings = {**(options or {}), **read_header(path)}
        plain = plain_text(path, settings)
        if plain is not None:
            return plain
        request = self._request("render", path)
        request["variables"] = {key: value for key, value in variables.items() if key != "secret"}
        request["options"] = dict(options or {})
        text = await self._worker.call(request, variables.get("secret"))
        return str(text)

    async def evaluate(self, name: str, value: Json, variables: Mapping[str, Any]) -> Json:
        """Return the value of a variable that has Jinja in it. Raises CallError with its position."""
        request = self._request("evaluate", getattr(value, "where", name))
        request["variables"] = {key: item for key, item in variables.items() if key != "secret"}
        request["name"], request["value"] = name, value
        return await self._worker.call(request, variables.get("secret"))

    def _request(self, op: str, path: str) -> JsonObject:
        return {"op": op, "path": path, "directories": tuple(map(str, self._directories))}
