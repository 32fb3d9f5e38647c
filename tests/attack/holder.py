"""A host whose real payload is slow at one place: what a test changes meanwhile is changed at a known moment.

`holder.py PLACE DIRECTORY PYTHON ARG...` stands in place of the host's Python. PLACE is the kind of a message of the
payload, such as "need" or "blob", or a number of bytes from the controller. Before the first such message, or after so
many bytes, DIRECTORY/held appears, and nothing goes on until DIRECTORY/go is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.attack import liar

PATIENCE = 60.0  # seconds


class Holder:
    """The messages of one session."""

    def __init__(self, place: str, directory: Path) -> None:
        self._place, self._directory = place, directory
        self._limit = int(place) if place.isdecimal() else sys.maxsize
        self._fed = 0

    def pass_on(self, header: bytes, body: bytes) -> None:
        kind = "blob" if header[4] else json.loads(body).get("t")
        if kind == self._place:
            self.hold()
        write(1, header + body)

    def end(self) -> None:
        pass

    def feed(self, target: int) -> None:
        """Pass on what the controller sends."""
        while data := os.read(0, 1 << 14):
            self._fed += len(data)
            if self._fed > self._limit:
                self.hold()
            write(target, data)
        os.close(target)

    def hold(self) -> None:
        (self._directory / "held").touch()
        end = time.monotonic() + PATIENCE
        while not (self._directory / "go").exists() and time.monotonic() < end:
            time.sleep(0.02)


def write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def main() -> None:
    place, directory, *command = sys.argv[1:]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    holder = Holder(place, Path(directory))
    threading.Thread(target=holder.feed, args=(child.stdin.fileno(),), daemon=True).start()
    liar.relay(child.stdout, holder, lambda data: write(1, data))
    os._exit(child.wait())


if __name__ == "__main__":
    main()
