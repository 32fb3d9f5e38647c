"""The exceptions that users read; each carries what went wrong, where, and what to do about it.

SlothError
├── UsageError             exit 2: nothing was touched
│   ├── InventoryError     the inventory file is wrong (file:line)
│   └── SiteError          the site is wrong (file:line)
├── StateError             a state file cannot be read, or a key is not there
├── HostError              one host cannot go on; the others do (exit 1)
│   ├── Unreachable        no connection, or it was lost (exit 4)
│   │   ├── ConnectError   name resolution, refused, timeout
│   │   ├── AuthError      the host does not accept our keys or password
│   │   ├── HostKeyError   the host's key is unknown or has changed
│   │   └── LinkLost       the connection ended in mid-run
│   ├── BootstrapError     no usable Python, no space, the payload does not start
│   ├── BecomeError        sudo refuses, or wants a password
│   ├── LockedError        another run holds the host
│   └── ProtocolError      the other end speaks nonsense
└── CallError              one call failed on one host (surfaces in Lua as an error)
"""

from __future__ import annotations


class SlothError(Exception):
    """Base of all errors meant for people: `message`, and optionally `hint` (what to do) and `where` (file:line)."""

    def __init__(self, message: str, *, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}; hint: {self.hint}" if self.hint else text


class UsageError(SlothError):
    """Wrong usage: nothing was touched."""


class InventoryError(UsageError):
    """The inventory is wrong."""


class SiteError(UsageError):
    """The site is wrong."""


class StateError(SlothError):
    """A state file cannot be read or written, or a key is not there."""


class HostError(SlothError):
    """One host cannot go on."""


class Unreachable(HostError):
    """The host cannot be reached, or no longer."""


class ConnectError(Unreachable):
    """No connection: name resolution, refused, timeout."""


class AuthError(Unreachable):
    """The host accepts none of our keys or passwords."""


class HostKeyError(Unreachable):
    """The host's key is unknown, or not the one we know."""


class LinkLost(Unreachable):
    """The connection ended in mid-run."""


class BootstrapError(HostError):
    """The payload does not start on the host."""


class BecomeError(HostError):
    """The host's sudo refuses us."""


class LockedError(HostError):
    """Another run holds the host's lock."""


class ProtocolError(HostError):
    """The other end of the wire sent what it must not."""


class CallError(SlothError):
    """One call failed on one host.

    `call` names it as people do ("file.copy /etc/motd"), `detail` keeps what a traceback or a command printed.
    """

    def __init__(
        self, message: str, *, hint: str = "", where: str = "", call: str = "", host: str = "", detail: str = ""
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.call = call
        self.host = host
        self.detail = detail

    def __str__(self) -> str:
        head = f"{self.where}: " if self.where else ""
        subject = f"{self.call} on {self.host}: " if self.call and self.host else ""
        tail = f"; hint: {self.hint}" if self.hint else ""
        return f"{head}{subject}{self.message}{tail}"
