"""Values and states: dataclasses with slots; that values are frozen is for the type checker alone.

A program makes a hundred such classes whenever it starts, and most have no or few instances in a run. What `dataclass`
does for each takes a tenth of a millisecond, and what `frozen`, `eq`, `repr` and `init` generate as much again. So here
all share one __eq__, __hash__ and __repr__, writing to a field is found by mypy alone, and the rest waits: __init__ is
generated when there have been some instances, and what dataclasses know of the fields is found when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from itertools import count
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")

FEW = 4  # instances that are cheaper to fill one field after the other
_FIELDS = "__dataclass_fields__"
# Of each class: what stands at its own fields, which is MISSING, a default or a Field.
_SPECIFIED = "__frozen_fields__"


@overload
def frozen(cls: type[T]) -> type[T]: ...
@overload
def frozen(*, eq: bool) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T] | None = None, *, eq: bool = True) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class a dataclass with slots and immutable fields; eq: two are equal when all their fields are."""
    return _maker(cls, _SHARED if eq else _SHOWN)


@overload
def mutable(cls: type[T]) -> type[T]: ...
@overload
def mutable(*, eq: bool) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(field_specifiers=(field,))
def mutable(cls: type[T] | None = None, *, eq: bool = True) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class a dataclass with slots whose fields change; eq: two are equal when all their fields are."""
    return _maker(cls, {**_SHARED, "__hash__": None} if eq else _SHOWN)


def _maker(cls: type[T] | None, methods: Mapping[str, object]) -> type[T] | Callable[[type[T]], type[T]]:
    def make(plain: type[T]) -> type[T]:
        own = dict(vars(plain))
        kinds: Mapping[str, object] = plain.__annotations__
        names = [name for name, kind in kinds.items() if not str(kind).startswith("ClassVar")]
        specified = {name: own.pop(name, MISSING) for name in names}
        inherited = {slot for base in plain.__mro__ for slot in vars(base).get("__slots__", ())}
        for name in ("__dict__", "__weakref__"):  # which are those of the class without slots
            own.pop(name, None)
        own["__slots__"] = tuple(name for name in names if name not in inherited)
        own[_SPECIFIED], own[_FIELDS] = specified, _Fields()
        own = {**methods, **own}  # where a class has an __eq__ alone, its __hash__ is None
        metaclass: Callable[..., type[T]] = type(plain)
        made = metaclass(plain.__name__, plain.__bases__, own)
        made.__qualname__ = plain.__qualname__
        if "__init__" not in own:
            _generate_later(made)
        return made

    return make if cls is None else make(cls)


def field_names(cls: type) -> list[str]:
    """Return the names of all fields of a class that frozen() or mutable() has made, without what `fields` needs."""
    return list(_all_specified(cls))


class _Fields:
    """Stands for the fields of a class as dataclasses know them, until somebody asks."""

    __slots__ = ("_owner",)

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner

    def __get__(self, one: object, cls: type | None = None) -> dict[str, Field[Any]]:
        owner, found = self._owner, dict[str, Field[Any]]()
        for base in reversed(owner.__mro__[1:]):
            found |= getattr(base, _FIELDS) if _FIELDS in vars(base) else {}
        specified = {name: value for name, value in vars(owner)[_SPECIFIED].items() if value is not MISSING}
        body = {"__module__": owner.__module__, "__annotations__": owner.__annotations__, "__doc__": "", **specified}
        known: type = dataclass(init=False, eq=False, repr=False, match_args=False)(type(owner.__name__, (), body))
        found |= getattr(known, _FIELDS)
        setattr(owner, _FIELDS, found)
        return found


def _generate_later(cls: type) -> None:
    """Give a class an __init__ that fills its first instances, and then puts the generated one in its place."""
    instances = count()

    def __init__(self: object, *args: object, **named: object) -> None:
        if next(instances) < FEW and _fill(self, cls, args, named):
            return
        if vars(cls)["__init__"] is __init__:
            cls.__init__ = _init(cls)  # type: ignore[misc]  # of any class that frozen() makes
        cls.__init__(self, *args, **named)  # type: ignore[misc]  # the same

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    cls.__init__ = __init__  # type: ignore[misc]  # the same


def _fill(one: object, cls: type, args: tuple[object, ...], named: dict[str, object]) -> bool:
    """Set the fields of an instance; return False where the generated __init__ has to say what is wrong."""
    specified = _all_specified(cls)
    in_order = [
        name for name, at in specified.items() if not isinstance(at, Field) or (at.init and at.kw_only is not True)
    ]
    given = dict(zip(in_order, args, strict=False))
    if len(args) > len(in_order) or not given.keys().isdisjoint(named):
        return False
    given |= named
    for name, at in specified.items():
        is_field = isinstance(at, Field)
        if name in given and (not is_field or at.init):
            value = given.pop(name)
        elif is_field:
            value = at.default if at.default_factory is MISSING else at.default_factory()
            if value is MISSING:
                if at.init:
                    return False
                continue
        elif at is MISSING:
            return False
        else:
            value = at
        setattr(one, name, value)
    if given:
        return False
    if hasattr(cls, "__post_init__"):
        one.__post_init__()  # type: ignore[attr-defined]  # which hasattr() has found
    return True


def _all_specified(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if _SPECIFIED in vars(base):
            found |= vars(base)[_SPECIFIED]
        elif _FIELDS in vars(base):  # an ordinary dataclass
            found |= {each.name: each for each in fields(base)}
    return found


def _init(cls: type) -> Callable[..., None]:
    """Return the __init__ of a class, which does what a dataclass's does."""
    positional: list[str] = []
    named: list[str] = []
    body: list[str] = []
    values: dict[str, object] = {"MISSING": MISSING}
    for name, at in _all_specified(cls).items():
        default, is_field = "", isinstance(at, Field)
        if is_field and at.default_factory is not MISSING:
            values[f"new_{name}"] = at.default_factory
            default = "=MISSING"
        elif (value := at.default if is_field else at) is not MISSING:
            values[f"default_{name}"] = value
            default = f"=default_{name}"
        if is_field and not at.init:
            if default:
                body.append(f"self.{name}{f'=new_{name}()' if default == '=MISSING' else default}")
            continue
        (named if is_field and at.kw_only is True else positional).append(f"{name}{default}")
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


_SHOWN = {"__repr__": _repr}
_SHARED = {"__repr__": _repr, "__eq__": _eq, "__hash__": _hash}
