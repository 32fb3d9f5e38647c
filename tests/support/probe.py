"""A module as a site may bring its own: a setting, kept in a file, that can be made to misbehave."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from sloth.payload.kernel import registry
from sloth.payload.kernel.resource import REQUIRED, Action, Change, DriftBy, Failed, Field, Missing, Query, Resource


class Setting(Resource):
    """A setting; without a place, so it is taken back by its attributes."""

    name = "probe.setting"
    fields = (
        Field("path", "path", REQUIRED),
        Field("value", "str"),
        Field("token", "str", secret=True),
        Field("state", default="present", choices=("present", "absent")),
    )
    observing: Callable[[], None] | None = None  # called before it is read
    ignores = False  # changes do not hold

    def identity(self) -> str:
        return str(self.args.path)

    def observe(self) -> Any:
        if type(self).observing is not None:
            type(self).observing()
        try:
            with open(self.args.path) as file:
                return json.load(file)
        except FileNotFoundError:
            return None

    def desired(self, now: Any) -> Any:
        if self.args.state == "absent":
            return None
        wanted = {"value": self.args.value or ""}
        return wanted if self.args.token is None else {**wanted, "token": self.args.token}

    def apply(self, change: Change) -> None:
        if type(self).ignores:
            return
        if change.after is None:
            os.unlink(self.args.path)
            return
        with open(self.args.path, "w") as file:
            json.dump({**(change.before or {}), **change.after}, file)


class Bell(Action):
    """An action; it fails as long as the file `broken` is there."""

    name = "probe.bell"
    fields = (Field("path", "path", REQUIRED), Field("token", "str", secret=True))

    def identity(self) -> str:
        return str(self.args.path)

    def guard(self) -> str:
        return "it has rung" if os.path.exists(self.args.path + ".done") else ""

    def run(self) -> Any:
        if os.path.exists(self.args.path + ".broken"):
            raise Failed("it is broken")
        with open(self.args.path, "a") as file:
            file.write("ring\n")
        return {}


class Loud(Query):
    """A query whose result is as long as it is told."""

    name = "probe.loud"
    fields = (Field("size", "int", REQUIRED),)

    def look(self) -> Any:
        return {"text": "x" * self.args.size}


def install(monkeypatch: pytest.MonkeyPatch) -> type[Setting]:
    """Let calls find these modules while a test runs; return a Setting of its own, to be made to misbehave."""

    class Own(Setting):
        drift_by = DriftBy.DESIRED

    for cls in (Own, Bell, Loud):
        monkeypatch.setitem(registry._found, (registry.MODULES, cls.name), cls)
    return Own


def raiser(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def missing() -> None:
    raise Missing("the tool of this setting is not installed")
