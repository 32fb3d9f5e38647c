"""Sites: the only package that imports lupa. A Lua program yields requests, such as calls; the engine answers them."""

from sloth.playbook.adhoc import arguments, one_call
from sloth.playbook.declarations import Task
from sloth.playbook.program import Program
from sloth.playbook.requests import (
    Done,
    Error,
    Evaluate,
    Facts,
    Fetch,
    HostFacts,
    HostVars,
    Invoke,
    Judge,
    LogLevel,
    Matching,
    Output,
    Prompt,
    Raise,
    Render,
    Request,
    Secret,
    Shared,
    SharedOp,
    Sleep,
    Sync,
    Turn,
    Variable,
)
from sloth.playbook.runtime import Limits, check_syntax
from sloth.playbook.site import Site
from sloth.playbook.task_options import Hook, OnFailure, Share

__all__ = [
    "Done",
    "Error",
    "Evaluate",
    "Facts",
    "Fetch",
    "Hook",
    "HostFacts",
    "HostVars",
    "Invoke",
    "Judge",
    "Limits",
    "LogLevel",
    "Matching",
    "OnFailure",
    "Output",
    "Program",
    "Prompt",
    "Raise",
    "Render",
    "Request",
    "Secret",
    "Share",
    "Shared",
    "SharedOp",
    "Site",
    "Sleep",
    "Sync",
    "Task",
    "Turn",
    "Variable",
    "arguments",
    "check_syntax",
    "one_call",
]
