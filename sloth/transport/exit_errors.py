"""Turns the ways in which a session can end by itself into errors: what happened, and what to do about it."""

from __future__ import annotations

import re
import time

from sloth.errors import BecomeError, BootstrapError, ConnectionLost, HostError, LockedError
from sloth.payload.session.messages import LockHolder

NO_PYTHON = "sloth-no-python:"  # what the start command prints when it finds no usable interpreter, and those it tried

# What sudo and sudo-rs print, then what we report.
_SUDO = (
    ("a password is required", "sudo requires a password", "give --ask-become-pass, or allow the account NOPASSWD"),
    ("a terminal is required", "sudo requires a password", "give --ask-become-pass, or allow the account NOPASSWD"),
    ("incorrect password", "sudo does not accept the become password", "type it again; it is the login account's own"),
    ("incorrect authentication", "sudo does not accept the become password", "type it again"),
    ("no password was provided", "sudo does not accept the become password", "type it again"),
    ("is not in the sudoers file", "the account may not use sudo", "add it to sudoers on the host"),
    ("is not allowed to execute", "the account may not become that user by sudo", "check sudoers on the host"),
    ("must have a tty", "sudo on the host requires a terminal (requiretty)", "remove requiretty from its sudoers"),
)


def locked(host: str, holder: LockHolder) -> LockedError:
    """Return the error for a host that another run has locked for too long."""
    return LockedError(
        f"{host} is locked by {describe(holder)}", hint="wait for it to end, or give --lock-wait SECONDS"
    )


def describe(holder: LockHolder) -> str:
    """Return who holds a run lock, for people."""
    if not holder.run:
        return "another run"
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since))
    except (OverflowError, ValueError, OSError):  # a host may send any number
        since = "an unknown time"
    return f"{holder.who} from {holder.origin} (run {holder.run}, process {holder.pid}) since {since}"


def wrong_password(host: str) -> BecomeError:
    """Return the error for a become password that sudo refuses."""
    return BecomeError(
        f"{host}: sudo does not accept the become password", hint="type it again; it is the login account's own"
    )


def explain(host: str, status: int | None, printed: str, begun: bool, account: str = "") -> HostError:
    """Return the error for a session that ended by itself.

    status: the command's exit status (None: the connection was lost first); printed: its stderr; begun: the payload
    had started; account: the one to become.
    """
    words = printed.strip()
    if not begun:
        # sudo speaks the host's language, so this goes by its form: "sudo: unknown user: NAME", and NAME not found.
        missing_account = rf"^sudo(-rs)?: ([^:\n]*[ :]{re.escape(account)}|[^:\n]*'{re.escape(account)}'[^:\n]*)$"
        if account and status == 1 and re.search(missing_account, words, re.MULTILINE):
            return BecomeError(
                f"{host}: the account {account}, which is to be become, does not exist",
                hint="check become in the inventory or the task",
                is_missing=True,
            )
        lowered = words.lower()
        for sign, message, hint in _SUDO:
            if sign in lowered and "sudo" in lowered:
                return BecomeError(f"{host}: {message}", hint=hint)
        missing = re.search(rf"{NO_PYTHON}(.*)", words)
        if missing:
            tried = missing[1].split()
            found = f"{', '.join(tried)} cannot be used (too old, or without sqlite3)" if tried else "none was found"
            return BootstrapError(
                f"{host} has no usable Python: {found}",
                hint="install python3 (3.6 or newer, with its standard library) there, or set python in the inventory",
            )
        if "sudo" in lowered and "not found" in lowered:
            return BecomeError(
                f"{host}: sudo was not found on the host", hint="log in as root, or install sudo", is_missing=True
            )
        if status is not None and re.search(r"^sudo(-rs)?: ", words, re.MULTILINE):
            return BecomeError(f"{host}: sudo refuses: {words[-600:]}", hint="check its sudoers, and the account")
    tail = f": {words[-600:]}" if words else ""
    if status is None:
        return ConnectionLost(
            f"the connection to {host} was lost{tail}", hint="what was done on the host is kept; run again"
        )
    if status < 0:
        return ConnectionLost(f"the payload on {host} was ended by signal {-status}{tail}", hint="run again")
    if begun:
        return ConnectionLost(f"the payload on {host} ended with exit status {status}{tail}", hint="run again")
    return BootstrapError(f"the payload did not start on {host}: exit status {status}{tail}")
