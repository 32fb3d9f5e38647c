"""`hostvars` of templates: the variables of other hosts, looked up when a template reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sloth.errors import CallError

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

FACTS = "facts"
LookUp = Callable[[str, str], Any]  # what ("hostvars" or "hostfacts") and a host's name -> its value


Evaluate = Callable[[str, "Json", "JsonObject"], "Json"]  # of a variable with Jinja in it: name, value, variables


class OneHost(dict[str, "Json"]):
    """The variables of a host, its `host`, and its `facts`, which are gathered when they are read.

    Facts that cannot be gathered are undefined, as with Ansible: a template can test that. failure: why.
    """

    failure: CallError | None = None

    def __init__(self, name: str, variables: JsonObject, seen: JsonObject, evaluate: Evaluate, look_up: LookUp) -> None:
        """seen: what else variables with Jinja in them may use."""
        super().__init__(variables)
        self._name = name
        self._seen = seen
        self._evaluate = evaluate
        self._look_up = look_up

    def __getitem__(self, key: str) -> Json:
        value = super().__getitem__(key)
        # The name is unique, since variables of two hosts that refer to each other are no circle.
        return self._evaluate(
            f"hostvars.{self._name}.{key}", value, {**self._seen, **self, "groups": self._seen["groups"]}
        )

    def values(self) -> Any:
        return [self[key] for key in self]

    def items(self) -> Any:
        return [(key, self[key]) for key in self]

    def __missing__(self, key: str) -> Json:
        if key != FACTS or self.failure:
            raise KeyError(key)
        try:
            self[FACTS] = self._look_up("hostfacts", self._name)
        except CallError as error:
            self.failure = error
            raise KeyError(key) from error
        return super().__getitem__(FACTS)

    def get(self, key: str, default: Json = None) -> Json:
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        if key != FACTS:
            return super().__contains__(key)
        return self.get(FACTS) is not None


class HostVars(Mapping[str, OneHost]):
    """All hosts of the inventory by name."""

    def __init__(self, names: list[str], look_up: LookUp, evaluate: Evaluate) -> None:
        self._names = dict.fromkeys(names)
        self._look_up = look_up
        self._evaluate = evaluate
        self._hosts: dict[str, OneHost] = {}

    def __getitem__(self, name: str) -> OneHost:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._hosts:
            variables, seen = self._look_up("hostvars", name)
            self._hosts[name] = OneHost(name, variables, {**seen, "hostvars": self}, self._evaluate, self._look_up)
        return self._hosts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
