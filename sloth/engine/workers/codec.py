"""Typed values as JSON: what their classes declare is how they travel, and nothing else is accepted.

Pickles would let whoever can send one run code. A value of one of the classes is an array of its class's name and its
fields; a Value of the wire is one of its name and an object. The reader is made of the annotations of the fields.
"""

from __future__ import annotations

import ast
import base64
import dataclasses
import json
from collections.abc import Callable, Iterable
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Any

from sloth.payload.kernel.status import Word
from sloth.payload.kernel.value import InvalidValue, Value

Read = Callable[[object], object]
_PLAIN = frozenset(("object", "Json", "JsonObject", "Attributes", "Arguments", "Diff"))  # any JSON
_PRIMITIVES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}


class Malformed(Exception):
    """What was read is not what its class declares."""


class Codec:
    """Writes and reads values of some classes."""

    def __init__(self, classes: Iterable[type], omitted: Iterable[tuple[str, str]] = ()) -> None:
        """classes: dataclasses, enumerations and Values. omitted: (class, field) of what does not travel."""
        self._classes = {one.__name__: one for one in classes}
        self._omitted = frozenset(omitted)
        self._writers: dict[type, Callable[[object], list[object]]] = {}
        self._readers: dict[str, Read] = {}
        self._encoder = json.JSONEncoder(default=self._write, check_circular=False, separators=(",", ":"))

    def encode(self, values: Iterable[object]) -> bytes:
        """Return values, which are all of the classes, as JSON."""
        return self._encoder.encode([self._write(value) for value in values]).encode("ascii")

    def decode(self, data: bytes) -> list[object]:
        """Return the values. Raises Malformed."""
        try:
            return [self._read_any(value) for value in _array(json.loads(data))]
        except (ValueError, TypeError, KeyError, IndexError, InvalidValue, RecursionError) as error:
            raise Malformed(f"{type(error).__name__}: {error}") from error

    # Writing

    def _write(self, value: object) -> object:
        """Return what JSON has for a value that it does not know by itself."""
        writer = self._writers.get(type(value))
        if writer is not None:
            return writer(value)
        if isinstance(value, Value):
            return [type(value).__name__, value.plain()]
        if isinstance(value, (set, frozenset)):
            return list(value)
        if isinstance(value, (bytes, bytearray)):
            return base64.b64encode(value).decode("ascii")
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, (Enum, Word)):
            return value.value
        cls = type(value)
        if self._classes.get(cls.__name__) is not cls:
            if hasattr(value, "keys"):  # a mapping that is no dict
                return dict(value)  # type: ignore[call-overload]  # it has keys, and so has items
            raise TypeError(f"{cls.__name__} does not travel")
        self._writers[cls] = self._writer(cls)
        return self._writers[cls](value)

    def _writer(self, cls: type) -> Callable[[object], list[object]]:
        name, fields = cls.__name__, self._fields(cls)
        if not fields:
            return lambda value: [name]
        if len(fields) == 1:
            only = attrgetter(fields[0].name)
            return lambda value: [name, only(value)]
        get = attrgetter(*(field.name for field in fields))
        return lambda value: [name, *get(value)]

    def _fields(self, cls: type) -> list[dataclasses.Field[object]]:
        return [field for field in dataclasses.fields(cls) if (cls.__name__, field.name) not in self._omitted]

    # Reading

    def _read_any(self, value: object) -> object:
        """Return a value of any of the classes."""
        if type(value) is not list or not value or type(value[0]) is not str:
            raise Malformed("no value of a class")
        reader = self._readers.get(value[0])
        if reader is None:
            if value[0] not in self._classes:
                raise Malformed(f"unknown class {value[0][:60]}")
            reader = self._readers[value[0]] = self._reader(self._classes[value[0]])
        return reader(value)

    def _reader(self, cls: type) -> Read:
        """Return what reads the array of a value of a class."""
        if issubclass(cls, Value):
            return lambda value: cls.read(value[1])  # type: ignore[index]  # _read_any() has looked
        fields = self._fields(cls)
        values: dict[str, Any] = {"cls": cls, "Malformed": Malformed}
        body, given = [], []
        for number, field in enumerate(fields):
            kind = ast.parse(str(field.type), mode="eval").body
            body += self._lines(f"v{number}", kind, values)
            given.append(f"{field.name}=v{number}" if field.kw_only or self._omits(cls) else f"v{number}")
        names = "".join(f"v{number}," for number in range(len(fields)))
        source = "\n ".join((f"def read(value):\n _,{names} = value", *body, f"return cls({','.join(given)})"))
        exec(source, values)  # noqa: S102  as dataclasses do: half of the time of a message was spent in calls
        reader: Read = values["read"]
        return reader

    def _lines(self, name: str, kind: ast.expr, values: dict[str, Any]) -> list[str]:
        """Return the lines that check and convert the variable `name`; `values` gets what they use."""
        some = [one for one in _alternatives(kind) if not _is_null(one)]
        prefix = f"if {name} is not None: " if len(some) < len(_alternatives(kind)) else ""
        if len(some) == 1 and isinstance(some[0], ast.Name):
            cls = some[0].id
            if cls in _PLAIN:
                return []
            if cls in _PRIMITIVES:
                is_so = " or ".join(f"{name}.__class__ is {one.__name__}" for one in _PRIMITIVES[cls])
                wrong = f"raise Malformed('{cls} expected')"
                return [f"if not ({f'{name} is None or ' if prefix else ''}{is_so}): {wrong}"]
            words = self._classes.get(cls)
            if words is not None and issubclass(words, (Enum, Word)):
                values[f"members_{name}"] = {member.value: member for member in words}
                return [f"{prefix}{name} = members_{name}[{name}]"]
        values[f"read_{name}"] = self._either(some)
        return [f"{prefix}{name} = read_{name}({name})"]

    def _omits(self, cls: type) -> bool:
        return any(name == cls.__name__ for name, _ in self._omitted)

    def _of(self, kind: ast.expr) -> Read:
        """Return what reads a field of this annotation. Raises TypeError for one that has no meaning here."""
        match kind:
            case ast.Constant(value=None):
                return _read_none
            case ast.Name(id=name) if name in _PLAIN:
                return _same
            case ast.Name(id=name) if name in _PRIMITIVES:
                return _primitive(name)
            case ast.Name(id="bytes"):
                return _read_bytes
            case ast.Name(id="Path"):
                return lambda value: Path(_text(value))
            case ast.Name(id=name) if name in self._classes and issubclass(self._classes[name], (Enum, Word)):
                return self._classes[name]
            case ast.Name(id=name):
                return self._one_of(name)
            case ast.BinOp(op=ast.BitOr()):
                return self._either(_alternatives(kind))
            case ast.Subscript(value=ast.Name(id=container), slice=inner):
                return self._container(container, inner)
        raise TypeError(f"a field of this type does not travel: {ast.unparse(kind)}")

    def _one_of(self, name: str) -> Read:
        """Return what reads a value of a class, or of one that is derived from it."""
        cls = self._classes.get(name)
        if cls is None:
            raise TypeError(f"{name} does not travel")

        def read(value: object) -> object:
            found = self._read_any(value)
            if not isinstance(found, cls):
                raise Malformed(f"no {name}")
            return found

        return read

    def _either(self, kinds: list[ast.expr]) -> Read:
        """Return what reads a value of one of several types: a text is no class, and an array is no text."""
        optional = any(map(_is_null, kinds))
        some = [kind for kind in kinds if not _is_null(kind)]
        if len(some) == 1:
            one = self._of(some[0])
            return (lambda value: None if value is None else one(value)) if optional else one
        readers = [self._of(kind) for kind in some]

        def read(value: object) -> object:
            if value is None and optional:
                return None
            for reader in readers:
                try:
                    return reader(value)
                except (Malformed, ValueError, TypeError):
                    continue
            raise Malformed(f"none of {' | '.join(map(ast.unparse, some))}")

        return read

    def _container(self, container: str, inner: ast.expr) -> Read:
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if container == "Literal":
            values = [part.value for part in parts if isinstance(part, ast.Constant)]
            return lambda value: _same(value) if value in values else _refuse("no such literal")
        if container in ("Mapping", "dict"):
            if ast.unparse(parts[0]) != "str":
                raise TypeError("JSON has no other keys than texts")
            one = self._of(parts[1])
            if one is _same:
                return _object
            return lambda value: {key: one(item) for key, item in _object(value).items()}
        makers: dict[str, Callable[[Iterable[object]], object]] = {
            "tuple": tuple, "list": list, "Sequence": list, "frozenset": frozenset, "set": set,
        }  # fmt: skip
        if container not in makers:
            raise TypeError(f"a field of this type does not travel: {container}")
        make = makers[container]
        if container == "tuple" and not (len(parts) == 2 and _is_ellipsis(parts[1])):
            readers = [self._of(part) for part in parts]
            return lambda value: tuple(read(item) for read, item in zip(readers, _array(value), strict=True))
        one = self._of(parts[0])
        return lambda value: make(one(item) for item in _array(value))


def _refuse(text: str) -> object:
    raise Malformed(text)


def _same(value: object) -> object:
    return value


def _read_none(value: object) -> object:
    return None if value is None else _refuse("not null")


def _primitive(name: str) -> Read:
    types = _PRIMITIVES[name]

    def read(value: object) -> object:
        return value if type(value) in types else _refuse(f"not {name}: {type(value).__name__}")

    return read


def _text(value: object) -> str:
    if type(value) is not str:
        raise Malformed("not a text")
    return value


def _read_bytes(value: object) -> object:
    return base64.b64decode(_text(value), validate=True)


def _array(value: object) -> list[object]:
    if type(value) is not list:
        raise Malformed("not an array")
    return value


def _object(value: object) -> dict[str, object]:
    if type(value) is not dict:
        raise Malformed("not an object")
    return value


def _is_null(kind: ast.expr) -> bool:
    return isinstance(kind, ast.Constant) and kind.value is None


def _is_ellipsis(kind: ast.expr) -> bool:
    return isinstance(kind, ast.Constant) and kind.value is ...


def _alternatives(kind: ast.expr) -> list[ast.expr]:
    if isinstance(kind, ast.BinOp) and isinstance(kind.op, ast.BitOr):
        return [*_alternatives(kind.left), *_alternatives(kind.right)]
    return [kind]
