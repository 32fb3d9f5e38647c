"""A way between a controller and a host that breaks in the ways in which networks do."""

from __future__ import annotations

from bench.relay import Relay


class Link(Relay):
    """A way to a host; when it breaks, one of its ends, or neither, notices."""

    def cut(self) -> None:
        """Reset what is connected at the near end, and leave the far end as it is: it hears nothing more."""
        self.fall_silent()
        for writer in self._near:
            writer.transport.abort()

    def fall_silent(self) -> None:
        """Pass nothing on of what is connected, and close nothing: neither end notices. New connections work."""
        for task in self._tasks:
            task.cancel()
