"""Variables of hosts as JSON: they may be templates, texts that are none, and what ansible-vault has encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.inventory.templated import Encrypted, Literal, Templated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sloth.payload.kernel.values import Json, JsonObject

_MARK = "\0"  # of an object that stands for a value which is no plain data: no variable has it


def written(variables: Mapping[str, Json]) -> JsonObject:
    """Return the variables of a host as JSON."""
    return {name: _write(value) if type(value) not in _SIMPLE else value for name, value in variables.items()}


def read(variables: JsonObject) -> JsonObject:
    """Return variables that written() has written."""
    return {name: _read(value) if type(value) in (dict, list) else value for name, value in variables.items()}


_SIMPLE = (str, int, float, bool, type(None))


def _write(value: Json) -> Json:
    match value:
        case Templated():
            return {_MARK: "templated", "value": _write(value.value), "where": value.where}
        case Encrypted():
            return {_MARK: "encrypted", "where": value.where}
        case Literal():
            return {_MARK: "literal", "value": str(value)}
        case dict():
            return {key: _write(item) for key, item in value.items()}
        case list() | tuple():
            return [_write(item) for item in value]
    return value


def _read(value: Json) -> Json:
    if isinstance(value, list):
        return [_read(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value.get(_MARK):
        case "templated":
            return Templated(_read(value["value"]), str(value["where"]))
        case "encrypted":
            return Encrypted(str(value["where"]))
        case "literal":
            return Literal(value["value"])
    return {key: _read(item) for key, item in value.items()}
