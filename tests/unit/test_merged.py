"""Resources that several calls of a run describe together, each some of their attributes."""

from __future__ import annotations

from typing import Any

from sloth.payload.kernel.converge import converge
from sloth.payload.kernel.record import Context
from sloth.payload.kernel.resource import Args, Field, Resource
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Store
from tests.support.calls import NoController


class Pair(Resource):
    """A dict that stands for a host; None as `a` removes it."""

    name = "test.pair"
    merged = True
    fields = (Field("a", "int"), Field("b", "int"), Field("absent", "bool", False))
    world: dict[str, int] | None = None

    def identity(self) -> str:
        return "x"

    def observe(self) -> Any:
        return None if Pair.world is None else dict(Pair.world)

    def desired(self, now: Any) -> Any:
        return None if self.args.absent else {name: self.args.__dict__[name] for name in "ab" if name in self.args}

    def apply(self, change: Any) -> None:
        Pair.world = None if change.after is None else {**(Pair.world or {}), **change.after}


def run(store: Store, *calls: dict[str, Any]) -> list[tuple[str, str]]:
    """Make the calls of one run."""
    store.merged.clear()
    outcomes = [
        converge(Pair(Args(Pair.check(call)), Host(NoController())), store, False, Context(run="r", site="s"))
        for call in calls
    ]
    store.commit()
    return [(outcome.status, outcome.reason) for outcome in outcomes]


def recorded(store: Store) -> tuple[Any, int]:
    (record,) = store.records.select()
    return record.desired, len(record.calls or ())


def test_a_record_holds_what_the_calls_of_the_last_run_ask_for_together() -> None:
    Pair.world, store = None, Store(None)
    assert run(store, {"a": 1}, {"b": 2}) == [("changed", "new"), ("changed", "updated")]
    assert recorded(store) == ({"a": 1, "b": 2}, 2)
    assert run(store, {"a": 1}, {"b": 2}, {"b": 2}) == [("unchanged", "")] * 3
    assert recorded(store) == ({"a": 1, "b": 2}, 2), "a call that is made twice counts once"
    assert run(store, {"b": 2}) == [("unchanged", "")]
    assert recorded(store) == ({"b": 2}, 1), "what the site no longer names is forgotten"


def test_drift_is_told_from_an_update_attribute_by_attribute() -> None:
    Pair.world, store = None, Store(None)
    run(store, {"a": 1}, {"b": 2})
    Pair.world = {"a": 1, "b": 7}
    assert run(store, {"a": 3}, {"b": 2}) == [("changed", "updated"), ("changed", "drift")]
    Pair.world = {"a": 7, "b": 7}
    assert run(store, {"a": 3}, {"b": 4}) == [("changed", "drift"), ("changed", "updated")]
    Pair.world = {"a": 7, "b": 7}
    assert run(store, {"a": 3, "b": 5}) == [("changed", "updated")]


def test_what_is_removed_and_made_again() -> None:
    Pair.world, store = None, Store(None)
    run(store, {"a": 1})
    assert run(store, {"absent": True}) == [("changed", "updated")]
    assert recorded(store) == (None, 1)
    Pair.world = {"a": 1}
    assert run(store, {"absent": True}) == [("changed", "drift")]
    assert run(store, {"absent": True}, {"b": 1}) == [("unchanged", ""), ("changed", "updated")]
    assert recorded(store) == ({"b": 1}, 1)
    Pair.world = None
    assert run(store, {"b": 1}) == [("changed", "drift")]
