"""The file of `state export`: versioned, streamed, with checksums, and encrypted on request.

The file is lines of text: the magic word with the version; the header, in JSON; then frames. A frame is JSON, either
after its SHA-256 or as a Fernet token. It contains its number and the id of the file, so that no frame can be left out,
moved, or taken from another file. The first frame has the hash of the header; the last has the counts of rows, and a
hash over all frames before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sloth.errors import StateError
from sloth.frozen import frozen
from sloth.payload.kernel.paging import pages
from sloth.payload.state.export import TABLES
from sloth.reading import open_regular
from sloth.state.keys import Damaged, KeyHeader, Keyring, Keys
from sloth.state.private import replacing

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject, Rows

__all__ = ["REPLICAS", "TABLES", "Counts", "Header", "Reader", "Writer", "pages", "rekey", "writing"]

LINE_LIMIT = 64 * 1024 * 1024  # bytes; no frame that we write is longer
Counts = dict[str, dict[str, int]]  # agent -> table -> number of rows
_PLAIN, _FERNET = "none", "fernet"
REPLICAS = "replicas"  # what an export was made of: they have no history, runs and handlers


@frozen
class Format:
    """A kind of file that is made like this.

    Attributes:
        magic: the word that it begins with.
        version: the newest that is supported.
        what, create: what it is and how it is made, for errors.
    """

    magic: str
    version: int
    what: str
    create: str


STATE = Format("SLOTH-STATE", 1, "an export of a state", "sloth-runner state export creates one")


@frozen
class Header:
    """The header of an export, which anybody can read.

    Attributes:
        agents: whose states are in it.
        created: in epoch seconds.
        file: a random id of the file.
        is_encrypted: with the keys of `keys`.
        about: who made it and where ("by" and "origin"), and what of ("from"), if that is REPLICAS.
    """

    agents: tuple[str, ...]
    created: int
    file: str
    is_encrypted: bool = False
    keys: KeyHeader = field(default_factory=KeyHeader)
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def cipher(self) -> str:
        """How it is encrypted: "fernet" or "none"."""
        return _FERNET if self.is_encrypted else _PLAIN

    @property
    def is_of_replicas(self) -> bool:
        """Whether it has the records of states only, as of the last runs."""
        return self.about.get("from") == REPLICAS

    def plain(self) -> JsonObject:
        """Return it as JSON."""
        return {
            **self.about,
            "agents": list(self.agents),
            "created": self.created,
            "cipher": self.cipher,
            "file": self.file,
            **self.keys.plain(),
        }

    @classmethod
    def read(cls, text: bytes, path: Path) -> Header:
        """Return the header of the file at `path`, whose line is `text`. Raises StateError."""
        damaged = Damaged(f"{path}: the header (line 2) is damaged")
        try:
            data = json.loads(text)
        except ValueError:
            raise damaged from None
        keys = KeyHeader.read(data)
        types = {"agents": list, "file": str, "cipher": str, "created": int}
        if keys is None or any(not isinstance(data.get(name), kind) for name, kind in types.items()):
            raise damaged
        if data["cipher"] not in (_PLAIN, _FERNET):
            raise StateError(f"{path} has an unknown encryption", hint="upgrade sloth-runner")
        about = {name: str(data[name]) for name in ("by", "origin", "from") if name in data}
        agents = tuple(map(str, data["agents"]))
        return cls(agents, data["created"], data["file"], data["cipher"] == _FERNET, keys, about)


class Writer:
    """Writes frames of rows; see writing(). size: the bytes of the frames so far, before encryption."""

    def __init__(self, file: IO[bytes], header: Header, ring: Keyring | None, format: Format = STATE) -> None:
        self._file = file
        self._ring = ring
        self._id = header.file
        self._number = 0
        self.size = 0
        self._digest = hashlib.sha256()
        self._counts: Counts = {}
        text = json.dumps(header.plain(), sort_keys=True).encode("ascii")
        file.write(f"{format.magic} {format.version}\n".encode("ascii") + text + b"\n")
        self.frame({"header": hashlib.sha256(text).hexdigest()})

    def rows(self, agent: str, table: str, rows: Rows) -> None:
        """Write rows of a table of an agent's state."""
        for page in pages(rows):
            self.frame({"agent": agent, "table": table, "rows": page})
        _count(self._counts, agent, table, len(rows))

    def finish(self) -> None:
        """Write the last frame."""
        self.frame({"end": True, "counts": self._counts, "digest": self._digest.hexdigest()})

    def frame(self, content: JsonObject) -> None:
        """Write one frame; rows() writes those of a state."""
        data = json.dumps({"file": self._id, "number": self._number, **content}, ensure_ascii=True).encode("ascii")
        if len(data) > LINE_LIMIT // 2:  # encryption makes it longer
            raise StateError(f"a part of it is too large for such a file: {len(data)} bytes")
        self._number += 1
        self.size += len(data)
        self._digest.update(data)
        if self._ring is not None:
            self._file.write(self._ring.encrypt(data) + b"\n")
        else:
            self._file.write(hashlib.sha256(data).hexdigest().encode("ascii") + b" " + data + b"\n")


@contextlib.contextmanager
def writing(
    path: Path,
    agents: list[str],
    keys: Keys | None,
    about: Mapping[str, str],
    created: int | None = None,
    format: Format = STATE,
) -> Iterator[Writer]:
    """Open a Writer for `path`, which appears when the block ends without an exception. Raises StateError.

    keys: encrypt with the first of them; about: see Header; created: now, unless given.
    """
    ring, key_header = keys.for_writing() if keys is not None else (None, KeyHeader())
    header = Header(
        agents=tuple(agents),
        created=int(time.time()) if created is None else created,
        file=os.urandom(16).hex(),
        is_encrypted=ring is not None,
        keys=key_header,
        about=about,
    )
    with replacing(path) as file:
        writer = Writer(file, header, ring, format)
        yield writer
        writer.finish()


class Reader:
    """Reads what a Writer wrote, in order, and checks all of it. Trust no row before the last one was read.

    Attributes:
        path: the file.
        header: its header.
    """

    def __init__(self, path: Path, keys: Keys, allow_plain: bool = False, format: Format = STATE) -> None:
        """Read the header. Raises StateError: not found, not such a file, a newer format, or a wrong key.

        allow_plain: accept a file that is not encrypted even when an option names a key.
        """
        self.path = path
        self._format = format
        self._line = 0
        with self._open() as file:
            self._text = self._read_head(file)
        self.header = Header.read(self._text, path)
        encrypted = self.header.is_encrypted
        if not encrypted and not allow_plain and keys.is_explicit:
            raise StateError(
                f"{path} is not encrypted, although a key was given", hint="check that it is the right file"
            )
        self._ring = keys.for_reading(self.header.keys, str(path)) if encrypted else None

    def __iter__(self) -> Iterator[tuple[str, str, Rows]]:
        """Yield (agent, table, rows). Raises Damaged: at the latest at the end, if the file was cut off."""
        for frame in self.frames():
            if "rows" in frame:
                yield str(frame["agent"]), str(frame["table"]), list(frame["rows"])

    def frames(self) -> Iterator[JsonObject]:
        """Yield every frame but the last. Raises Damaged."""
        digest, number = hashlib.sha256(), 0
        counts: Counts = {}
        with self._open() as file:
            self._read_head(file)
            while True:
                line = self._next(file)
                if not line:
                    raise Damaged(f"{self.path} is cut off after line {self._line - 1}", hint="make it again")
                data, frame = self._read_frame(line, number)
                if number == 0 and frame.get("header") != hashlib.sha256(self._text).hexdigest():
                    raise Damaged(f"{self.path}: the header (line 2) was altered")
                if frame.get("end"):
                    if frame.get("digest") != digest.hexdigest() or frame.get("counts") != counts:
                        raise Damaged(f"{self.path}: the end (line {self._line}) does not match the rest")
                    break
                digest.update(data)
                if "rows" in frame:
                    _count(counts, str(frame.get("agent")), str(frame.get("table")), len(frame["rows"]))
                yield frame
                number += 1
            if file.read(1):
                raise Damaged(f"{self.path}: unexpected data after the end (line {self._line + 1})")

    def verify(self) -> Counts:
        """Read all of it, and return how many rows there are. Raises Damaged."""
        counts: Counts = {agent: {} for agent in self.header.agents}
        for agent, table, rows in self:
            _count(counts, agent, table, len(rows))
        return counts

    def _open(self) -> IO[bytes]:
        try:
            return io.BufferedReader(open_regular(self.path))  # a FIFO would be waited for
        except OSError as error:
            raise StateError(f"cannot read {self.path}: {error.strerror}") from error

    def _next(self, file: IO[bytes]) -> bytes:
        line = file.readline(LINE_LIMIT)
        self._line += 1
        if line and not line.endswith(b"\n"):
            raise Damaged(f"{self.path} is cut off in line {self._line}", hint="make it again")
        return line[:-1]

    def _read_head(self, file: IO[bytes]) -> bytes:
        """Check the magic word and version, and return the line of the header."""
        magic, _, version = file.readline(100).decode("ascii", "replace").strip().partition(" ")
        self._line = 1
        known = self._format
        if magic != known.magic or not version.isdigit() or int(version) < 1:
            raise StateError(f"{self.path} is not {known.what}", hint=known.create)
        if int(version) > known.version:
            raise StateError(
                f"{self.path} has format {version}, but this sloth-runner supports formats up to {known.version}",
                hint="upgrade sloth-runner",
            )
        return self._next(file)

    def _read_frame(self, line: bytes, number: int) -> tuple[bytes, JsonObject]:
        where = f"{self.path}: line {self._line}"
        damaged = Damaged(f"{where} is damaged")
        if self._ring is not None:
            try:
                data = self._ring.decrypt(line)
            except Damaged:
                raise damaged from None
        else:
            checksum, _, data = line.partition(b" ")
            if checksum != hashlib.sha256(data).hexdigest().encode("ascii"):
                raise damaged
        try:
            frame = json.loads(data)
        except ValueError:
            raise damaged from None
        if not isinstance(frame, dict) or not isinstance(frame.get("rows", []), list):
            raise damaged
        if frame.get("file") != self.header.file or frame.get("number") != number:
            raise Damaged(f"{where} does not belong there")
        return data, frame


def rekey(path: Path, old: Keys, new: Keys) -> str:
    """Encrypt a file again, with the first key of `new`; return that key's id. After a StateError nothing changed."""
    reader = Reader(path, old, allow_plain=True)
    header = reader.header
    with writing(path, list(header.agents), new, header.about, header.created) as writer:
        for agent, table, rows in reader:
            writer.rows(agent, table, rows)
    return Reader(path, new).header.keys.keys[0]


def _count(counts: Counts, agent: str, table: str, rows: int) -> None:
    tables = counts.setdefault(agent, {})
    tables[table] = tables.get(table, 0) + rows
