"""Answers that need no agreement of hosts: secrets, shared values, and files of the run's machine."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from sloth.engine.fetch import Destination, FileSink
from sloth.engine.workers.asking import (
    Clock,
    EntryNames,
    ForgetEntry,
    HashOf,
    OpenSealed,
    ReadEntry,
    ReadSecret,
    Seal,
    StoreBegin,
    StoreEnd,
    StorePart,
    WriteEntry,
)
from sloth.errors import HostError, StateError

if TYPE_CHECKING:
    from sloth.engine.context import RunContext
    from sloth.engine.workers.asking import Question
    from sloth.engine.workers.link import Link


class Answers:
    """Answers what workers ask of the run's keys, backend and files."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._sinks: dict[int, tuple[Link, FileSink]] = {}
        self._numbers = itertools.count(1)

    def forget(self, link: Link) -> None:
        """Give up the files that a worker was about to store."""
        for number in [number for number, (owner, _) in self._sinks.items() if owner is link]:
            self._sinks.pop(number)[1].abort()

    async def answer(self, link: Link, question: Question) -> object:
        """Return the answer to a question. Raises SlothError."""
        context = self._context
        backend, sealer = context.shared.backend, context.shared.sealer
        match question:
            case ReadEntry():
                return await backend.read(question.key)
            case WriteEntry():
                return await backend.write(question.key, question.value, question.expected)
            case EntryNames():
                return await backend.names(question.prefix)
            case ForgetEntry():
                await backend.forget(question.key)
                return None
            case Clock():
                return await backend.clock()
            case ReadSecret():
                return context.secrets.get(question.name, question.directory)
            case Seal() if sealer is not None:
                return sealer.seal(question.name, question.value)
            case OpenSealed() if sealer is not None:
                value = sealer.open(question.name, question.text)
                return [value, sorted(context.secrets.held_by(value))]
            case HashOf():
                return Destination(question.path).look()["sha256"]
            case StoreBegin() | StorePart() | StoreEnd():
                return self._store(link, question)
        raise HostError(f"an unknown question of a worker: {type(question).__name__}")

    def _store(self, link: Link, question: StoreBegin | StorePart | StoreEnd) -> int | None:
        """Store a fetched file. Raises StateError when that is not possible."""
        try:
            if isinstance(question, StoreBegin):
                number = next(self._numbers)
                self._sinks[number] = link, FileSink(question.path)
                return number
            sink = self._sinks[question.number][1]
            if isinstance(question, StorePart):
                sink.write(question.data)
                return None
            del self._sinks[question.number]
            if question.keep:
                sink.finish()
            else:
                sink.abort()
        except OSError as error:
            raise StateError(error.strerror or str(error)) from error
        return None
