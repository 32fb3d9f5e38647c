"""Typed values whose fields are declared once: as a class with __slots__, as JSON, and as the check when it is read.

    class Need(Value):
        id: "int"
        index: "int" = 0

This is dataclasses for Python 3.6, without their import time, and with reading from untrusted JSON.
"""

from sloth.payload.kernel.errors import PayloadError
from sloth.payload.kernel.status import Word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, TypeVar, dataclass_transform

    from sloth.payload.kernel.values import Json, JsonObject

    V = TypeVar("V", bound="Value")
else:

    def dataclass_transform(**options):
        return lambda cls: cls


_REQUIRED = object()


class InvalidValue(PayloadError):
    """What was read is not what the class declares; the message names the field."""


@dataclass_transform(kw_only_default=True)
class ValueType(type):
    """Turns the annotations of a class body into slots, and remembers their defaults."""

    fields: "dict[str, tuple[str, object]]"
    layout: "list[tuple[str, str, type | None, object]]"  # see _layout()

    def __new__(
        cls, name: "str", bases: "tuple[type, ...]", namespace: "dict[str, object]", **options: "object"
    ) -> "ValueType":
        annotations = _annotations(namespace)
        fields = dict(getattr(bases[0], "fields", {})) if bases else {}
        for field, kind in annotations.items():
            fields[field] = (kind, namespace.pop(field, _REQUIRED))
        namespace["__slots__"] = tuple(annotations)
        made = type.__new__(cls, name, bases, namespace)
        made.fields = fields
        made.layout = []
        _classes[name] = made
        return made


_classes: "dict[str, ValueType]" = {}


def _annotations(namespace: "dict[str, object]") -> "dict[str, str]":
    """Return the names and types that a class body declares; ClassVars are none of its fields."""
    found = namespace.get("__annotations__")
    if found is None:  # Python 3.14 makes them when they are asked for
        make = namespace.get("__annotate__") or namespace.get("__annotate_func__")
        found = make(1) if callable(make) else {}
    assert isinstance(found, dict)
    return dict((name, kind) for name, kind in found.items() if not kind.startswith("ClassVar"))


class Value(metaclass=ValueType):
    """Base of typed values. Two are equal when they are of one class and their fields are."""

    def __init__(self, **given: "object") -> "None":
        for name, (_, default) in type(self).fields.items():
            value = given.pop(name, _REQUIRED)
            if value is _REQUIRED:
                if default is _REQUIRED:
                    raise TypeError("%s needs %s" % (type(self).__name__, name))
                value = default.copy() if isinstance(default, (list, dict)) else default
            setattr(self, name, value)
        if given:
            raise TypeError("%s has no field %s" % (type(self).__name__, ", ".join(sorted(given))))

    def __eq__(self, other: "object") -> "bool":
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self).fields)

    __hash__ = None  # type: ignore[assignment]  # they hold lists and dicts

    def __repr__(self) -> "str":
        parts = ("%s=%r" % (name, getattr(self, name)) for name in type(self).fields)
        return "%s(%s)" % (type(self).__name__, ", ".join(parts))

    def replace(self: "V", **changes: "object") -> "V":
        """Return a copy with some fields changed."""
        values = dict((name, getattr(self, name)) for name in type(self).fields)
        values.update(changes)
        return type(self)(**values)

    def plain(self) -> "JsonObject":
        """Return a dict that read() takes; fields that have their defaults are left out."""
        data = {}
        for name, (_, default) in type(self).fields.items():
            value = getattr(self, name)
            if value is not default and value != default:  # a required field has a default that equals nothing
                data[name] = _plain(value)
        return data

    def shown(self) -> "JsonObject":
        """Return a dict of all fields, as commands print it."""
        return dict((name, _plain(getattr(self, name))) for name in type(self).fields)

    @classmethod
    def read(cls: "type[V]", data: "Json") -> "V":
        """Return the value that a dict describes. Unknown fields are ignored.

        Raises InvalidValue, naming the field, when one is missing or not of its type.
        """
        if not isinstance(data, dict):
            raise InvalidValue("%s must be an object, not %s" % (cls.__name__, type(data).__name__))
        found = cls.__new__(cls)
        for name, kind, exact, default in cls.layout or _layout(cls):
            if name in data:
                value = data[name]
                if type(value) is not exact:
                    value = _read(value, kind, cls.__name__, name)
            elif default is _REQUIRED:
                raise InvalidValue("%s.%s is missing" % (cls.__name__, name))
            else:
                value = default.copy() if isinstance(default, (list, dict)) else default
            setattr(found, name, value)
        return found


def _layout(cls: "ValueType") -> "list[tuple[str, str, type | None, object]]":
    """Return name, kind, Python type and default of each field; a value of exactly that type needs no further check.

    It is kept in the class, because one is read for every call and its reply.
    """
    for name, (kind, default) in cls.fields.items():
        optional = kind[: -len(" | None")] if kind.endswith(" | None") else kind
        cls.layout.append((name, kind, _EXACT.get(optional), default))
    return cls.layout


def _plain(value: "object") -> "Json":
    if isinstance(value, Value):
        return value.plain()
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Value):
        return [item.plain() for item in value]
    return value


def _read(value: "Json", kind: "str", owner: "str", name: "str") -> "Json":
    """Return `value` as what the annotation `kind` says: "int", "str | None", "list[Asset]", "Status", ..."""
    if kind.endswith(" | None"):
        if value is None:
            return None
        kind = kind[: -len(" | None")]
    if kind in _CHECKS:
        if not _CHECKS[kind](value):
            raise InvalidValue("%s.%s must be %s, not %s" % (owner, name, kind, _type_of(value)))
        return float(value) if kind == "float" else value
    if kind.startswith("list["):
        if not isinstance(value, (list, tuple)):
            raise InvalidValue("%s.%s must be a list, not %s" % (owner, name, _type_of(value)))
        return [_read(item, kind[len("list[") : -1], owner, name) for item in value]
    made = _classes.get(kind)
    if made is not None and issubclass(made, Value):
        try:
            return made.read(value)
        except InvalidValue as error:
            raise InvalidValue("%s.%s: %s" % (owner, name, error.message))
    words = _words[kind]
    try:
        return words(value)
    except (ValueError, TypeError):
        shown = repr(value)[:60] if isinstance(value, str) else _type_of(value)
        raise InvalidValue("%s.%s is unknown: %s" % (owner, name, shown))


def _type_of(value: "Json") -> "str":
    return "null" if value is None else type(value).__name__


def _is_int(value: "Json") -> "bool":
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_float(value: "Json") -> "bool":
    return isinstance(value, float) or _is_int(value)


def _is_dict_of_texts(value: "Json") -> "bool":
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _is_difference(entry: "Json") -> "bool":
    return isinstance(entry, dict) and isinstance(entry.get("unified", ""), str)


_CHECKS: "dict[str, Callable[[Json], bool]]" = {
    "int": _is_int,
    "float": _is_float,
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "Json": lambda value: True,
    "dict[str, str]": _is_dict_of_texts,
    "JsonObject": lambda value: isinstance(value, dict),
    "Attributes": lambda value: isinstance(value, dict),
    "Arguments": lambda value: isinstance(value, dict),
    "Diff": lambda value: isinstance(value, dict) and all(map(_is_difference, value.values())),
}
_EXACT: "dict[str, type]" = {
    "str": str, "bool": bool, "float": float, "JsonObject": dict, "Attributes": dict, "Arguments": dict,
}  # fmt: skip
_words: "dict[str, type[Word]]" = {}


def uses_words(*enumerations: "type[Word]") -> "None":
    """Let fields have these enumerations as their types."""
    for one in enumerations:
        _words[one.__name__] = one
