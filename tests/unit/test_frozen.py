"""What `frozen` makes is what `dataclass` makes, however many instances there are and whoever asks for its fields."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.frozen import FEW, field_names, frozen, mutable

Decorator = Callable[[type], Any]


def _classes(decorate: Decorator, base: Decorator) -> tuple[type, type, type]:
    @base
    class Message:
        pass

    @base
    class Base(Message):
        name: str
        size: int = 1
        tags: list[str] = field(default_factory=list)
        seen: list[str] = field(default_factory=list, init=False, compare=False, repr=False)
        later: str = field(init=False)
        limit: ClassVar[int] = 3
        force: bool = field(default=False, kw_only=True)
        must: int = field(kw_only=True)

    @decorate
    class Child(Base):
        words: tuple[str, ...] = ()
        size: int = field(default=7)

        def __post_init__(self) -> None:
            self.seen.append(self.name)

    class Plain(Child):
        pass

    return Base, Child, Plain


def _by_dataclass(cls: type) -> Any:
    return dataclasses.dataclass(slots=True, unsafe_hash=True)(cls)


def _outcome(cls: type, args: tuple[object, ...], named: dict[str, object]) -> object:
    try:
        made = cls(*args, **named)
    except TypeError as error:
        return str(error).partition("(")[2]  # the name of the function before it has the test's in it
    return {each.name: getattr(made, each.name, "unset") for each in dataclasses.fields(cls)}


NAMES = ("name", "size", "tags", "seen", "later", "force", "must", "words", "limit", "other")


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(), max_size=6), st.dictionaries(st.sampled_from(NAMES), st.integers(), max_size=5)
        ),
        min_size=1,
        max_size=FEW + 2,
    ),
    st.sampled_from([frozen, mutable, dataclasses.dataclass]),
    st.integers(0, 2),
)
def test_instances_are_those_of_a_dataclass(
    calls: list[tuple[list[int], dict[str, int]]], base: Decorator, which: int
) -> None:
    ours, theirs = _classes(frozen, base)[which], _classes(_by_dataclass, _by_dataclass)[which]
    for args, named in calls:
        assert _outcome(ours, tuple(args), dict(named)) == _outcome(theirs, tuple(args), dict(named))


@pytest.mark.parametrize("instances", [0, 1, FEW + 1])
def test_dataclasses_know_the_fields(instances: int) -> None:
    base, child, _ = _classes(frozen, frozen)
    _, theirs, _ = _classes(_by_dataclass, _by_dataclass)
    for number in range(instances):
        child("a", number, must=1)
    assert dataclasses.is_dataclass(child)
    shown = ("name", "type", "init", "compare", "repr", "kw_only", "default")
    assert [[getattr(each, one) for one in shown] for each in dataclasses.fields(child)] == [
        [getattr(each, one) for one in shown] for each in dataclasses.fields(theirs)
    ]
    assert [each.name for each in dataclasses.fields(base)] == [
        each.name for each in dataclasses.fields(_classes(_by_dataclass, _by_dataclass)[0])
    ]
    assert child.__slots__ == ("words",)
    assert field_names(child) == [each.name for each in dataclasses.fields(child)]


def test_values_are_compared_copied_and_shown() -> None:
    assert dataclasses.replace(copy.deepcopy(Point(1)), y=3) == Point(1, 3)
    assert Point(1, 3) != Point(1, 4)
    assert repr(Point(1, y=2)) == "Point(x=1, y=2)"
    assert hash(Point(1)) == hash(Point(1, 0))
    assert pickle.loads(pickle.dumps(Point(1, 5))) == Point(1, 5)
    assert not hasattr(Point(1), "__dict__")


@frozen
class Point:
    x: int
    y: int = 0


@mutable
class State:
    values: list[int] = field(default_factory=list)


@mutable(eq=False)
class Waiter:
    value: int


def test_what_a_class_defines_itself_stays() -> None:
    @frozen
    class Same:
        value: int

        def __eq__(self, other: object) -> bool:
            return True

        def __repr__(self) -> str:
            return "same"

    @frozen(eq=False)
    class Itself:
        value: int

    @frozen
    class Empty:
        def __init__(self) -> None:
            pass

    assert Same(1) == Same(2)
    assert repr(Same(1)) == "same"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Same(1))
    assert Itself(1) != Itself(1)
    assert State([1]) == State([1])
    with pytest.raises(TypeError, match="unhashable"):
        hash(State([1]))
    assert len({Waiter(1), Waiter(1)}) == 2
    assert Empty() == Empty()
    assert dataclasses.fields(Empty) == ()
