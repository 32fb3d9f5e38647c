"""Immutable values: dataclasses that only the type checker keeps frozen.

A program makes dozens of such classes whenever it starts. What `frozen`, `eq` and `repr` generate for each takes half a
millisecond, so here all share one __eq__, __hash__ and __repr__, and writing to a field is found by mypy alone. What
`init` generates takes as long: it is generated for the first instance, which most classes do not have in a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
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
        made.__doc__ = made.__doc__ or made.__qualname__  # else dataclass() loads inspect to write one
        own = vars(made)
        methods = {"__repr__": _repr, **({"__eq__": _eq, "__hash__": _hash} if eq else {})}
        for name, method in methods.items():
            if name not in own:
                setattr(made, name, method)
        has_init = "__init__" in own
        made = dataclass(init=False, slots=True, eq=False, repr=False, match_args=False)(made)
        if not has_init:
            _generate_later(made)
        return made

    return make if cls is None else make(cls)


def _generate_later(cls: type) -> None:
    """Give a class an __init__ that puts the generated one in its place when it is called first."""

    def __init__(self: object, *args: object, **named: object) -> None:
        if vars(cls)["__init__"] is __init__:
            cls.__init__ = _init(cls)  # type: ignore[misc]  # of any class that frozen() makes
        cls.__init__(self, *args, **named)  # type: ignore[misc]  # the same

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    cls.__init__ = __init__  # type: ignore[misc]  # the same


def _init(cls: type) -> Callable[..., None]:
    """Return the __init__ of a class, which does what a dataclass's does."""
    positional: list[str] = []
    named: list[str] = []
    body: list[str] = []
    values: dict[str, object] = {"MISSING": MISSING}
    for each in fields(cls):
        name, default = each.name, ""
        if each.default is not MISSING:
            values[f"default_{name}"] = each.default
            default = f"=default_{name}"
        elif each.default_factory is not MISSING:
            values[f"new_{name}"] = each.default_factory
            default = "=MISSING"
        if not each.init:
            if default:
                body.append(f"self.{name}{f'=new_{name}()' if default == '=MISSING' else default}")
            continue
        (named if each.kw_only else positional).append(f"{name}{default}")
        new = f"new_{name}() if {name} is MISSING else " if default == "=MISSING" else ""
        body.append(f"self.{name}={new}{name}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ",".join(["self", *positional, *(["*", *named] if named else [])])
    exec(f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"]), values)  # noqa: S102  as dataclasses does
    function: Any = values["__init__"]
    function.__qualname__, function.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    init: Callable[..., None] = function
    return init


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
