"""Secrets in a plan: references that are resolved when it is applied, never values.

A text with secrets in it becomes {"$secret": [part, ...]}, whose parts are texts and references: the name of the
secret, the directory of the site's file that asked for it, and the number of the form in which it stands there (as it
is, quoted, in base64, ...: those that are redacted).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import StateError
from sloth.payload.kernel.redact import SHORTEST
from sloth.payload.kernel.secret_forms import secret_forms

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

_SECRET = "$secret"
_DICT = "$dict"  # stands for a dict that would be taken for one of these
Resolve = Callable[[str, Path], str]  # the value of a secret, by its name and a directory


class References:
    """Replaces the secrets of a run by references."""

    def __init__(self, secrets: Mapping[tuple[Path, str], str]) -> None:
        """secrets: the values by directory and name."""
        self._forms: dict[str, tuple[str, str, int]] = {}  # form -> name, directory, number
        self._whole: dict[str, tuple[str, str, int]] = {}  # values, which may be too short to be found within a text
        for (directory, name), value in secrets.items():
            self._whole.setdefault(value, (name, str(directory), 0))
            for number, form in enumerate(secret_forms(value)):
                if len(form) >= SHORTEST:
                    self._forms.setdefault(form, (name, str(directory), number))
        self._longest_first = sorted(self._forms, key=len, reverse=True)

    def encode(self, value: Json) -> Json:
        """Return plain data without secrets. Raises StateError for one in the name of a field."""
        if isinstance(value, str):
            parts = self.parts(value)
            return value if parts is None else {_SECRET: parts}
        if isinstance(value, Mapping):
            for name in value:
                if isinstance(name, str) and self.parts(name) is not None:
                    raise StateError("a plan cannot hold a table with a secret among its names")
            if {_SECRET, _DICT} & set(value):
                return {_DICT: [[name, self.encode(item)] for name, item in value.items()]}
            return {name: self.encode(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.encode(item) for item in value]
        return value

    def parts(self, text: str) -> list[Json] | None:
        """Return the parts of a text with secrets in it; None when there is none."""
        if text in self._whole:
            return [self._reference(self._whole[text])]
        parts = self._split([text])
        return parts if len(parts) > 1 or not isinstance(parts[0], str) else None

    def _reference(self, found: tuple[str, str, int]) -> JsonObject:
        name, directory, number = found
        return {"name": name, "directory": directory, "form": number}

    def _split(self, parts: list[Json]) -> list[Json]:
        for form in self._longest_first:
            found: list[Json] = []
            for part in parts:
                if not isinstance(part, str) or form not in part:
                    found.append(part)
                    continue
                pieces = part.split(form)
                for index, piece in enumerate(pieces):
                    if index:
                        found.append(self._reference(self._forms[form]))
                    if piece:
                        found.append(piece)
            parts = found
        return parts or [""]


def resolve(value: Json, secret: Resolve) -> Json:
    """Return plain data with the values of its secrets. Raises CallError, StateError."""
    if isinstance(value, dict):
        if list(value) == [_SECRET]:
            return text_of(value[_SECRET], secret)
        if list(value) == [_DICT]:
            return {name: resolve(item, secret) for name, item in value[_DICT]}
        return {name: resolve(item, secret) for name, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, secret) for item in value]
    return value


def text_of(parts: Iterable[Json], secret: Resolve) -> str:
    """Return the text of parts. Raises CallError, StateError."""
    return "".join(part if isinstance(part, str) else _resolved(part, secret) for part in parts)


def _resolved(reference: JsonObject, secret: Resolve) -> str:
    name = str(reference["name"])
    forms = list(secret_forms(secret(name, Path(str(reference["directory"])))))
    number = int(reference["form"])
    if number >= len(forms):
        raise StateError(f"the secret {name} has changed since the plan was made", hint="make a new plan")
    return forms[number]


def has_secret(value: Json) -> bool:
    """Return whether plain data has references in it."""
    if isinstance(value, dict):
        if list(value) == [_DICT]:
            return any(has_secret(item) for _, item in value[_DICT])
        return list(value) == [_SECRET] or any(has_secret(item) for item in value.values())
    return isinstance(value, list) and any(has_secret(item) for item in value)


def shown(value: Json) -> Json:
    """Return plain data with its references as people read them: "secret(db/password)"."""
    if isinstance(value, dict):
        if list(value) == [_SECRET]:
            return "".join(part if isinstance(part, str) else f"secret({part['name']})" for part in value[_SECRET])
        if list(value) == [_DICT]:
            return {name: shown(item) for name, item in value[_DICT]}
        return {name: shown(item) for name, item in value.items()}
    return [shown(item) for item in value] if isinstance(value, list) else value
