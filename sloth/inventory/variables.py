"""Variables from the command line: `-e key=value` and `--values FILE`; they win over the inventory's."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sloth.errors import UsageError


def extra_vars(assignments: Iterable[str], files: Iterable[Path]) -> dict[str, Any]:
    """Return the variables of `files` (TOML or JSON, later ones win), then of the assignments `key=value`.

    A value that is TOML (`true`, `3`, `"text"`, `["a"]`) is that; anything else is a string. `a.b=1` sets b in the
    table a. Raises UsageError.
    """
    variables: dict[str, Any] = {}
    for path in files:
        variables.update(_file(path))
    for text in assignments:
        key, equals, value = text.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise UsageError(f"-e {text} is not of the form key=value")
        table = variables
        for name in names[:-1]:
            inner = table.get(name, {})
            if not isinstance(inner, dict):
                raise UsageError(f"-e {text}: {name} is not a table")
            table[name] = table = dict(inner)
        table[names[-1]] = _value(value)
    return variables


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        return text


def _file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"--values {path} cannot be read: {reason}") from error
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise UsageError(f"{path}: {error}", hint="--values takes TOML, or JSON in a file named *.json") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} does not hold a table of variables")
    return values
