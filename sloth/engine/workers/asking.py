"""What workers ask of their run: each question is a class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.payload.kernel.findings import Restored

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


@frozen
class Question:
    """Base of all questions."""


@frozen
class Enter(Question):
    """May a host begin a task? Answered with None when it may, else with a Skip."""

    host: str
    number: int


@frozen
class Agreed(Question):
    """May what the site no longer names be removed?"""

    host: str
    orphans: tuple[Restored, ...]


@frozen
class Password(Question):
    """What does a become_password_command print?"""

    command: str


@frozen
class Delegate(Question):
    """May calls be made to a delegate?"""

    delegate: str


@frozen
class ReadEntry(Question):
    """A value of the backend of shared values."""

    key: str


@frozen
class WriteEntry(Question):
    """Write one; see Backend.write()."""

    key: str
    value: bytes
    expected: str | None


@frozen
class EntryNames(Question):
    """The names of values."""

    prefix: str


@frozen
class ForgetEntry(Question):
    """Delete a value."""

    key: str


@frozen
class Clock(Question):
    """The backend's time."""


# Questions for whose answer a worker's process waits, doing nothing else: they are rare, or asked once


@frozen
class ReadSecret(Question):
    """The value of a secret."""

    name: str
    directory: Path


@frozen
class Seal(Question):
    """The sealed text of a shared value, None when no secret is in it."""

    name: str
    value: Json


@frozen
class OpenSealed(Question):
    """The value of a sealed text: answered with [value, secrets in it]."""

    name: str
    text: str


@frozen
class HashOf(Question):
    """The SHA-256 of a file of the run's machine, None when there is none."""

    path: Path


@frozen
class StoreBegin(Question):
    """Begin to store a fetched file on the run's machine: answered with a number."""

    path: Path


@frozen
class StorePart(Question):
    """Bytes of a file that is stored."""

    number: int
    data: bytes


@frozen
class StoreEnd(Question):
    """All bytes of a file have come (keep), or it is given up."""

    number: int
    keep: bool


QUESTIONS: tuple[type, ...] = (
    Agreed, Clock, Delegate, Enter, EntryNames, ForgetEntry, HashOf, OpenSealed, Password, Question, ReadEntry,
    ReadSecret, Seal, StoreBegin, StoreEnd, StorePart, WriteEntry,
)  # fmt: skip
