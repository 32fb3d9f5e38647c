"""Variables of the command line: `-e key=value` and `--values FILE`. They take precedence over the inventory's."""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import UsageError
from sloth.inventory.templated import VAULT, VAULT_HINT, mark, tagged
from sloth.reading import read_file

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

_YAML = re.compile(r"^(---|[\w\"'{][^=\n]*:(\s|$)|\s*\{)", re.MULTILINE)


def extra_vars(assignments: Iterable[str], files: Iterable[Path]) -> JsonObject:
    """Return the variables of `files` (TOML, JSON or YAML, later ones win), overridden by the assignments `key=value`.

    A value is read as TOML (`true`, `3`, `"text"`, `["a"]`) when it is valid TOML and no date, as a string
    otherwise. `a.b=1` sets b in the table a. Raises UsageError.
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
        value: Json = tomllib.loads(f"v = {text}")["v"] if "\n" not in text else text
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    # A date becomes a text in any case: the one that was given, and not as Python writes it.
    return text if isinstance(value, (datetime.date, datetime.time)) else value


def _file(path: Path) -> JsonObject:
    """Return the variables of a file: JSON, TOML or YAML, as its content shows it. Raises UsageError."""
    try:
        text = read_file(path, pipes=True).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"cannot read --values {path}: {reason}") from error
    values = _json(path, text) if text.lstrip().startswith("{") else None
    if values is None:
        values = _toml_or_yaml(path, text)
    if not isinstance(values, dict):
        raise UsageError(f"{path} must contain a table of variables")
    return values


def _json(path: Path, text: str) -> Json:
    """Return the data of JSON, None when the text is none: YAML may begin like it. Texts in both may be templates."""
    try:
        values: JsonObject = json.loads(text)
        return {name: mark(tagged(value, str(path)), str(path)) for name, value in values.items()}
    except (ValueError, RecursionError):
        return None


def _toml_or_yaml(path: Path, text: str) -> Json:
    if text.startswith(VAULT):
        raise UsageError(f"{path} is encrypted with ansible-vault", hint=VAULT_HINT)
    if path.suffix not in (".yml", ".yaml"):
        try:
            return tomllib.loads(text)
        except RecursionError:
            raise UsageError(f"{path}: tables or lists are nested too deeply") from None
        except tomllib.TOMLDecodeError as error:
            if path.suffix == ".toml" or not _YAML.search(text):
                hint = "--values takes TOML, JSON and YAML"
                raise UsageError(f"{path}: {error}", hint=hint) from error
    from sloth.inventory.vars_files import parse_vars

    file = parse_vars(text, path, is_toml=False)
    return {name: mark(value, file.where(name)) for name, value in file.variables.items()}
