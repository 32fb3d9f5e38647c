"""A host whose real payload is honest, and whose words are changed on their way.

`liar.py HOST DIRECTORY PYTHON ARG...` stands in place of the host's Python. DIRECTORY/lies has a seed, or is not there:
then nothing is changed. What becomes of which message depends on that seed, the host's name and the number of the
session, so that it can be had again. Each host has a home of its own, DIRECTORY/homes/HOST.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = b"\x00sloth-wire-2\n"
LIFETIME = 100.0  # seconds
LATER = 2.0  # seconds after which a host ends that owes an answer: while it lives it may take as long as it likes
ODD = (
    None, True, False, -1, 0, 1, 2**62, 2**63, 10**19, 1.5, -1e308, "", "x", "\x1b]0;owned\x07\u202e\r\n\udcff\x00",
    "y" * 70000, [], {}, [[]], [{}], {"a": {}}, [None], "changed", "skipped", "done", "drift", "../../../etc/passwd",
    "file:copy:/etc/passwd", {"sha256": "0" * 64, "size": 5}, {"before": 1, "after": [2]}, "0" * 64,
)  # fmt: skip
SUBJECTS = ("reply", "rows", "ready", "bye", "need", "replica", "output")


class Liar:
    """What becomes of the messages of one session."""

    def __init__(self, chance: random.Random, write: Callable[[bytes], None]) -> None:
        self._chance = chance
        self._write = write
        self._subject = chance.choice((*SUBJECTS, "", ""))  # only these messages, all of them; "": any, few of them
        self._sent: list[bytes] = []
        self._held: bytes | None = None

    def pass_on(self, header: bytes, body: bytes) -> None:
        """Write a frame, or what becomes of it."""
        frame = header + body
        if header[4] or not self._is_chosen(body):
            self._put(frame)
        else:
            self._lie(frame, json.loads(body))

    def end(self) -> None:
        """Write what is kept back."""
        if self._held is not None:
            self._write(self._held)

    def _is_chosen(self, body: bytes) -> bool:
        kind = json.loads(body).get("t")
        if kind == "alive":
            return False
        return kind == self._subject if self._subject else self._chance.random() < 0.12

    def _put(self, frame: bytes) -> None:
        self._write(frame)
        self._sent.append(frame)
        if self._held is not None:
            held, self._held = self._held, None
            self._write(held)

    def _lie(self, frame: bytes, message: Any) -> None:
        way = self._chance.choices(
            ("value", "value", "key", "twice", "never", "later", "again", "half", "other", "many"),
            (6, 6, 2, 1, 1, 1, 1, 1, 1, 1),
        )[0]
        if way == "value":
            self._put(packed(self._changed(message)))
        elif way == "key":
            self._put(packed(self._without(message)))
        elif way == "twice":
            self._put(frame + frame)
        elif way == "never":
            threading.Timer(LATER, os._exit, [1]).start()
        elif way == "later":
            self._held = frame if self._held is None else self._held
            threading.Timer(LATER, os._exit, [1]).start()
        elif way == "again":
            self._put(self._chance.choice(self._sent) if self._sent else frame)
            self._put(frame)
        elif way == "half":
            self._write(frame[: self._chance.randrange(len(frame))])
            os._exit(1)
        elif way == "other":
            self._put(packed({**message, "t": self._chance.choice(SUBJECTS)}))
        elif way == "many":
            lists = [name for name, value in message.items() if isinstance(value, list)]
            for name in lists:
                message[name] = message[name] * 50 + [self._chance.choice(ODD)]
            self._put(packed(message))

    def _changed(self, message: Any) -> Any:
        """Return the message with another value somewhere; the kind of a message stays."""
        at, name = self._somewhere(message)
        at[name] = self._chance.choice(ODD)
        return message

    def _without(self, message: Any) -> Any:
        at, name = self._somewhere(message)
        del at[name]
        return message

    def _somewhere(self, message: Any) -> tuple[Any, Any]:
        """Return a list or table within a message, and the name or number of a value in it."""
        path = self._chance.choice([path for path in ways(message) if path != ("t",)])
        at = message
        for name in path[:-1]:
            at = at[name]
        return at, path[-1]


def ways(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the ways to all parts of a value."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    found = [path] if path else []
    for name, part in items:
        found += ways(part, (*path, name))
    return found


def packed(message: Any) -> bytes:
    body = json.dumps(message).encode("ascii")
    return len(body).to_bytes(4, "big") + b"\0" + body


def main() -> None:
    host, directory, *command = sys.argv[1:]
    home = Path(directory, "homes", host)
    home.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "HOME": str(home)}
    lies = Path(directory, "lies")
    if not lies.exists():
        os.execve(command[0], command, environment)
    number = Path(directory, "homes", host + ".sessions")
    with number.open("a+") as file:
        file.write(".")
        session = file.tell()
    chance = random.Random(f"{lies.read_text()} {host} {session}")
    child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    timer = threading.Timer(LIFETIME, os._exit, [1])
    timer.daemon = True
    timer.start()
    threading.Thread(target=feed, args=(child.stdin.fileno(),), daemon=True).start()
    lock = threading.Lock()

    def write(data: bytes) -> None:
        with lock:
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]

    with contextlib.suppress(BrokenPipeError):
        relay(child.stdout, Liar(chance, write), write)
    time.sleep(0.05)
    os._exit(child.wait())


def feed(target: int) -> None:
    """Pass on what the controller sends; the payload ends when it does."""
    with contextlib.suppress(OSError):
        while data := os.read(0, 1 << 16):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    os.close(target)


def relay(source: Any, liar: Liar, write: Callable[[bytes], None]) -> None:
    """Pass on what the payload sends: lines until it runs, then frames."""
    while line := source.readline():
        write(line)
        if line == b"OK\n":
            break
    while len(header := source.read(5)) == 5:
        liar.pass_on(header, source.read(int.from_bytes(header[:4], "big")))
    liar.end()


if __name__ == "__main__":
    main()
