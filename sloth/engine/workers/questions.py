"""What a worker asks the run's process."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from sloth import errors
from sloth.engine.workers.messages import Answer, Ask, Refusal, Withdraw
from sloth.errors import HostError, SlothError
from sloth.state.backends import backend
from sloth.state.keys import Damaged

if TYPE_CHECKING:
    from sloth.engine.workers.asking import Question
    from sloth.engine.workers.channel import Channel, Line

# The errors that may stand in place of an answer; whoever asks tells them apart.
_ERRORS = {
    kind.__name__: kind
    for kind in (
        errors.BecomeError, errors.CallError, errors.HostError, errors.StateError, errors.UsageError,
        backend.BackendError, backend.BackendUnavailable, backend.Unsure,
    )
}  # fmt: skip
_ERRORS |= {"Damaged": Damaged, "DamagedEntry": backend.Damaged}


def refusal(number: int, error: SlothError) -> Refusal:
    """Return an error as a message: as the nearest class that a worker tells from others."""
    if isinstance(error, backend.Damaged):
        return Refusal(number, "DamagedEntry", error.message, error.hint)
    kind = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS), "HostError")
    return Refusal(number, kind, error.message, error.hint)


class Questions:
    """Asks the run's process, and gets its answers."""

    def __init__(self, channel: Channel, line: Line) -> None:
        self.channel = channel
        self._line = line
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[object]] = {}

    async def ask(self, question: Question) -> object:
        """Return the answer. Raises SlothError."""
        number = next(self._numbers)
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        self.channel.send(Ask(number, question), is_urgent=True)
        try:
            return await answer
        except asyncio.CancelledError:
            self.channel.send(Withdraw(number))
            raise
        finally:
            self._open.pop(number, None)

    def ask_now(self, question: Question) -> object:
        """Return the answer, and let nothing else happen in this process until it is there. Raises SlothError."""
        try:
            answer = self._line.exchange(Ask(next(self._numbers), question))
        except (EOFError, OSError) as error:
            raise HostError("the process of the run is gone") from error
        if isinstance(answer, Refusal):
            raise _error(answer)
        assert isinstance(answer, Answer)
        return answer.value

    def answered(self, answer: Answer) -> None:
        """Take an answer."""
        waiting = self._open.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.value)

    def refused(self, answer: Refusal) -> None:
        """Take an error in place of an answer."""
        waiting = self._open.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_exception(_error(answer))


def _error(answer: Refusal) -> SlothError:
    return _ERRORS.get(answer.kind, HostError)(answer.text, hint=answer.hint)
