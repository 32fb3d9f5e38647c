"""What a Jinja expression is, as plain data, instead of the text that it would write."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from sloth.errors import CallError

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

DEEPEST = 60  # levels
MOST = 1_000_000  # values
MOST_TEXT = 16_000_000  # characters


def join(pieces: Iterable[Any]) -> Any:
    """Return what a template has yielded: of one piece alone its value, else the text of all.

    A text is never read as a number or a list, as Jinja2's own native templates do: a version "1.10" stays what it is.
    """
    rest = iter(pieces)
    first = list(islice(rest, 2))
    if len(first) == 1:
        return first[0]
    return "".join(_text(piece) for piece in (*first, *rest))


def keep_newlines(rendered: str, least: int, newline: str = "\n") -> str:
    """Return what was rendered with at least as many newlines at its end as its source has, as in Ansible.

    Jinja2 removes the last one, trim_blocks one after a block. least: newlines; newline: of the rendered text.
    """
    return rendered + newline * max(0, least - count_final(rendered, newline))


def count_final(text: str, newline: str) -> int:
    """Return the number of newlines at the end of `text`."""
    end = len(text)
    while text.endswith(newline, 0, end):
        end -= len(newline)
    return (len(text) - end) // len(newline)


def _text(piece: Any) -> str:
    return "" if piece is None else str(piece)


def _is_undefined(value: Any) -> bool:
    from jinja2 import Undefined  # which the controller need not import

    return isinstance(value, Undefined)


class Plain:
    """Turns values into plain data. Raises CallError for one that is too large or too deep."""

    def __init__(self) -> None:
        self._values = self._text = 0

    def of(self, value: Any, depth: int = 0) -> Json:
        """Return `value` as plain data."""
        self._values += 1
        if self._values > MOST:
            raise CallError(f"the value has more than {MOST} parts")
        if depth > DEEPEST:
            raise CallError("the value is nested too deeply, or contains itself")
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int):
            return int(value)
        if isinstance(value, Mapping):
            return {self._name(key): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, (set, frozenset)):
            return [self.of(item, depth + 1) for item in sorted(value, key=str)]
        if isinstance(value, (range, Iterator)) or type(value).__name__ in ("dict_keys", "dict_values", "dict_items"):
            return [self.of(item, depth + 1) for item in value]  # what map, select and .items() return
        if isinstance(value, bytes):
            return self._counted(value.decode("utf-8", "surrogateescape"))
        if isinstance(value, (datetime.date, datetime.time)):
            return value.isoformat()
        if callable(value) and not _is_undefined(value):
            raise CallError(f"the value is a {type(value).__name__}, which is no data: is it to be called?")
        return self._counted(str(value))  # of an undefined variable this raises its error

    def _name(self, key: Any) -> str:
        if isinstance(key, bool):
            return "true" if key else "false"
        return self._counted("null" if key is None else str(key))

    def _counted(self, text: str) -> str:
        self._text += len(text)
        if self._text > MOST_TEXT:
            raise CallError(f"the value has more than {MOST_TEXT} characters")
        return str(text)
