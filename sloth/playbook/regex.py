"""Python's regular expressions for sites: matched here while that is quick, else in the process for templates."""

from __future__ import annotations

import re
import signal
import threading
import warnings
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from sloth.errors import CallError
from sloth.frozen import frozen

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

QUICK = 0.05  # seconds of the processor that a match may take here
LONGEST = 16_384  # characters of a text that is matched here: the matcher looks for signals after some 4,000 passes
MOST = 16_000_000  # characters and values of one result
FLAGS = re.ASCII | re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE
HINT = "in Lua, [[...]] keeps the backslashes of a regular expression"
_KEPT = 500  # compiled expressions


@frozen
class Expression:
    """What a function of `re` was given. most: replacements or splits, 0 for all."""

    op: str
    pattern: str
    text: str
    replacement: str = ""
    most: int = 0
    flags: int = 0


Operation = Callable[[re.Pattern[str], Expression], "Json"]


class Slow(Exception):
    """It takes too long, or cannot be interrupted here."""


class _OutOfTime(BaseException):
    """The time is over. No Exception: nothing must catch it on its way."""


_is_timed = False
_compiled: dict[tuple[str, int], re.Pattern[str]] = {}


def evaluate_quickly(expression: Expression) -> Json:
    """Return what evaluate() returns. Raises Slow when that would hold up the event loop."""
    global _is_timed
    if len(expression.text) > LONGEST or threading.current_thread() is not threading.main_thread():
        raise Slow
    if signal.getsignal(signal.SIGPROF) is not _stop:
        signal.signal(signal.SIGPROF, _stop)
    try:
        _is_timed = True
        signal.setitimer(signal.ITIMER_PROF, QUICK, QUICK)  # again, should something catch it
        try:
            return evaluate(expression)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            _is_timed = False
    except _OutOfTime:
        signal.setitimer(signal.ITIMER_PROF, 0)
        _is_timed = False
        raise Slow from None


def _stop(number: int, frame: FrameType | None) -> None:
    if _is_timed:  # else it came when all was done
        raise _OutOfTime


def evaluate(expression: Expression) -> Json:
    """Return what a function of `re` returns, as plain data. Raises CallError when the expression is not valid.

    Groups without a match are False: a list that Lua gets cannot hold None.
    """
    if expression.op == "escape":
        return re.escape(expression.text)
    try:
        pattern = _compile(expression.pattern, expression.flags)
        return _OPERATIONS[expression.op](pattern, expression)
    except re.error as error:
        raise CallError(f"the regular expression is not valid: {error}", hint=HINT) from None
    except IndexError as error:  # of a group, in a replacement
        raise CallError(f"re.{expression.op}: {error}", hint=HINT) from None
    except (RecursionError, OverflowError, MemoryError) as error:
        raise CallError(f"the regular expression is too large: {error or type(error).__name__}") from None


def _compile(text: str, flags: int) -> re.Pattern[str]:
    if flags & ~FLAGS:
        raise CallError("the flags of a regular expression are re.A, re.I, re.M, re.S and re.X, joined by |")
    if (text, flags) not in _compiled:
        if len(_compiled) >= _KEPT:
            _compiled.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets whose meaning may change one day
            _compiled[text, flags] = re.compile(text, flags)
    return _compiled[text, flags]


class _Size:
    """Keeps a result from growing without bounds."""

    def __init__(self) -> None:
        self._size = 0

    def add(self, text: str | None) -> str:
        self._size += 1 + len(text or "")
        if self._size > MOST:
            raise CallError(f"the result of this regular expression is larger than {MOST} characters")
        return text or ""


class _Positions:
    """Converts positions in a text to those in its bytes, as Lua counts them. They are asked for in ascending order."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_ascii = text.isascii()
        self._at = self._bytes = 0

    def bytes_before(self, position: int) -> int:
        if self._is_ascii:
            return position
        if position < self._at:  # the next match may begin where the last one did, never before
            return self._bytes - len(self._text[position : self._at].encode("utf-8", "surrogateescape"))
        self._bytes += len(self._text[self._at : position].encode("utf-8", "surrogateescape"))
        self._at = position
        return self._bytes


def _described(match: re.Match[str], positions: _Positions, size: _Size) -> JsonObject:
    first = positions.bytes_before(match.start())
    groups = [match.group(), *match.groups()]
    return {
        "first": first + 1,
        "last": positions.bytes_before(match.end()),
        "groups": [False if text is None else size.add(text) for text in groups],
        "named": {name: size.add(text) for name, text in match.groupdict().items() if text is not None},
    }


def _match_one(find: Callable[[re.Pattern[str], str], re.Match[str] | None]) -> Operation:
    def operation(pattern: re.Pattern[str], given: Expression) -> Json:
        found = find(pattern, given.text)
        return None if found is None else _described(found, _Positions(given.text), _Size())

    return operation


def _finditer(pattern: re.Pattern[str], given: Expression) -> Json:
    positions, size = _Positions(given.text), _Size()
    found: list[Json] = []
    for match in pattern.finditer(given.text):
        found.append(_described(match, positions, size))
        if len(found) == given.most:
            break
    return found


def _findall(pattern: re.Pattern[str], given: Expression) -> Json:
    size = _Size()
    found: list[Json] = []
    for match in pattern.finditer(given.text):
        groups = [size.add(text) for text in match.groups()]
        found.append(size.add(match.group()) if not groups else groups[0] if len(groups) == 1 else [*groups])
    return found


def _split(pattern: re.Pattern[str], given: Expression) -> Json:
    size = _Size()
    parts: list[Json] = []
    end = 0
    for count, match in enumerate(pattern.finditer(given.text), 1):
        parts += [size.add(given.text[end : match.start()]), *map(size.add, match.groups())]
        end = match.end()
        if count == given.most:
            break
    return [*parts, size.add(given.text[end:])]


def _sub(pattern: re.Pattern[str], given: Expression) -> Json:
    size = _Size()
    end = 0
    parts = []
    is_fixed = "\\" not in given.replacement
    if not is_fixed:
        pattern.sub(given.replacement, "")  # an invalid one is an error although nothing matches
    for count, match in enumerate(pattern.finditer(given.text), 1):
        new = given.replacement if is_fixed else match.expand(given.replacement)
        parts += [size.add(given.text[end : match.start()]), size.add(new)]
        end = match.end()
        if count == given.most:
            break
    return "".join([*parts, size.add(given.text[end:])])


_OPERATIONS: dict[str, Operation] = {
    "match": _match_one(re.Pattern.match),
    "search": _match_one(re.Pattern.search),
    "fullmatch": _match_one(re.Pattern.fullmatch),
    "finditer": _finditer,
    "findall": _findall,
    "split": _split,
    "sub": _sub,
}
