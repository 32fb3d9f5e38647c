"""Reads what a site's Lua code yields as the requests of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sloth.playbook.requests import (
    Evaluate,
    Facts,
    Fetch,
    HostFacts,
    HostVars,
    Invoke,
    Judge,
    LogLevel,
    Output,
    Render,
    Request,
    Secret,
    Shared,
    SharedOp,
    Sleep,
    Sync,
    Variable,
)
from sloth.playbook.runtime import LuaObject, from_json, object_from_json, to_text

# From a position: the directory of the site's file, and those in which relative names are looked for.
Directories = Callable[[str], tuple[Path, tuple[Path, ...]]]


def read_request(yielded: tuple[LuaObject, ...], directories: Directories) -> Request | None:
    """Return the request that Lua has yielded for the engine; None for anything else."""
    kind, *rest = yielded
    match kind:
        case b"invoke":
            name, args, where, protected, rescued, attempt = rest
            own, sources = directories(to_text(where))
            return Invoke(
                to_text(name),
                object_from_json(args),
                to_text(where),
                bool(protected),
                bool(rescued),
                own,
                sources,
                int(attempt),
                args,
            )
        case b"judge":
            return Judge(int(rest[0]), object_from_json(rest[1]), to_text(rest[2]))
        case b"fetch":
            return Fetch(int(rest[0]), to_text(rest[1]), to_text(rest[2]))
        case b"sync":
            return Sync(to_text(rest[0]))
        case b"output":
            return Output(LogLevel(to_text(rest[0])), to_text(rest[1]), to_text(rest[2]))
        case b"facts":
            return Facts(to_text(rest[0]))
        case b"sleep":
            return Sleep(float(rest[0]), to_text(rest[1]))
        case b"variable":
            position = to_text(rest[1])
            return Variable(to_text(rest[0]), position, directories(position)[0])
        case b"hostvars":
            return HostVars(to_text(rest[0]), to_text(rest[1]))
        case b"hostfacts":
            return HostFacts(to_text(rest[0]), to_text(rest[1]))
        case b"shared":
            return Shared(SharedOp(to_text(rest[0])), from_json(rest[1]), to_text(rest[2]))
        case b"render":
            position = to_text(rest[2])
            return Render(to_text(rest[0]), object_from_json(rest[1]), position, *directories(position))
        case b"evaluate":
            position = to_text(rest[2])
            return Evaluate(to_text(rest[0]), object_from_json(rest[1]), position, directories(position)[0])
        case b"secret":
            position = to_text(rest[1])
            return Secret(to_text(rest[0]), position, directories(position)[0])
    return None
