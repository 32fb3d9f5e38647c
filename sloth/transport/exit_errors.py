"""Turns the ways in which a session can end by itself into errors: what happened, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sloth.dates import local_date
from sloth.errors import BecomeError, BootstrapError, ConnectionLost, HostError, LockedError
from sloth.inventory import BecomeMethod
from sloth.payload.session.messages import LockHolder
from sloth.transport.become import Become

NO_PYTHON = "sloth-no-python:"  # what the start command prints when it finds no usable interpreter, and those it tried

_GIVE = "give --ask-become-pass"
_AGAIN = "type it again"
# What sudo (and sudo-rs), su and doas print when they refuse, then what we report. They are made to speak English.
_REFUSALS: Mapping[BecomeMethod, Sequence[tuple[str, str, str]]] = {
    BecomeMethod.SUDO: (
        ("a password is required", "sudo requires a password", f"{_GIVE}, or allow the account NOPASSWD"),
        ("a terminal is required", "sudo requires a password", f"{_GIVE}, or allow the account NOPASSWD"),
        ("incorrect password", "sudo does not accept the become password", _AGAIN),
        ("incorrect authentication", "sudo does not accept the become password", _AGAIN),
        ("no password was provided", "sudo does not accept the become password", _AGAIN),
        ("is not in the sudoers file", "the account may not use sudo", "add it to sudoers on the host"),
        ("is not allowed to execute", "the account may not become that user by sudo", "check sudoers on the host"),
        ("must have a tty", "sudo on the host requires a terminal (requiretty)", "remove requiretty from its sudoers"),
    ),
    BecomeMethod.SU: (
        ("must be run from a terminal", "su on the host requires a terminal", "use sudo or doas"),
        ("permission denied", "the account may not use su", "check /etc/pam.d/su and the group wheel on the host"),
    ),
    BecomeMethod.DOAS: (
        ("authentication required", "doas requires a password", f"{_GIVE}, or permit the account with nopass"),
        ("a tty is required", "doas requires a password", f"{_GIVE}, or permit the account with nopass"),
        ("authentication failed", "doas does not accept the become password", _AGAIN),
        ("authorization failed", "doas does not accept the become password", _AGAIN),
        ("operation not permitted", "the account may not become that user by doas", "check /etc/doas.conf on the host"),
        ("doas is not enabled", "doas is not set up on the host", "write its /etc/doas.conf"),
    ),
}


def locked(host: str, holder: LockHolder) -> LockedError:
    """Return the error for a host that another run has locked for too long."""
    return LockedError(
        f"{host} is locked by {describe(holder)}", hint="wait for it to end, or give --lock-wait SECONDS"
    )


def describe(holder: LockHolder) -> str:
    """Return who holds a run lock, for people."""
    if not holder.run:
        return "another run"
    since = local_date(holder.since)
    return f"{holder.who} from {holder.origin} (run {holder.run}, process {holder.pid}) since {since}"


def wrong_password(host: str, become: Become) -> BecomeError:
    """Return the error for a become password that is refused."""
    whose = f"that of {become.account}" if become.method is BecomeMethod.SU else "the login account's own"
    return BecomeError(
        f"{host}: {become.method} does not accept the become password", hint=f"type it again; it is {whose}"
    )


def explain(host: str, status: int | None, printed: str, begun: bool, become: Become | None = None) -> HostError:
    """Return the error for a session that ended by itself.

    status: the command's exit status (None: the connection was lost first); printed: its stderr; begun: the payload
    had started; become: the account to become, if it is another one.
    """
    words = printed.strip()
    if not begun:
        refusal = _refusal(host, status, words, become) if become is not None else None
        if refusal is not None:
            return refusal
        missing = re.search(rf"{NO_PYTHON}(.*)", words)
        if missing:
            tried = missing[1].split()
            found = f"{', '.join(tried)} cannot be used (too old, or without sqlite3)" if tried else "none was found"
            return BootstrapError(
                f"{host} has no usable Python: {found}",
                hint="sloth-runner bootstrap installs python3 there (3.6 or newer, with its standard library); "
                "or set python in the inventory",
            )
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


def _refusal(host: str, status: int | None, words: str, become: Become) -> BecomeError | None:
    """Return the error when the host does not let us become the account; `words`: what it printed."""
    tool, account, lowered = become.method.value, become.account, words.lower()
    own = rf"^{tool}(-rs)?: "
    # "sudo: unknown user NAME" (older ones: "user: NAME"), "su: user NAME does not exist ...", "doas: unknown user";
    # "NAME not found", in any language: so this goes by the form. Only su has further words behind the name.
    named = rf"{own}([^:\n]*(: ?| ){re.escape(account)}|[^:\n]*'{re.escape(account)}'[^:\n]*)$"
    if tool != "sudo":
        named = (
            rf"{own}((unknown )?user {re.escape(account)}( |$)|unknown user|No passwd entry.*'{re.escape(account)}')"
        )
    if status == 1 and re.search(named, words, re.MULTILINE):
        return BecomeError(
            f"{host}: the account {account}, which is to be become, does not exist",
            hint="check become in the inventory or the task",
            is_missing=True,
        )
    if become.method is BecomeMethod.SU and "authentication failure" in lowered:
        if become.password is not None:
            return wrong_password(host, become)
        return BecomeError(f"{host}: su requires a password", hint=f"{_GIVE}; it is that of {account}")
    for sign, message, hint in _REFUSALS[become.method]:
        if sign in lowered and tool in lowered:
            return BecomeError(f"{host}: {message}", hint=hint)
    if re.search(rf"\b{tool}\b.*not found", lowered):
        hint = f"log in as root, install {tool}, or set become_method"
        return BecomeError(f"{host}: {tool} was not found on the host", hint=hint, is_missing=True)
    if status is not None and re.search(own, words, re.MULTILINE):
        return BecomeError(f"{host}: {tool} refuses: {words[-600:]}", hint="check its configuration, and the account")
    return None
