"""Starts what must outlive this process, its session and its connection."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence


def detach(command: "Sequence[str]") -> "None":
    """Start a command in a session of its own, whose parent is the first process; its output goes nowhere."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(3, 4096)  # among them are the wire and the run lock
        os.chdir("/")
        os.execvp(command[0], list(command))
    finally:
        os._exit(127)
