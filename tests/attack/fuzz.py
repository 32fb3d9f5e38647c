"""Fuzzing guided by coverage, by hand: python -m tests.attack.fuzz TARGET [OPTIONS OF ATHERIS].

It needs atheris (`pip install atheris`). Its options follow the target, such as `-max_total_time=600 /tmp/new
tests/attack/corpus`: inputs that reach new code are written to the first directory. The rules are those of
support/parsers.py. What breaks them belongs into corpus/.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sloth"]):
    from sloth.payload.session import messages, wire
    from tests.support.parsers import PARSERS, parse


def decode(types: dict[str, type[messages.Message]]) -> Callable[[bytes], None]:
    """Return a target that reads what one side sends, in one piece and byte by byte: both must give the same."""

    def outcome(pieces: list[bytes]) -> str:
        decoder, seen = wire.Decoder(types), []
        try:
            for piece in pieces:
                for frame in decoder.feed(piece):
                    seen.append("a blob" if isinstance(frame, wire.Blob) else repr(frame.plain()))
        except wire.WireError as error:
            seen.append(error.message)
        return "\n".join(seen)

    def target(data: bytes) -> None:
        assert outcome([data]) == outcome([data[at : at + 1] for at in range(len(data))])

    return target


def of_file(name: str) -> Callable[[bytes], None]:
    """Return a target that reads a file as support/parsers.py does."""
    directory = tempfile.mkdtemp()
    path = Path(directory) / "input"

    def target(data: bytes) -> None:
        path.write_bytes(data)
        parse(PARSERS[name], path)

    return target


def main() -> None:
    """Run the target that is named first."""
    names = [*PARSERS, "from-host", "from-controller"]
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in names:
        sys.exit(f"usage: python -m tests.attack.fuzz {{{','.join(names)}}} [OPTIONS OF ATHERIS]")
    if name in PARSERS:
        target = of_file(name)
    else:
        target = decode(messages.FROM_PAYLOAD if name == "from-host" else messages.FROM_CONTROLLER)
    os.chdir(tempfile.mkdtemp())  # where atheris leaves what it finds
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
