"""One site loaded for one host: a Lua runtime of its own, driven by answers to what it asks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sloth.errors import SiteError, SlothError
from sloth.playbook.requests import (
    Done,
    Error,
    Facts,
    Fetch,
    Invoke,
    Output,
    Raise,
    Render,
    Request,
    Secret,
    Shared,
    Sync,
)
from sloth.playbook.site import Site, Task, check_names, declared

_PLACE = re.compile(r"\A(?P<where>[^\n:]+:\d+): (?P<message>.*)\Z", re.DOTALL)
_GLOBAL = re.compile(r"\(global '(\w+)'\)")
_PRELUDE_NAME = "=(sloth)"


@dataclass(frozen=True)
class Limits:
    """memory: bytes of one runtime; instructions: of Lua's VM, between two requests."""

    memory: int = 64 * 1024 * 1024
    instructions: int = 50_000_000


@cache
def _prelude() -> bytes:
    return (Path(__file__).parent / "prelude.lua").read_bytes()


class Program:
    """Drive it: load(), then resume() with an answer until Done or Error; then start() a task the same way."""

    def __init__(
        self,
        site: Site,
        *,
        host: Mapping[str, Any],
        groups: Mapping[str, Any],
        vars: Mapping[str, Any],
        modules: Mapping[str, Sequence[str]],
        check: bool = False,
        limits: Limits | None = None,
    ) -> None:
        """modules: namespace -> verbs. All data is copied into the VM; nothing of Python's is reachable from it."""
        self.tasks: tuple[Task, ...] = ()
        self.handlers: tuple[Task, ...] = ()
        self._site = site
        self._declared: list[Task] = []
        self._including: list[Path] = []
        self._thread: Any = None
        self._raised: SlothError | None = None
        self._loading = False
        self._known = [*modules, "file", "exec", "state", "task", "handler", "host", "groups", "vars", "facts", "log"]
        limits = limits or Limits()
        self._runtime = _runtime(limits.memory)
        period = min(100_000, limits.instructions)
        config = {
            "host": dict(host),
            "groups": dict(groups),
            "vars": dict(vars),
            "check": check,
            "modules": {namespace: dict.fromkeys(verbs, True) for namespace, verbs in modules.items()},
            "period": period,
            "periods": limits.instructions // period,
            "limit": f"{limits.instructions // 1_000_000} million"
            if limits.instructions >= 1_000_000
            else str(limits.instructions),
        }
        self._memory = limits.memory
        self._drive = self._runtime.execute(_prelude(), self._to_lua(config), name=_PRELUDE_NAME, mode="t")

    def load(self) -> Request:
        """Run the top level of the site."""
        self._loading = True
        self._including = [Path(self._site.path)]
        return self._begin(b"load", self._site.source, _bytes(self._site.path))

    def start(self, task: Task) -> Request:
        """Run a task's function."""
        return self._begin(b"start", task.index)

    def start_when(self, task: Task) -> Request:
        """Evaluate a task's `when`; it ends in Done(value)."""
        return self._begin(b"when", task.index)

    def close(self) -> None:
        """Free the runtime."""
        self._thread = self._drive = self._runtime = None

    def _begin(self, entry: bytes, *args: Any) -> Request:
        self._raised = None
        self._thread = self._drive[entry].coroutine(*args)
        return self._step(None)

    def resume(self, answer: object) -> Request:
        """Answer the last request: plain data, or Raise(error)."""
        if isinstance(answer, Raise):
            self._raised = answer.error
            return self._step((False, _bytes(str(answer.error))))
        return self._step((True, self._to_lua(answer)))

    def _step(self, send: tuple[Any, ...] | None) -> Request:
        """Let Lua run until it asks for what the engine must answer, or ends."""
        while True:
            asked = self._send(send)
            if isinstance(asked, Error):
                return asked
            request = self._read(asked)
            if request is not None:
                return request
            send = self._own(asked)

    def _send(self, send: tuple[Any, ...] | None) -> Any:
        from lupa import lua54

        try:
            return self._thread.send(send)
        except lua54.LuaMemoryError:
            return Error(f"the site uses more than {self._memory // (1024 * 1024)} MB", self._site.path, "")
        except (lua54.LuaError, StopIteration) as error:
            return Error(str(error), self._site.path, "")

    def _read(self, asked: tuple[Any, ...]) -> Request | None:
        """The request that Lua yielded (or its end); None for one that is answered in this room."""
        kind, *rest = asked
        match kind:
            case b"invoke":
                name, args, where, protected = rest
                values = _plain(args)
                return Invoke(_text(name), values if isinstance(values, dict) else {}, _text(where), bool(protected))
            case b"fetch":
                return Fetch(rest[0], _text(rest[1]), _text(rest[2]))
            case b"sync":
                return Sync(_text(rest[0]))
            case b"output":
                return Output(_text(rest[0]), _text(rest[1]), _text(rest[2]))
            case b"facts":
                return Facts(_text(rest[0]))
            case b"shared":
                return Shared(_text(rest[0]), _plain(rest[1]), _text(rest[2]))
            case b"render":
                values = _plain(rest[1])
                return Render(_text(rest[0]), values if isinstance(values, dict) else {}, _text(rest[2]))
            case b"secret":
                return Secret(_text(rest[0]), _text(rest[1]))
            case b"done":
                return self._done(bool(rest[0]))
            case b"error":
                return self._error(_text(rest[0]), _text(rest[1]))
        return None

    def _own(self, asked: tuple[Any, ...]) -> tuple[Any, ...]:
        """Answer what needs nobody else: declarations and includes."""
        kind, *rest = asked
        try:
            if kind == b"declare":
                return True, self._declare(*rest)
            if kind == b"include":
                return True, self._to_lua(self._include(_text(rest[0]), _text(rest[1])))
            if kind == b"included":
                self._including.pop()
                return True, None
        except SiteError as error:
            self._raised = error
            return False, _bytes(str(error))
        raise SiteError(f"the prelude yielded {kind!r}")

    def _declare(self, what: bytes, options: bytes, functions: bytes, where: bytes) -> int:
        index = len(self._declared) + 1
        values, kinds = (_plain(text) or {} for text in (options, functions))
        if not isinstance(values, dict):
            raise SiteError(f"{_text(what)} takes a table with names", where=_text(where))
        task = declared(_text(what), values, kinds, _text(where), index)
        for other in self._declared:
            if (other.name, other.handler) == (task.name, task.handler):
                raise SiteError(f"{_text(what)} {task.name} is there twice (see {other.where})", where=task.where)
        self._declared.append(task)
        return index

    def _include(self, path: str, where: str) -> list[bytes]:
        current = Path(where.rpartition(":")[0] or self._site.path)
        target = current.parent / path
        shown = str(target)
        if any(target.resolve() == other.resolve() for other in self._including):
            raise SiteError(f"{shown} includes itself", where=where)
        try:
            source = target.read_bytes()
        except OSError as error:
            raise SiteError(f"{shown} cannot be included: {error.strerror}", where=where) from error
        if b"\0" in source:
            raise SiteError(f"{shown} is not text", where=where)
        self._including.append(target)
        return [shown.encode("utf-8", "surrogateescape"), source]

    def _done(self, value: bool) -> Request:
        if self._loading:
            self._loading = False
            self.tasks = tuple(task for task in self._declared if not task.handler)
            self.handlers = tuple(task for task in self._declared if task.handler)
            try:
                check_names(list(self.tasks), list(self.handlers))
            except SiteError as error:
                return Error(error.message, error.where, "", error)
        return Done(value)

    def _error(self, text: str, traceback: str) -> Error:
        self._loading = False
        cause = self._raised if self._raised is not None and str(self._raised) == text else None
        if cause is not None:
            return Error(cause.message, cause.where, "", cause)
        match = _PLACE.match(text)
        where, message = (match["where"], match["message"]) if match else (self._site.path, text)
        if message == "not enough memory":
            message = f"the site uses more than {self._memory // (1024 * 1024)} MB"
        if "attempt to yield across a C-call boundary" in message:
            message = "a call cannot be made inside a callback of string.gsub, table.sort or a metamethod"
        unknown = _GLOBAL.search(message)
        if unknown and "nil value" in message:
            import difflib

            near = difflib.get_close_matches(unknown[1], self._known, 1, 0.6)
            message += f'; hint: did you mean "{near[0]}"?' if near else ""
        return Error(message, where, _trimmed(traceback))

    def _to_lua(self, value: Any) -> Any:
        """Plain data as Lua's: tables and byte strings. None is left out: Lua has no such thing."""
        if value is None or isinstance(value, (bool, float, bytes)):
            return value
        if isinstance(value, str):
            return _bytes(value)
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**63 else float(value)
        if isinstance(value, Mapping):
            pairs = [(_bytes(str(key)), self._to_lua(item)) for key, item in value.items() if item is not None]
            return self._runtime.table_from(dict(pairs))
        if isinstance(value, (list, tuple)):
            return self._runtime.table_from([self._to_lua(item) for item in value if item is not None])
        return _bytes(str(value))  # dates of TOML, mostly


def _runtime(memory: int) -> Any:
    """A Lua 5.4 runtime from which no Python object can be reached."""
    from lupa import lua54

    def no_attributes(obj: object, name: object, setting: bool) -> object:
        raise AttributeError("Python is not available to a site")

    runtime = lua54.LuaRuntime(
        encoding=None,
        register_eval=False,
        register_builtins=False,
        unpack_returned_tuples=True,
        attribute_filter=no_attributes,
        max_memory=memory,
    )
    runtime.globals()[b"python"] = None
    return runtime


def check_syntax(site: Site) -> None:
    """Raise SiteError, with file and line, when the site is not Lua."""
    load = _runtime(Limits().memory).globals()[b"load"]
    loaded = load(site.source, b"@" + _bytes(site.path), b"t")
    if isinstance(loaded, tuple):
        problem = _text(loaded[1])
        match = _PLACE.match(problem)
        where, message = (match["where"], match["message"]) if match else (site.path, problem)
        raise SiteError(message, where=where)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: Any) -> str:
    return data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else str(data)


def _plain(data: bytes) -> Any:
    return json.loads(data.decode("utf-8", "surrogateescape"))


def _trimmed(traceback: str) -> str:
    lines = [line.strip() for line in traceback.splitlines()]
    return "\n".join(line for line in lines if line and "(sloth)" not in line and "[C]" not in line)
