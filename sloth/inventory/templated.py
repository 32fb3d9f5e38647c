"""Variables that are not plain values: those with Jinja in them, and those that ansible-vault has encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sloth.payload.kernel.values import Json, JsonObject

_MARKS = ("{{", "{%", "{#")
VAULT = "$ANSIBLE_VAULT;"
VAULT_HINT = "keep it with `sloth-runner secret set NAME`, or decrypt it: ansible-vault decrypt, ansible-vault view"


class Literal(str):
    """A text that is no template, whatever is in it: YAML's `!unsafe`."""

    __slots__ = ()


@frozen
class Encrypted:
    """A value that ansible-vault has encrypted; where: its position."""

    where: str

    def error(self, name: str) -> InventoryError:
        """Return the error of a use of the variable `name`."""
        return InventoryError(f"{name} is encrypted with ansible-vault", where=self.where, hint=VAULT_HINT)


@frozen
class Templated:
    """A value with Jinja in it (or in a list or table within), which is evaluated when it is used.

    where: its position.
    """

    value: Json
    where: str


def is_template(text: str) -> bool:
    """Return whether a text has Jinja in it."""
    return any(mark in text for mark in _MARKS) and not isinstance(text, Literal)


def mark(value: Json, where: str) -> Json:
    """Return a value of an inventory as a variable: plain data, Templated or Encrypted."""
    if isinstance(value, Encrypted):
        return value
    if isinstance(value, str):
        return Templated(value, where) if is_template(value) else str(value)
    if not isinstance(value, (dict, list)):
        return value
    found: list[bool] = []
    copied = _copy(value, found)
    return Templated(copied, where) if found else copied


def _copy(value: Json, found: list[bool]) -> Json:
    """Return a copy as plain lists and tables; `found` gets an element for each value that is not plain."""
    if isinstance(value, dict):
        return {key: _copy(item, found) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item, found) for item in value]
    if isinstance(value, Encrypted) or (isinstance(value, str) and is_template(value)):
        found.append(True)
    return value


def tagged(value: Json, where: str) -> Json:
    """Return JSON with what Ansible writes in it for encrypted texts, and for texts that are no templates."""
    if isinstance(value, list):
        return [tagged(item, where) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"__ansible_vault"}:
        return Encrypted(where)
    if value.keys() == {"__ansible_unsafe"} and isinstance(value["__ansible_unsafe"], str):
        return Literal(value["__ansible_unsafe"])
    return {key: tagged(item, where) for key, item in value.items()}


def divide(variables: Mapping[str, Json]) -> tuple[JsonObject, list[str]]:
    """Return the variables that are plain data, and the names of the others."""
    others = [name for name, value in variables.items() if isinstance(value, (Templated, Encrypted))]
    return {name: value for name, value in variables.items() if name not in others}, others


def written(value: Json) -> Json:
    """Return a variable as it is written: templates as text, and a remark for what is encrypted."""
    match value:
        case Templated():
            return written(value.value)
        case Encrypted():
            return "(encrypted with ansible-vault)"
        case dict():
            return {key: written(item) for key, item in value.items()}
        case list():
            return [written(item) for item in value]
    return value
