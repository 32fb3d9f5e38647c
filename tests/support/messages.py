"""Hypothesis strategies of the wire: valid messages of every type, and any JSON."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from sloth.payload.kernel import findings as findings  # messages hold some, which are found by their names
from sloth.payload.kernel import value
from sloth.payload.kernel.status import Word
from sloth.payload.session import messages

MESSAGES = [*messages.FROM_CONTROLLER.values(), *messages.FROM_PAYLOAD.values()]
# Any text, also with bytes that are not UTF-8, which are lone surrogates in Python and JSON.
texts = st.text(st.characters(codec="utf-8"), max_size=20).map(
    lambda text: (text.encode() + b"\xff").decode("utf-8", "surrogateescape")
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | texts | st.sampled_from(["changed", "done", "locked", "drift"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
_objects = st.dictionaries(texts, json_values, max_size=3)
_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "str": texts,
    "bool": st.booleans(),
    "Json": json_values,
    "dict[str, str]": st.dictionaries(texts, texts, max_size=3),
    "JsonObject": _objects,
    "Attributes": _objects,
    "Arguments": _objects,
    "Diff": st.dictionaries(texts, st.dictionaries(st.sampled_from(("before", "after")), json_values), max_size=3),
}


def message_of(cls: type[value.Value]) -> st.SearchStrategy[Any]:
    """Return a strategy of valid values of a class."""
    return st.builds(cls, **{name: _of(kind) for name, (kind, _) in cls.fields.items()})


def _of(kind: str) -> st.SearchStrategy[Any]:
    if kind.endswith(" | None"):
        return st.none() | _of(kind.removesuffix(" | None"))
    if kind.startswith("list["):
        return st.lists(_of(kind[len("list[") : -1]), max_size=3)
    if kind in _PLAIN:
        return _PLAIN[kind]
    words: type[Word] | None = value._words.get(kind)
    if words is not None:
        return st.sampled_from(list(words))
    cls = value._classes[kind]
    assert issubclass(cls, value.Value)
    return message_of(cls)


def types_of(cls: type[messages.Message]) -> dict[str, type[messages.Message]]:
    """Return the messages of the direction in which `cls` travels."""
    return messages.FROM_CONTROLLER if cls.TYPE in messages.FROM_CONTROLLER else messages.FROM_PAYLOAD
