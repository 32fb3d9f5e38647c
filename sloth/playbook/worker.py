"""The process in which templates are rendered, so that none of them can hold up the controller.

It answers one request at a time on its standard streams. A request is pickled by the controller; an answer is JSON,
since what a template has made of this process must not reach the controller. Templates see copies of the variables, so
what they change no other host and no later template sees.
"""

from __future__ import annotations

import json
import pickle
import resource
import signal
import struct
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

from sloth.errors import CallError
from sloth.playbook.host_variables import HostVars
from sloth.playbook.regex import Expression, evaluate
from sloth.playbook.template import Renderer, place_of

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject
    from sloth.playbook.host_variables import LookUp

SECONDS = 3  # of the processor, for one template
GRACE = 2  # further seconds after which the kernel ends the process: some functions of C cannot be interrupted
MEMORY = 1024 * 1024 * 1024  # bytes of addresses
LARGEST = 64 * 1024 * 1024  # bytes of an answer
HEADER = struct.Struct(">I")


class OutOfTime(BaseException):
    """Rendering takes too long. No Exception: a filter must not catch it."""


def main() -> None:
    """Answer requests until the controller closes standard input."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C is the controller's to answer
    signal.signal(signal.SIGPROF, _stop)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    renderers: dict[tuple[str, ...], Renderer] = {}

    def look_up(kind: str, name: str) -> Json:
        _write(sink, {"look_up": kind, "name": str(name)})
        answer = pickle.loads(_read(source))
        if "error" in answer:
            raise CallError(answer["error"], hint=answer["hint"])
        value: Json = answer["value"]
        return value

    while data := _read(source):
        request = pickle.loads(data)
        directories = request["directories"]
        if directories not in renderers:
            renderers[directories] = Renderer([Path(one) for one in directories])
        _write(sink, _answer(renderers[directories], request, look_up))


def _answer(renderer: Renderer, request: JsonObject, look_up: LookUp) -> JsonObject:
    path = request["path"]
    try:
        try:
            used = resource.getrusage(resource.RUSAGE_SELF)
            spent = int(used.ru_utime + used.ru_stime) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (spent + SECONDS + GRACE, resource.RLIM_INFINITY))
            signal.setitimer(signal.ITIMER_PROF, SECONDS, 0.2)  # again, should something catch it
            return {"value": _value(renderer, request, look_up)}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except CallError as error:
        return {"error": error.message, "hint": error.hint, "where": error.where}
    except OutOfTime as error:
        return {"late": place_of(error, path)}


def _value(renderer: Renderer, request: JsonObject, look_up: LookUp) -> Json:
    path = request["path"]
    match request["op"]:
        case "needs":
            return sorted(renderer.needs(path))
        case "needs_of":
            return sorted(renderer.needs_of(request["source"], path, set()))
        case "match":
            begun = time.process_time()
            value = evaluate(Expression(**request["expression"]))
            return {"value": value, "cost": (time.process_time() - begun) * 1000}

    def secret(name: str) -> Json:
        return look_up("secret", name)

    variables = {**request["variables"], "secret": secret}
    if "hosts" in request:
        variables["hostvars"] = HostVars(request["hosts"], look_up, renderer.evaluate)
    if request["op"] == "evaluate":
        return renderer.evaluate(request["name"], request["value"], variables)
    if request["op"] == "expression":
        return renderer.expression(request["source"], variables, path)
    text = renderer.render(path, variables, request["options"])
    if len(text) > LARGEST // 4:
        raise CallError(f"the text has more than {LARGEST // 4 // 1024 // 1024} million characters", where=path)
    return text


def _stop(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def _read(source: BinaryIO) -> bytes:
    header = source.read(HEADER.size)
    return source.read(HEADER.unpack(header)[0]) if len(header) == HEADER.size else b""


def _write(sink: BinaryIO, value: JsonObject) -> None:
    data = json.dumps(value).encode("ascii")
    sink.write(HEADER.pack(len(data)) + data)
    sink.flush()
