"""The file of `state export`: versioned, streamed, with checksums, encrypted if asked.

A line of text each: the magic with the version; the header, JSON; frames. A frame is JSON, plain after its SHA-256 or
as a Fernet token, and says which one it is of which file (`number`, `file`), so that none can be left out, moved or
taken from elsewhere; the first one has the header's hash, the last one the counts and a hash over all of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sloth.errors import StateError
from sloth.payload.kernel.paging import pages
from sloth.payload.state.export import TABLES
from sloth.state.keys import Damaged, Keyring, Keys
from sloth.state.private import written

__all__ = ["TABLES", "Reader", "Writer", "pages", "rekey", "writing"]

MAGIC = "SLOTH-STATE"
VERSION = 1
LONGEST = 64 * 1024 * 1024  # bytes of a line; a longer one is no frame of ours
Rows = list[dict[str, Any]]


class Writer:
    """Writes frames of rows; use writing()."""

    def __init__(self, file: IO[bytes], header: dict[str, Any], ring: Keyring | None) -> None:
        self._file = file
        self._ring = ring
        self._id = header["file"]
        self._number = 0
        self._digest = hashlib.sha256()
        self._counts: dict[str, dict[str, int]] = {}
        text = json.dumps(header, sort_keys=True).encode("ascii")
        file.write(f"{MAGIC} {VERSION}\n".encode("ascii") + text + b"\n")
        self._frame({"header": hashlib.sha256(text).hexdigest()})

    def rows(self, agent: str, table: str, rows: Rows) -> None:
        """Write rows of a table of an agent's state."""
        for page in pages(rows):
            self._frame({"agent": agent, "table": table, "rows": page})
        tables = self._counts.setdefault(agent, {})
        tables[table] = tables.get(table, 0) + len(rows)

    def _frame(self, content: dict[str, Any]) -> None:
        data = json.dumps({"file": self._id, "number": self._number, **content}, ensure_ascii=True).encode("ascii")
        if len(data) > LONGEST // 2:
            raise StateError(f"a row of the state is too large for an export: {len(data)} bytes")
        self._number += 1
        self._digest.update(data)
        if self._ring is not None:
            self._file.write(self._ring.encrypt(data) + b"\n")
        else:
            self._file.write(hashlib.sha256(data).hexdigest().encode("ascii") + b" " + data + b"\n")

    def finish(self) -> None:
        """Write the last frame."""
        self._frame({"end": True, "counts": self._counts, "digest": self._digest.hexdigest()})


@contextlib.contextmanager
def writing(path: Path, agents: list[str], keys: Keys | None, about: dict[str, Any]) -> Iterator[Writer]:
    """A Writer for `path`, which appears when the block ends without an error. Raises StateError.

    keys: encrypt with them; about: what else the header says (by, origin), readable by everybody.
    """
    ring, said = keys.writing() if keys is not None else (None, {"keys": [], "kdf": None})
    header = {
        "agents": agents,
        "created": int(time.time()),
        "cipher": "fernet" if ring is not None else "none",
        "file": os.urandom(16).hex(),
        **said,
        **about,
    }
    with written(path) as file:
        writer = Writer(file, header, ring)
        yield writer
        writer.finish()


class Reader:
    """Reads what a Writer wrote, in order, checking everything; what it yields is to be trusted at the end only."""

    def __init__(self, path: Path, keys: Keys, plain: bool = False) -> None:
        """Reads the header. Raises StateError: no such file, none of ours, a newer one, a wrong key.

        plain: a file that is not encrypted will do, even when the user named a key.
        """
        self.path = path
        self._line = 0
        with self._open() as file:
            self.header = self._head(file)
        encrypted = self.header.get("cipher") == "fernet"
        if not encrypted and not plain and keys.named:
            raise StateError(f"{path} is not encrypted, and you named a key", hint="is it the file that you mean?")
        self._ring = keys.reading(self.header, str(path)) if encrypted else None

    def _open(self) -> IO[bytes]:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise StateError(f"{self.path} cannot be read: {error.strerror}") from error

    def _next(self, file: IO[bytes]) -> bytes:
        line = file.readline(LONGEST)
        self._line += 1
        if line and not line.endswith(b"\n"):
            raise Damaged(f"{self.path} is cut off in line {self._line}", hint="export it again")
        return line[:-1]

    def _head(self, file: IO[bytes]) -> dict[str, Any]:
        self._line = 0
        magic, _, version = file.readline(100).decode("ascii", "replace").strip().partition(" ")
        self._line = 1
        if magic != MAGIC or not version.isdigit() or int(version) < 1:
            raise StateError(f"{self.path} is no export of a state", hint="sloth-runner state export makes one")
        if int(version) > VERSION:
            raise StateError(
                f"{self.path} has format {version}, and this sloth-runner knows up to {VERSION}", hint="upgrade it"
            )
        self._text = self._next(file)
        try:
            header = json.loads(self._text)
        except ValueError:
            raise Damaged(f"{self.path}: the header (line 2) is damaged") from None
        wanted = {"agents": list, "file": str, "cipher": str, "keys": list}
        if not isinstance(header, dict) or any(not isinstance(header.get(name), kind) for name, kind in wanted.items()):
            raise Damaged(f"{self.path}: the header (line 2) is damaged")
        if header["cipher"] not in ("none", "fernet"):
            raise StateError(f"{self.path} is encrypted in a way that we do not know", hint="upgrade sloth-runner")
        return header

    def __iter__(self) -> Iterator[tuple[str, str, Rows]]:
        """Yield (agent, table, rows). Raises Damaged; a file that was cut off says so at the end."""
        for frame in self.frames():
            if "rows" in frame:
                yield str(frame["agent"]), str(frame["table"]), list(frame["rows"])

    def frames(self) -> Iterator[dict[str, Any]]:
        """Yield every frame. Raises Damaged."""
        digest, number = hashlib.sha256(), 0
        counts: dict[str, dict[str, int]] = {}
        with self._open() as file:
            self._head(file)
            while True:
                line = self._next(file)
                if not line:
                    raise Damaged(f"{self.path} is cut off after line {self._line - 1}", hint="export it again")
                data, frame = self._frame(line, number)
                if number == 0 and frame.get("header") != hashlib.sha256(self._text).hexdigest():
                    raise Damaged(f"{self.path}: the header (line 2) was altered")
                if frame.get("end"):
                    if frame.get("digest") != digest.hexdigest() or frame.get("counts") != counts:
                        raise Damaged(f"{self.path}: the end (line {self._line}) does not fit the rest")
                    break
                digest.update(data)
                if "rows" in frame:
                    tables = counts.setdefault(str(frame.get("agent")), {})
                    tables[str(frame.get("table"))] = tables.get(str(frame.get("table")), 0) + len(frame["rows"])
                yield frame
                number += 1
            if file.read(1):
                raise Damaged(f"{self.path}: there is something behind the end (line {self._line + 1})")

    def _frame(self, line: bytes, number: int) -> tuple[bytes, dict[str, Any]]:
        where = f"{self.path}: line {self._line}"
        if self._ring is not None:
            try:
                data = self._ring.decrypt(line)
            except Damaged:
                raise Damaged(f"{where} is damaged") from None
        else:
            told, _, data = line.partition(b" ")
            if told != hashlib.sha256(data).hexdigest().encode("ascii"):
                raise Damaged(f"{where} is damaged")
        try:
            frame = json.loads(data)
        except ValueError:
            raise Damaged(f"{where} is damaged") from None
        if not isinstance(frame, dict) or not isinstance(frame.get("rows", []), list):
            raise Damaged(f"{where} is damaged")
        if frame.get("file") != self.header["file"] or frame.get("number") != number:
            raise Damaged(f"{where} is not where it belongs")
        return data, frame

    def verify(self) -> dict[str, dict[str, int]]:
        """Read all of it; return the number of rows by agent and table. Raises Damaged."""
        counts: dict[str, dict[str, int]] = {agent: {} for agent in self.header["agents"]}
        for agent, table, rows in self:
            tables = counts.setdefault(agent, {})
            tables[table] = tables.get(table, 0) + len(rows)
        return counts


def rekey(path: Path, old: Keys, new: Keys) -> str:
    """Encrypt the file anew, under the first key of `new`; return that key's id.

    Raises StateError; then the file is as it was.
    """
    reader = Reader(path, old, plain=True)
    about = {name: value for name, value in reader.header.items() if name not in ("file", "keys", "kdf", "cipher")}
    with writing(path, reader.header["agents"], new, about) as writer:
        for agent, table, rows in reader:
            writer.rows(agent, table, rows)
    return str(Reader(path, new).header["keys"][0])
