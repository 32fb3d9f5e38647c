"""Variables of the command line: `-e key=value` and `--values FILE`. They take precedence over the inventory's."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import UsageError
from sloth.reading import read_file

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject


def extra_vars(assignments: Iterable[str], files: Iterable[Path]) -> JsonObject:
    """Return the variables of `files` (TOML or JSON, later ones win), overridden by the assignments `key=value`.

    A value is read as TOML (`true`, `3`, `"text"`, `["a"]`) when it is valid TOML, as a string otherwise. `a.b=1` sets
    b in the table a. Raises UsageError.
    """
    variables: JsonObject = {}
    for path in files:
        variables.update(_file(path))
    for text in assignments:
        key, equals, value = text.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise UsageError(f"-e {text} must have the form key=value")
        table = variables
        for name in names[:-1]:
            inner = table.get(name, {})
            if not isinstance(inner, dict):
                raise UsageError(f"-e {text}: {name} is not a table")
            table[name] = table = dict(inner)
        table[names[-1]] = _value(value)
    return variables


def _value(text: str) -> Json:
    try:
        return tomllib.loads(f"v = {text}")["v"] if "\n" not in text else text
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _file(path: Path) -> JsonObject:
    try:
        text = read_file(path, pipes=True).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"cannot read --values {path}: {reason}") from error
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{path}: tables or lists are nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}", hint="--values takes TOML, or JSON in a file named *.json") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must contain a table of variables")
    return values
