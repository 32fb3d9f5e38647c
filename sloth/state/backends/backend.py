"""The interface of a backend: named values that are written only where they are as they were read."""

from __future__ import annotations

from typing import Protocol

from sloth.errors import StateError
from sloth.frozen import frozen


class BackendError(StateError):
    """The backend refuses a request, or cannot be used as it is."""


class Unsupported(BackendError):
    """The server cannot do this, or not under the condition that is needed."""


class Damaged(BackendError):
    """An entry is not what sloth-runner has written."""


class BackendUnavailable(BackendError):
    """The backend does not answer. What was asked for has not happened."""


class Unsure(BackendUnavailable):
    """The backend was lost before it answered: a write may have happened, or may yet happen."""


@frozen
class Entry:
    """A value as a backend has it; `version` is opaque, and another one after every write."""

    value: bytes
    version: str


class Backend(Protocol):
    """Named values. All methods may raise BackendError; keys are text with "/" between their parts.

    Attributes:
        url: the address for messages, without credentials.
        limit: the most bytes of one value.
    """

    url: str
    limit: int

    async def read(self, key: str) -> Entry | None:
        """Return a value, or None if there is none."""

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        """Write a value if its version is `expected` (None: there is no value); return the new version.

        Returns None when it was not as expected, and nothing was written. Raises Unsure.
        """

    async def names(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted."""

    async def forget(self, key: str) -> None:
        """Delete a value, whatever its version, if there is one."""

    async def remove(self, key: str, expected: str) -> bool:
        """Delete a value if its version is `expected`; return whether it is gone.

        May be repeated after a lost answer. Raises Unsupported where the server cannot do that.
        """

    async def clock(self) -> float:
        """Return the server's time in epoch seconds: what all its clients agree on."""

    async def close(self) -> None:
        """Close the connections."""
