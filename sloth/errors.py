"""The exceptions of sloth-runner. Each carries one sentence, and as data: where it happened, to what, and what to do.

SlothError
├── UsageError             the command, inventory or site is wrong; nothing was changed (exit 2)
│   ├── InventoryError     the inventory is wrong
│   └── SiteError          the site is wrong
├── StateError             a state file cannot be used, or a key is not found
│   ├── StateBusy          another process holds the file for too long
│   └── StateNotFound      a state does not know the run that a query names
├── HostError              work on one host has to end; other hosts go on (exit 1)
│   ├── Unreachable        the host cannot be reached, or the connection was lost (exit 4)
│   │   ├── ConnectError   name resolution failed, connection refused, or timeout
│   │   ├── AuthError      the host accepts none of the keys and passwords
│   │   ├── HostKeyError   the host's key is unknown or has changed
│   │   └── ConnectionLost the connection ended during the run
│   ├── BootstrapError     the payload cannot be started: no usable Python, no space, ...
│   ├── BecomeError        sudo refuses, or needs a password
│   ├── WrongMachine       another machine answers than the one on which the run began
│   ├── LockedError        another run holds the host's lock
│   ├── StalePlan          a saved plan does not fit the host any more (exit 3)
│   ├── ProtocolError      the other end sent an invalid message
│   └── Unresponsive       the payload does not end a call that was cancelled
└── CallError              one call failed on one host; Lua sees it as an error
"""

from __future__ import annotations


class SlothError(Exception):
    """Base class of all errors that users see.

    Attributes:
        message: one sentence, without any of the data below.
        hint: what the user can do about it, or "".
        where: the position in a file, "site.sloth:12", or "".
        call: the call that failed, as users write it, "file.copy /etc/motd", or "".
        host: the name of the host, or "".
    """

    def __init__(self, message: str, *, hint: str = "", where: str = "", call: str = "", host: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where
        self.call = call
        self.host = host

    def __str__(self) -> str:
        """Return "WHERE: CALL on HOST: MESSAGE; hint: HINT", without the parts that are not known."""
        head = f"{self.where}: " if self.where else ""
        # A host alone is left out: whoever shows the error names the host already.
        subject = f"{self.call} on {self.host}: " if self.call and self.host else ""
        tail = f"; hint: {self.hint}" if self.hint else ""
        return f"{head}{subject}{self.message}{tail}"


class UsageError(SlothError):
    """The command line, the inventory or the site is wrong. No host was changed."""


class InventoryError(UsageError):
    """The inventory is wrong, or a host pattern matches nothing in it."""


class SiteError(UsageError):
    """The site is wrong."""


class StateError(SlothError):
    """A state file cannot be read or written, or a key is not found in it."""


class StateBusy(StateError):
    """Another process holds the file for too long."""


class StateNotFound(StateError):
    """A state does not know the run that a query names."""


class HostError(SlothError):
    """Work on one host has to end. Other hosts go on."""


class Unreachable(HostError):
    """The host cannot be reached, or the connection to it was lost."""


class ConnectError(Unreachable):
    """The connection cannot be made: name resolution failed, connection refused, or timeout."""


class AuthError(Unreachable):
    """The host accepts none of the keys and passwords."""


class HostKeyError(Unreachable):
    """The host's key is unknown, or differs from the known one."""


class ConnectionLost(Unreachable):
    """The connection ended during the run."""


class BootstrapError(HostError):
    """The payload cannot be started on the host."""


class BecomeError(HostError):
    """The host does not let us become another account; is_missing: it has no such account, or no sudo."""

    def __init__(self, message: str, *, hint: str = "", is_missing: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_missing = is_missing


class WrongMachine(HostError):
    """Another machine answers than the one on which the run began; nothing was done there."""


class LockedError(HostError):
    """Another run holds the host's lock."""


class StalePlan(HostError):
    """A saved plan does not fit the host any more, or was applied to it before; nothing was touched there."""


class ProtocolError(HostError):
    """The other end sent an invalid message."""


class Unresponsive(HostError):
    """The payload does not end a call that was cancelled."""


class CallError(SlothError):
    """One call failed on one host. `detail` holds what a traceback or a command printed."""

    def __init__(
        self, message: str, *, hint: str = "", where: str = "", call: str = "", host: str = "", detail: str = ""
    ) -> None:
        super().__init__(message, hint=hint, where=where, call=call, host=host)
        self.detail = detail
