"""The Lua room: the only place that imports lupa. Lua is a generator of calls; the engine answers them."""

from sloth.playbook.adhoc import arguments, one_call
from sloth.playbook.program import Limits, Program, check_syntax
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
from sloth.playbook.site import Site, Task

__all__ = [
    "Done",
    "Error",
    "Facts",
    "Fetch",
    "Invoke",
    "Limits",
    "Output",
    "Program",
    "Raise",
    "Render",
    "Request",
    "Secret",
    "Shared",
    "Site",
    "Sync",
    "Task",
    "arguments",
    "check_syntax",
    "one_call",
]
