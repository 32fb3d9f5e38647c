"""Values as JSON, and their types as JSON Schema: the API is made from the same values as the pages."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, get_args, get_origin, get_type_hints

from sloth.payload.kernel.status import Word
from sloth.payload.kernel.value import Value

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

_SIMPLE: dict[object, JsonObject] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    object: {},
    dict: {"type": "object"},
    list: {"type": "array"},
    Value: {"type": "object"},
}


def plain(value: object) -> Json:
    """Return a value as plain data."""
    if isinstance(value, (Enum, Word)):
        return str(value.value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # JSON has no other numbers
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Value):
        return plain(value.plain())
    if dataclasses.is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(str(name))): plain(one) for name, one in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [plain(one) for one in value]
    return str(value)


def text(value: str) -> str:
    """Return a text without what is no character: bytes of a host that are not UTF-8, halves of characters."""
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode("utf-8")


class Schemas:
    """Makes JSON Schema of types; those of dataclasses are named, in `found`."""

    def __init__(self) -> None:
        self.found: JsonObject = {}

    def of(self, kind: object) -> JsonObject:
        """Return the schema of a type, or a reference to it."""
        if kind in _SIMPLE:
            return dict(_SIMPLE[kind])
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [self.of(one) for one in arguments]}
        if origin in (tuple, list, Sequence, frozenset):
            return {"type": "array", "items": self.of(arguments[0])}
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        if isinstance(kind, type) and issubclass(kind, (Enum, Word)):
            return {"type": "string", "enum": [str(one.value) for one in kind]}
        target = origin or kind
        if isinstance(target, type) and dataclasses.is_dataclass(target):
            return self._dataclass(target, arguments)
        return {}

    def _dataclass(self, kind: type, arguments: tuple[object, ...]) -> JsonObject:
        names = "".join(getattr(one, "__name__", "") for one in arguments)
        name = f"{kind.__name__}{'Of' + names if names else ''}"
        if name not in self.found:
            self.found[name] = {}  # a type may hold itself
            parameters = getattr(kind, "__parameters__", ())
            bound = dict(zip(parameters, arguments, strict=False))
            hints = get_type_hints(kind)
            properties = {one.name: self.of(_bind(hints[one.name], bound)) for one in dataclasses.fields(kind)}
            schema = {"type": "object", "properties": properties, "required": list(properties)}
            self.found[name] = {**schema, "additionalProperties": False}
        return {"$ref": f"#/components/schemas/{name}"}


def _bind(hint: object, bound: Mapping[object, object]) -> object:
    """Return a type with what its variables stand for."""
    if hint in bound:
        return bound[hint]
    arguments = get_args(hint)
    if any(one in bound for one in arguments):
        origin = get_origin(hint)
        return origin[tuple(bound.get(one, one) for one in arguments)]  # type: ignore[index]  # it has arguments
    return hint
