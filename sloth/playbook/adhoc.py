"""A site of one call, made from words of the command line, so that an ad hoc call is run like any other."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sloth.errors import UsageError
from sloth.payload.kernel.resource import ArgumentError, Call
from sloth.playbook.site import Site

PLACE = "command line"


def one_call(name: str, args: Mapping[str, Any], become: bool | str | None = None) -> Site:
    """Return the site that makes the call `name` with `args` in one task; paths are those of the working directory."""
    option = "" if become is None else f", become = {literal(become)}"
    text = f"task({{name = {literal(name)}{option}, run = function() {name}({literal(dict(args))}) end}})"
    return Site(PLACE, text.encode("utf-8", "surrogateescape"), Path.cwd(), adhoc=True)


def arguments(cls: type[Call], words: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` words as arguments of `cls`; one word without a name is the only required argument.

    A value is text as it stands; for a list it is split at commas; `[...]` and `{...}` are read as JSON where the
    argument is a list, a table, or anything. Raises UsageError.
    """
    declared: Sequence[Any] = cls.fields
    fields = {alias: field for field in declared for alias in (field.name, *field.aliases)}
    given: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"\w+", name):
            name, value = cls.positional(), word
            if not name:
                raise UsageError(f"{cls.name} takes name=value words, not {word!r}")
        if name in given:
            raise UsageError(f"{cls.name} was given {name} twice")
        field = fields.get(name)
        given[name] = _value(name, value, field.type if field else "str")
    try:
        cls.check(given)
    except ArgumentError as error:
        raise UsageError(error.message, hint=error.hint) from error
    return given


def _value(name: str, text: str, kind: str) -> Any:
    if kind in ("list", "dict", "any", "argv") and text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(f"{name} is no JSON: {error}") from error
    if kind == "list":
        return [item for item in text.split(",") if item]
    return text


def literal(value: Any) -> str:
    """`value` (plain data) as a Lua expression."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value) if math.isfinite(value) else "nil"
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        return '"' + "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\{c:03d}" for c in data) + '"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"[{literal(str(key))}] = {literal(item)}" for key, item in value.items()) + "}"
    return "{" + ", ".join(literal(item) for item in value) + "}"
