"""Immutable values: dataclasses that only the type checker keeps frozen.

A program makes dozens of such classes whenever it starts. What `frozen`, `eq` and `repr` generate for each takes half a
millisecond, so here all share one __eq__, __hash__ and __repr__, and writing to a field is found by mypy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def frozen(cls: type[T]) -> type[T]: ...
@overload
def frozen(*, eq: bool) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T] | None = None, *, eq: bool = True) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class a dataclass with slots and immutable fields; eq: two are equal when all their fields are."""

    def make(made: type[T]) -> type[T]:
        own = vars(made)
        methods = {"__repr__": _repr, **({"__eq__": _eq, "__hash__": _hash} if eq else {})}
        for name, method in methods.items():
            if name not in own:
                setattr(made, name, method)
        return dataclass(slots=True, eq=False, repr=False, match_args=False)(made)

    return make if cls is None else make(cls)


def _fields(one: object) -> tuple[Field[Any], ...]:
    return fields(one)  # type: ignore[arg-type]  # frozen() makes it a dataclass, which no type says


def _values(one: object) -> tuple[object, ...]:
    return tuple(getattr(one, each.name) for each in _fields(one) if each.compare)


def _eq(self: object, other: object) -> bool:
    return _values(self) == _values(other) if type(self) is type(other) else NotImplemented


def _hash(self: object) -> int:
    return hash(_values(self))


def _repr(self: object) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in _fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"
