"""The files that go with calls: described first, their bytes read only when the host needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field

from sloth.errors import CallError
from sloth.frozen import frozen
from sloth.payload.kernel.record import Asset as WireAsset
from sloth.payload.session import wire


@frozen
class Asset:
    """A file or, with `dir`, a directory. open() returns its bytes, from the beginning each time."""

    name: str
    sha256: str = ""
    size: int = 0
    mode: str = ""
    dir: bool = False
    open: Callable[[], Iterator[bytes]] | None = field(default=None, compare=False)

    def on_wire(self, pushed: bool) -> WireAsset:
        """Return its description in a call; pushed: its bytes go along, unrequested."""
        return WireAsset(
            name=self.name, sha256=self.sha256, size=self.size, mode=self.mode, dir=self.dir, pushed=pushed
        )

    def blobs(self, call: int, index: int) -> Iterator[bytes]:
        """Return its bytes as frames, all but the one that ends them. Raises CallError when they cannot be read."""
        assert self.open is not None
        try:
            for data in self.open():
                yield from wire.pack_pieces(call, index, data)
        except OSError as error:
            name = error.filename or self.name
            raise CallError(f"{name} on the controller cannot be read: {error.strerror}") from error
