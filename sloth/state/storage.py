"""Opens what a controller keeps: its own memory, and what it shares with others, in a backend or a file of its own.

Nothing else constructs Memory and Shared.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sloth.state.database import sloth_home
from sloth.state.keys import Keys
from sloth.state.memory import Memory
from sloth.state.shared import Shared

if TYPE_CHECKING:
    from sloth.state.backends.backend import Backend
    from sloth.state.backends.location import Location


class Storage:
    """One controller's files, and the backend that it shares with others, if there is one.

    Attributes:
        directory: where its own files are.
        url: the backend's address as it was given; "": there is none, and the controller shares nothing with others.
        is_encrypted: whether values are encrypted before they are sent to the backend.
        keys: with which they are.
    """

    def __init__(
        self, directory: Path | None = None, url: str = "", is_encrypted: bool = False, keys: Keys | None = None
    ) -> None:
        """Open nothing yet."""
        self.directory = directory or sloth_home()
        self.url = url
        self.is_encrypted = is_encrypted
        self.keys = keys or Keys()

    def memory(self) -> Memory:
        """Open the controller's own database. Raises StateError."""
        return Memory(self.directory, self._location().url if self.url else None)

    def shared(self) -> Shared:
        """Return the shared values and locks, which are opened when they are first used."""
        return Shared(self.directory / "shared.db")

    def backend(self) -> Backend | None:
        """Return the backend, which connects when it is first used; None when there is none. Close it in the end."""
        if not self.url:
            return None
        from sloth.state.backends.location import open_backend

        return open_backend(self._location(), self.keys if self.is_encrypted else None)

    def _location(self) -> Location:
        from sloth.state.backends.location import parse  # few controllers have one

        return parse(self.url)
