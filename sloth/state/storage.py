"""Opens what a controller keeps: its own memory, and what it shares with others, in a backend or a file of its own.

Nothing else constructs Memory and Shared.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import UsageError
from sloth.state.database import sloth_home
from sloth.state.memory import Memory
from sloth.state.shared import Shared

if TYPE_CHECKING:
    from sloth.state.backends.backend import Backend


class Storage:
    """One controller's files, and the backend that it shares with others, if there is one.

    Attributes:
        directory: where its own files are.
        url: the backend's address as it was given; "": there is none, and the controller shares nothing with others.
        is_encrypted: whether values are encrypted before they are sent to the backend.
    """

    def __init__(self, directory: Path | None = None, url: str = "", is_encrypted: bool = False) -> None:
        """Open nothing yet."""
        self.directory = directory or sloth_home()
        self.url = url
        self.is_encrypted = is_encrypted

    def memory(self) -> Memory:
        """Open the controller's own database. Raises StateError."""
        return Memory(self.directory)

    def shared(self) -> Shared:
        """Return the shared values and locks, which are opened when they are first used."""
        return Shared(self.directory / "shared.db")

    def backend(self) -> Backend | None:
        """Return the backend, which connects when it is first used; None when there is none. Close it in the end."""
        if not self.url:
            return None
        raise UsageError(f"{self.url}: this version has no backends yet")
