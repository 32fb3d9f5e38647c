"""One site loaded for one host: a Lua runtime of its own, driven by the answers to its requests."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import CallError, SiteError, SlothError
from sloth.inventory.templated import divide
from sloth.playbook.declarations import Task
from sloth.playbook.declared import Declared
from sloth.playbook.group_names import GroupNames
from sloth.playbook.includes import Includes
from sloth.playbook.names import SITE
from sloth.playbook.prompts import read_prompt
from sloth.playbook.regex import Expression, Slow, evaluate_quickly
from sloth.playbook.requests import Done, Error, Facts, Matching, Prompt, Raise, Request, Turn
from sloth.playbook.runtime import (
    Limits,
    LuaObject,
    decoded,
    from_json,
    has_room,
    new_driver,
    new_runtime,
    note_object,
    object_from_json,
    to_bytes,
    to_lua,
    to_text,
    without_own_frames,
)
from sloth.playbook.site import Site
from sloth.playbook.task_options import Hook
from sloth.playbook.yielded import read_request
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

# Errors that pass through pcall are strings, and the position is part of them.
_POSITION = re.compile(r"\A(?P<where>[^\n:]+:\d+): (?P<message>.*)\Z", re.DOTALL)
# Only the message of Lua's error has the name of an undefined variable. Nothing but the hint depends on it.
_PLACE = re.compile(rb":\d+\Z")
_UNDEFINED = re.compile(r"nil value \(global '(\w+)'\)")
SMALL = 2**31  # an integer that is passed on as it is
TURN = 0.05  # seconds after which other hosts get their turn


class Program:
    """A site loaded for one host.

    load() runs the site's top level; resume() answers the request that was returned last, until the result is Done or
    Error. start() and start_hook() run a task in the same way. At most one of them is under way at a time.
    """

    def __init__(
        self,
        site: Site,
        *,
        host: JsonObject,
        groups: Mapping[str, Sequence[str]],
        vars: Mapping[str, Json],
        modules: Mapping[str, Sequence[str]],
        check: bool = False,
        limits: Limits | None = None,
    ) -> None:
        """modules: the verbs of each namespace. All data is copied into the runtime."""
        self.tasks: tuple[Task, ...] = ()
        self.handlers: tuple[Task, ...] = ()
        self._declared = Declared()
        self._root = site  # the file of the site that is being loaded, or that has declared the running task
        self._task: Task | None = None  # the task that was started last
        self._not_loaded = list(site.files)
        self._directories_of = {file.path: file.directory for file in site.files}
        self._includes = Includes(site.roles)
        self._thread: LuaObject = None
        self._request: Request | None = None  # what resume() answers
        self._near = ""  # the position of the last request
        self._due: tuple[bool, object] | None = None  # the answer that follows a Turn
        self._raised: SlothError | None = None  # the error that Lua was last resumed with
        self._facts: Collection[str] = ()  # the names of all facts, once they are gathered
        self._loading = False
        self._globals = [*modules, *SITE]
        self._limits = limits or Limits()
        self._runtime = new_runtime(self._limits.memory)
        instructions = self._limits.instructions
        plain, lazy = divide(vars)
        names = groups if isinstance(groups, GroupNames) else GroupNames(groups)
        period = min(1000, instructions)
        config = {
            "host": host,
            "host_names": dict.fromkeys(host, True),
            "groups": names.sizes,
            "vars": plain,
            "lazy": dict.fromkeys(lazy, True),
            "check": check,
            "modules": {namespace: f" {' '.join(verbs)} " for namespace, verbs in modules.items()},
            "period": period,
            "periods": instructions // period,
            "requests": self._limits.requests,
            "seconds": self._limits.seconds,
            "memory": self._limits.memory,
            "too_large": self._out_of_memory().message,
            "limit": f"{instructions // 1_000_000} million" if instructions >= 1_000_000 else str(instructions),
        }
        if not has_room(self._runtime, self._limits.memory, [config, *(file.source for file in site.files)]):
            raise SiteError(self._out_of_memory().message, where=site.path, hint="the variables are too large")
        self._driver = new_driver(self._runtime, config, names.lines)

    def load(self) -> Request:
        """Run the top level of the site's files, one after the other."""
        self._loading = True
        self._root = self._not_loaded.pop(0)
        self._includes.begin(self._root.path)
        return self._begin(b"load", self._root.source, to_bytes(self._root.path))

    def start(self, task: Task) -> Request:
        """Run the function of a task or handler.

        `return false, "message"` is a failure with this message, as is `return nil, "message"`. Whatever else the
        function returns is a success.
        """
        self._task = task
        self._root = self._declared.root(task)
        return self._begin(b"start", task.index)

    def start_hook(self, task: Task, hook: Hook, argument: str = "") -> Request:
        """Run a function of a task besides `run`; it ends with Done(value).

        argument: what it is called with, but for `until`, which gets what `run` has returned last.
        """
        self._task, self._root = task, self._declared.root(task)
        return self._begin(b"hook", task.index, to_bytes(hook), to_bytes(argument))

    def resume(self, answer: object) -> Request:
        """Answer the last request with plain data or with Raise(error); return the next one."""
        if isinstance(self._request, Turn):
            return self._step(self._due)
        if isinstance(answer, Raise):
            return self._step(self._refuse(answer.error))
        if isinstance(self._request, Facts) and isinstance(answer, Mapping):
            self._facts = frozenset(answer)
        return self._step((True, answer))

    def shrink(self) -> None:
        """Free what Lua no longer needs: a host may wait for long, beside thousands of others."""
        self._runtime.gccollect()

    def close(self) -> None:
        """Free the runtime."""
        self._thread = self._driver = self._runtime = None

    # Driving Lua

    def _begin(self, entry: bytes, *args: LuaObject) -> Request:
        self._raised = None
        self._thread = self._driver[entry].coroutine(*args)
        return self._step(None)

    def _step(self, answer: tuple[bool, object] | None) -> Request:
        """Let Lua run until it requests something of the engine, or ends, or it is the turn of other hosts."""
        begun = time.monotonic()
        while True:
            yielded = self._send(answer)
            last = yielded[-1] if isinstance(yielded, tuple) and isinstance(yielded[-1], bytes) else b""
            self._near = to_text(last) if _PLACE.search(last[-12:]) else ""
            if isinstance(yielded, Error):
                return yielded
            self._request = self._read(yielded)
            if self._request is not None:
                return self._request
            reply = self._answer(yielded)
            if isinstance(reply, (Matching, Prompt)):
                self._request = reply
                return reply
            answer = reply
            if time.monotonic() - begun > TURN:
                self._request, self._due = Turn(), answer
                return self._request

    def _send(self, answer: tuple[bool, object] | None) -> tuple[LuaObject, ...] | Error:
        """Resume the coroutine; return what it yields or, at its end, returns."""
        from lupa import lua54

        try:
            if answer is None or answer[1] is None or (type(answer[1]) is int and abs(answer[1]) < SMALL):
                values = answer  # Lua stores nothing for these
            elif not has_room(self._runtime, self._limits.memory, answer[1]):
                return self._out_of_memory(self._near)
            else:
                values = answer[0], to_lua(self._runtime, answer[1], partial(note_object, self._driver))
            yielded: tuple[LuaObject, ...] = self._thread.send(values)
            return yielded if isinstance(yielded, tuple) else (yielded,)
        except RecursionError:
            self._loading = False
            return Error("the data are nested too deeply", self._near or self._root.path, "")
        except lua54.LuaMemoryError:
            return self._out_of_memory()
        except (lua54.LuaError, StopIteration) as error:
            return Error(str(error), self._root.path, "")

    def _read(self, yielded: tuple[LuaObject, ...]) -> Request | None:
        """Return the request, or the end, that Lua yielded; None for what this package answers."""
        kind, *rest = yielded
        match kind:
            case b"done":
                return self._end(bool(rest[0]), to_text(rest[1]) if len(rest) > 1 and rest[1] is not None else "")
            case b"refused":
                return self._refused(to_text(rest[0]))
            case b"error":
                return self._error(*map(to_text, rest))
            case b"memory":
                return self._out_of_memory(to_text(rest[0]))
        return read_request(yielded, self._directories)

    def _directories(self, where: str) -> tuple[Path, tuple[Path, ...]]:
        """Return the directory of the site's file at a position, and those in which relative names are looked for.

        An included file has the directory of the one that it serves.
        """
        directory = self._directories_of.get(where.rpartition(":")[0], self._root.directory)
        return directory, self._includes.sources(where, directory)

    # Requests that this package answers

    def _answer(self, yielded: tuple[LuaObject, ...]) -> tuple[bool, object] | Matching | Prompt:
        kind, *rest = yielded
        try:
            match kind:
                case b"declare":
                    return True, self._declare(*rest)
                case b"include":
                    name, source = self._includes.enter(to_text(rest[0]), to_text(rest[1]))
                    return True, [to_bytes(name), source]
                case b"role":
                    return True, self._use_role(*rest)
                case b"included":
                    self._includes.leave()
                    return True, None
                case b"json":
                    return True, decoded(to_text(rest[0]), to_text(rest[1]))
                case b"re":
                    return self._match(*rest)
                case b"prompt":
                    return read_prompt(object_from_json(rest[0]), to_text(rest[1]))
                case b"unknown":
                    namespace, name, names, where = rest
                    raise _unknown(f"{to_text(namespace)}.", to_text(name), from_json(names), to_text(where))
                case b"missing_fact":
                    name = to_text(rest[0])
                    if self._facts and name not in self._facts:
                        raise _unknown("facts.", name, self._facts, to_text(rest[1]))
                    return True, None
        except SiteError as error:
            return self._refuse(error)
        raise SiteError(f"the Lua code of sloth-runner yielded {kind!r}")

    def _match(self, op: bytes, *rest: LuaObject) -> tuple[bool, object] | Matching:
        """Evaluate a regular expression, or return the request that has it done elsewhere."""
        pattern, text, replacement, most, flags, where = rest
        expression = Expression(to_text(op), to_text(pattern), to_text(text), to_text(replacement), most, flags)
        begun = time.process_time()
        try:
            return True, {"value": evaluate_quickly(expression), "cost": (time.process_time() - begun) * 1000}
        except CallError as error:
            raise SiteError(error.message, hint=error.hint, where=to_text(where)) from None
        except Slow:
            return Matching(expression, to_text(where))

    def _refuse(self, error: SlothError) -> tuple[bool, object]:
        """Return the answer that raises `error`; remember it, since Lua keeps no more of it than its text."""
        self._raised = error
        return False, str(error)

    def _use_role(self, name: bytes, given: bytes, label: bytes, position: bytes) -> list[object]:
        """Return path and source of a role, and its arguments."""
        where, arguments = to_text(position), from_json(given) or {}
        if not isinstance(arguments, dict):
            raise SiteError(f"role {to_text(name)} takes a table with names", where=where)
        path, source, values = self._includes.enter_role(to_text(name), arguments, to_text(label), where)
        return [to_bytes(path), source, values]

    def _declare(self, what: bytes, options: bytes, functions: bytes, position: bytes) -> int:
        kind, where = to_text(what), to_text(position)
        values = from_json(options) or {}
        if not isinstance(values, dict):
            raise SiteError(f"{kind} takes a table with names", where=where)
        return self._declared.add(kind, values, from_json(functions), where, self._root, self._includes.prefix)

    # Ends

    def _end(self, value: bool, text: str) -> Request:
        if self._loading:
            if self._not_loaded:
                return self.load()
            self._loading = False
            self.handlers = self._declared.handlers()
            try:
                self.tasks = self._declared.tasks()
            except SiteError as error:
                return Error(error.message, error.where, "", error, error.hint)
        return Done(value, text)

    def resolve(self, names: Sequence[str], where: str) -> tuple[str, ...]:
        """Return the handlers that the names of a call's `notify` mean. Raises SiteError."""
        task = None if self._loading else self._task
        return self._declared.resolve(names, task, self._includes.prefix, where)

    def _refused(self, message: str) -> Error:
        """Return the failure of a task that returned false."""
        task = self._task
        assert task is not None
        what = "handler" if task.handler else "task"
        return Error(message or f"{what} {task.name} returned false", task.where, "")

    def _error(self, text: str, where: str, message: str, traceback: str, line: str) -> Error:
        self._loading = False
        cause = self._raised
        if cause is not None and str(cause) == text:
            return Error(cause.message, cause.where, "", cause, cause.hint)
        if not where:
            position = _POSITION.match(text)
            where, message = (position["where"], position["message"]) if position else (line or self._root.path, text)
        undefined = _UNDEFINED.search(message)
        hint = did_you_mean(undefined[1], self._globals) if undefined else ""
        return Error(message, where, without_own_frames(traceback), hint=hint)

    def _out_of_memory(self, near: str = "") -> Error:
        self._loading = False
        return Error(f"the site uses more than {self._limits.memory // (1024 * 1024)} MB", near or self._root.path, "")


def _unknown(prefix: str, name: str, known: Collection[str], where: str) -> SiteError:
    hint = did_you_mean(name, known) or "known are " + ", ".join(sorted(known))
    return SiteError(f"there is no {prefix}{name}", hint=hint, where=where)
