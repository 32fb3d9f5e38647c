"""A site of one call, made from the words of a command line, so that an ad hoc call runs like any other."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import UsageError
from sloth.payload.kernel.options import options_of, split
from sloth.payload.kernel.resource import ArgumentError, Call, Field
from sloth.playbook.site import Site

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

PATH = "command line"  # stands for the site's path in positions and records


def one_call(name: str, args: Mapping[str, Json], become: bool | str | None = None) -> Site:
    """Return a site that makes the call `name` with `args`, in one task; file names are those of this directory."""
    option = "" if become is None else f", become = {literal(become)}"
    text = f"task({{name = {literal(name)}{option}, run = function() {name}({literal(dict(args))}) end}})"
    return Site(PATH, text.encode("utf-8", "surrogateescape"), Path.cwd(), adhoc=True)


def arguments(cls: type[Call], words: Sequence[str]) -> JsonObject:
    """Return the arguments that `name=value` words give `cls`; a word without a name is the only required argument.

    A value is taken as text. That of a list is split at commas; `[...]` and `{...}` are read as JSON where the argument
    can be a list or a table. Raises UsageError.
    """
    declared: Sequence[Field] = cls.fields
    fields = {**options_of(cls), **{alias: field for field in declared for alias in (field.name, *field.aliases)}}
    given: JsonObject = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"\w+", name):
            name, value = cls.positional(), word
            if not name:
                raise UsageError(f"{cls.name} takes name=value words, not {word!r}")
        if name in given:
            raise UsageError(f"{cls.name} was given the argument {name} twice")
        field = fields.get(name)
        given[name] = _value(name, value, field.type if field else "str")
    try:
        cls.check(split(cls, given)[0])
    except ArgumentError as error:
        raise UsageError(error.message, hint=error.hint) from error
    return given


def _value(name: str, text: str, kind: str) -> Json:
    if kind in ("list", "dict", "any", "argv") and text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(f"{name} is not valid JSON: {error}") from error
    if kind == "list":
        return [item for item in text.split(",") if item]
    return text


def literal(value: Json) -> str:
    """Return plain data as a Lua expression. A number that Lua cannot write becomes nil."""
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
