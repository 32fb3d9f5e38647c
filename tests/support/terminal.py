"""A command in a terminal of its own, 80 columns wide and 24 lines high, and what it shows there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.paths import ROOT

COLUMNS, LINES = 80, 24
_ESCAPE = re.compile(r"\x1b(\[[0-9;?>=]*[a-zA-Z]|\(B)")


class Terminal:
    """A context manager: the command runs while it is entered."""

    def __init__(self, argv: Sequence[str], home: Path, program: str = sys.executable) -> None:
        self.shown = ""  # all of it, escapes included
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), "TERM": "xterm"}
        for name in ("SLOTH_INVENTORY", "COLUMNS", "LINES", "NO_COLOR", "CI"):
            environment.pop(name, None)
        self._leader = leader
        self.process = subprocess.Popen(
            [program, *argv],
            stdin=follower, stdout=follower, stderr=follower, cwd=home, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(follower)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._leader)

    @property
    def text(self) -> str:
        """What was shown, without escapes; what a backspace goes over is written again."""
        text = _ESCAPE.sub("", self.shown)
        while "\b" in text:
            text = re.sub("[^\b]?\b", "", text, count=1)
        return text

    def wait_for(self, pattern: str, seconds: float = 60) -> None:
        """Read until a pattern has been shown."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, f"{pattern!r} does not come:\n{self.text[-2000:]}"
            if not self._read():
                break
        assert re.search(pattern, self.text), f"{pattern!r} did not come:\n{self.text[-2000:]}"

    def press(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def end(self, seconds: float = 60) -> int:
        """Read until the command has ended; return its exit status."""
        end = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < end, f"it does not end:\n{self.text[-2000:]}"
        return self.process.wait(10)

    def _read(self) -> bool:
        """Read what there is; return False at the end."""
        if not select.select([self._leader], [], [], 0.5)[0]:
            return True
        try:
            data = os.read(self._leader, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)
