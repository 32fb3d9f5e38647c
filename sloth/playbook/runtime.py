"""A Lua runtime without access to Python or the machine, and the conversion of plain data to and from it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sloth.errors import SiteError
from sloth.frozen import frozen
from sloth.playbook.site import Site

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

LuaObject = Any  # a runtime, table, function or thread of lupa, which has no types; or a plain value

MOST_VALUES = 1_000_000  # of one JSON text: each takes far more memory than there
HEADROOM = 64 * 1024  # bytes that Lua itself needs to go on
# lua/*.lua, in the order in which they build on one another
CHUNKS = ("sandbox", "limits", "encode", "stubs", "expressions", "driver")
LATER = ("patterns",)  # what a runtime loads when it needs it


@frozen
class Limits:
    """What one site may use on one host.

    memory: in bytes. The others are limits between two calls to the host: instructions of Lua's virtual machine;
    requests that are answered at once; and seconds of the processor, between two requests of any kind.
    """

    memory: int = 64 * 1024 * 1024
    instructions: int = 50_000_000
    requests: int = 100_000
    seconds: int = 3


def new_runtime(memory: int) -> LuaObject:
    """Return a Lua 5.4 runtime of at most `memory` bytes from which no Python object can be reached.

    Text is bytes on both sides (encoding=None): a site may hold names and contents that are not UTF-8.
    """
    from lupa import lua54  # not needed by commands that run no site

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


def new_driver(runtime: LuaObject, config: JsonObject, names_of: Callable[[bytes], bytes]) -> LuaObject:
    """Run the chunks of this package in `runtime`; return the table of functions that the last one returns.

    names_of: returns the names of a group's hosts as lines. It must not raise: a site could catch a Python object then.
    """
    if not _bytecode:
        _bytecode.extend(_compile(runtime))
    objects: list[LuaObject] = []
    values = to_lua(runtime, config, objects.append)
    room = runtime.table_from({b"config": values, b"later": _later, b"names_of": names_of})
    driver = None
    for name, code in _bytecode:
        if name not in LATER:
            driver = runtime.execute(code, room, name=_shown(name), mode="b")
    for one in objects:
        note_object(driver, one)
    return driver


def note_object(driver: LuaObject, table: LuaObject) -> None:
    """Let an empty table leave the runtime of `driver` as an object, and not as a list."""
    driver[b"objects"][table] = True


def _later(chunk: bytes) -> bytes:
    """Return a chunk that Lua loads when it needs it."""
    return next((code for name, code in _bytecode if to_bytes(name) == chunk), b"")


# The compiled chunks by name. A run with a thousand hosts has a thousand runtimes, and parsing is most of their cost.
_bytecode: list[tuple[str, bytes]] = []


def _compile(runtime: LuaObject) -> Iterator[tuple[str, bytes]]:
    load, dump = runtime.globals()[b"load"], runtime.globals()[b"string"][b"dump"]
    for chunk in (*CHUNKS, *LATER):
        source = (Path(__file__).parent / "lua" / f"{chunk}.lua").read_bytes()
        loaded = load(source, to_bytes(_shown(chunk)), b"t")
        assert not isinstance(loaded, tuple), loaded
        yield chunk, dump(loaded)


def _shown(chunk: str) -> str:
    """Return a chunk's name in positions. "=" makes Lua show it as it is, and no chunk of a site begins so."""
    return f"=(sloth/{chunk}.lua)"


def without_own_frames(traceback: str) -> str:
    """Return a traceback of Lua's without the frames that lie in this package or in C."""
    lines = [line.strip() for line in traceback.splitlines()]
    return "\n".join(line for line in lines if line and "(sloth/" not in line and "[C]" not in line)


def check_syntax(site: Site) -> None:
    """Raise SiteError, with file and line, when a file of the site is not valid Lua."""
    load = new_runtime(Limits().memory).globals()[b"load"]
    for file in site.files:
        loaded = load(file.source, b"@" + to_bytes(file.path), b"t")
        if isinstance(loaded, tuple):
            problem = to_text(loaded[1])
            # Lua puts "PATH:LINE: " before the message, and shortens a long path.
            position = re.match(r"[^\n]*?:(\d+): ", problem)
            where = f"{file.path}:{position[1]}" if position else file.path
            raise SiteError(problem[position.end() :] if position else problem, where=where)


def to_lua(runtime: LuaObject, value: object, note: Callable[[LuaObject], None]) -> LuaObject:
    """Return plain data as Lua's tables and byte strings. None is left out: a Lua table cannot hold it.

    note: is called with each empty table that stands for an object, since in Lua it is no other than an empty list.
    """
    if value is None or isinstance(value, (bool, float, bytes)):
        return value
    if isinstance(value, str):
        return to_bytes(value)
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return value
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, Mapping):
        pairs = [(to_bytes(str(key)), to_lua(runtime, item, note)) for key, item in value.items() if item is not None]
        table = runtime.table_from(dict(pairs))
        if not pairs:
            note(table)
        return table
    if isinstance(value, (list, tuple)):
        return runtime.table_from([to_lua(runtime, item, note) for item in value if item is not None])
    return to_bytes(str(value))  # the dates and times of TOML


def has_room(runtime: LuaObject, limit: int, value: object) -> bool:
    """Return whether `value` fits into the memory of `runtime`, which is `limit` bytes.

    Check this before data is passed in: unlike code that runs, that is not protected, and Lua would abort the process.
    """
    needed = _size(value) + HEADROOM
    if runtime.get_memory_used(total=True) + needed <= limit:
        return True
    runtime.gccollect()
    return bool(runtime.get_memory_used(total=True) + needed <= limit)


def _size(value: object) -> int:
    """Return about how many bytes plain data takes in Lua, rather too many."""
    if isinstance(value, (str, bytes)):
        return 4 * len(value) + 40 if isinstance(value, str) and not value.isascii() else len(value) + 40
    if isinstance(value, Mapping):
        return 80 + sum(80 + _size(key) + _size(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return 80 + sum(32 + _size(item) for item in value)
    return 16


def to_bytes(text: str) -> bytes:
    """Return text as Lua holds it."""
    return text.encode("utf-8", "surrogateescape")


def to_text(data: object) -> str:
    """Return Lua's bytes as text."""
    return data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else str(data)


def from_json(data: bytes) -> Json:
    """Return the plain data that encode.lua wrote."""
    return json.loads(to_text(data))


def decoded(text: str, where: str) -> Json:
    """Return the value of a JSON text that a site has got from anywhere. Raises SiteError."""
    if text.count(",") + text.count("[") + text.count("{") > MOST_VALUES:
        raise SiteError(f"this JSON has more than {MOST_VALUES} values", where=where)
    try:
        value: Json = json.loads(text, parse_constant=_refuse_constant)
        return value
    except json.JSONDecodeError as error:
        text = f"this is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        raise SiteError(text, where=where) from None
    except (ValueError, RecursionError) as error:
        raise SiteError(f"this is not JSON that can be used: {error}", where=where) from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def object_from_json(data: bytes) -> JsonObject:
    """Return a table with names; an empty one, which encode.lua cannot tell from an empty list, too."""
    value = from_json(data)
    return value if isinstance(value, dict) else {}
