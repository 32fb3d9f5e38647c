"""Reads from an exit status and the last words of a command what went wrong on the host."""

from __future__ import annotations

import re

from sloth.errors import BecomeError, BootstrapError, HostError, LinkLost
from sloth.transport import bootstrap

_SUDO = (
    ("a password is required", "sudo wants a password", "give --ask-become-pass, or allow the account NOPASSWD"),
    ("a terminal is required", "sudo wants a password", "give --ask-become-pass, or allow the account NOPASSWD"),
    ("incorrect password", "sudo does not accept the become password", "type it again; it is the login account's own"),
    ("incorrect authentication", "sudo does not accept the become password", "type it again"),
    ("no password was provided", "sudo does not accept the become password", "type it again"),
    ("is not in the sudoers file", "the account may not use sudo", "add it to sudoers on the host"),
    ("is not allowed to execute", "the account may not become that user by sudo", "look at sudoers on the host"),
    ("unknown user", "sudo does not know the account to become", "look at become in the inventory or the task"),
    ("must have a tty", "sudo on the host insists on a terminal (requiretty)", "remove requiretty from its sudoers"),
)


def explain(host: str, status: int | None, said: str, begun: bool) -> HostError:
    """Return the error for a session that ended by itself.

    status: the command's exit status (None: the connection went first); said: what it printed to stderr; begun: the
    payload had started.
    """
    words = said.strip()
    if not begun:
        lowered = words.lower()
        for sign, message, hint in _SUDO:
            if sign in lowered and "sudo" in lowered:
                return BecomeError(f"{host}: {message}", hint=hint)
        missing = re.search(rf"{bootstrap.NO_PYTHON}(.*)", words)
        if missing:
            tried = missing[1].split()
            found = f"{', '.join(tried)} will not do (too old, or without sqlite3)" if tried else "none was found"
            return BootstrapError(
                f"{host} has no usable Python: {found}",
                hint="install python3 (3.6 or newer, with its standard library) there, or set python in the inventory",
            )
        if "sudo" in lowered and "not found" in lowered:
            return BecomeError(f"{host}: there is no sudo on the host", hint="log in as root, or install sudo")
    tail = f": {words[-600:]}" if words else ""
    if status is None:
        return LinkLost(f"the connection to {host} was lost{tail}", hint="the host keeps what was done; run again")
    if status < 0:
        return LinkLost(f"the payload on {host} was ended by signal {-status}{tail}", hint="run again")
    if begun:
        return LinkLost(f"the payload on {host} ended with exit status {status}{tail}", hint="run again")
    return BootstrapError(f"the payload did not start on {host}: exit status {status}{tail}")
