"""Opens what a controller keeps: its own memory, and what it shares with others, in a backend or a file of its own.

Nothing else constructs Memory and Shared.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sloth.state.backends.sqlite import SQLite
from sloth.state.database import sloth_home
from sloth.state.memory import Memory
from sloth.state.shared import Shared

if TYPE_CHECKING:
    from sloth.state.backends.backend import Backend
    from sloth.state.backends.location import Location
    from sloth.state.keys import Keys


CLOCK_ERROR = 1.0  # seconds by which two controllers may differ about a server's time


class Storage:
    """One controller's files, and the backend that it shares with other controllers, if there is one.

    Attributes:
        directory: where its own files are.
        location: that of the backend; None: it shares nothing with others.
        keys: encrypt what is sent to the backend; None: nothing does.
        locks_sites: whether runs lock their site in the backend.
    """

    def __init__(
        self,
        directory: Path | None = None,
        location: Location | None = None,
        keys: Keys | None = None,
        locks_sites: bool = True,
    ) -> None:
        """Open nothing yet. keys: encrypt what is sent to the backend with them."""
        self.directory = directory or sloth_home()
        self.location = location
        self.keys = keys
        self.locks_sites = locks_sites
        self._backend: Backend | None = None

    def again(self) -> Storage:
        """Return one of the same, with connections of its own: for another thread or event loop."""
        return Storage(self.directory, self.location, self.keys)

    def memory(self) -> Memory:
        """Open the controller's own database. Raises StateError."""
        return Memory(self.directory, self.location.url if self.location is not None else None)

    def shared(self) -> Shared:
        """Return the shared values and locks, which are opened when they are first used."""
        backend = self.backend()
        if backend is not None:
            return Shared(backend, 0.0 if _is_file(self.location) else CLOCK_ERROR)
        return Shared(SQLite(self.directory / "shared.db"))

    def backend(self) -> Backend | None:
        """Return the backend, the same each time, which connects when it is first used; None when there is none.

        Raises UsageError when a package or a file that it needs is missing.
        """
        if self._backend is None and self.location is not None:
            from sloth.state.backends.location import open_backend

            self._backend = open_backend(self.location, self.keys)
        return self._backend

    async def close(self) -> None:
        """Close the backend's connections. They are opened again when they are used again."""
        if self._backend is not None:
            await self._backend.close()


def memory_of(directory: Path, backend: str | None) -> Memory:
    """Open the database of a controller for one of its workers. Raises StateError. backend: its URL."""
    return Memory(directory, backend)


def shared_over(backend: Backend, clock_error: float) -> Shared:
    """Return the shared values and locks of a backend that is open already; see SharedLocks."""
    return Shared(backend, clock_error)


def _is_file(location: Location | None) -> bool:
    from sloth.state.backends.location import FileLocation

    return isinstance(location, FileLocation)
