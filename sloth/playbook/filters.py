"""Filters and tests of Ansible that Jinja2 does not have, for templates and expressions."""

from __future__ import annotations

import base64
import hashlib
import importlib
import itertools
import json
import operator
import os
import posixpath
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sloth.errors import InventoryError
from sloth.inventory.yaml_text import NOT_OF_TAG, is_too_deep, load_yaml

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

# What a filter takes and returns is up to the template.
Filter = Callable[..., Any]
_UNITS = "BKMGTPEZY"
_COMMENTS = {
    "plain": ("# ", "", ""),
    "erlang": ("% ", "", ""),
    "c": ("// ", "", ""),
    "cblock": (" * ", "/*", " */"),
    "xml": (" - ", "<!--", "-->"),
}  # decoration, beginning, end
_COMPARISONS = {
    "==": operator.eq, "=": operator.eq, "eq": operator.eq, "!=": operator.ne, "<>": operator.ne, "ne": operator.ne,
    "<": operator.lt, "lt": operator.lt, "<=": operator.le, "le": operator.le,
    ">": operator.gt, "gt": operator.gt, ">=": operator.ge, "ge": operator.ge,
}  # fmt: skip


def undefined_error(variable: str | None, message: str | None = None, known: Sequence[str] | None = None) -> Exception:
    """Return Jinja2's UndefinedError with the variable's name as data; known: the names of the table it is not in."""
    from jinja2.exceptions import UndefinedError

    error = UndefinedError(message)
    error.variable, error.known = variable, known  # type: ignore[attr-defined]
    return error


def _bool(value: Json) -> bool:
    return value.strip().lower() in ("yes", "on", "1", "true") if isinstance(value, str) else bool(value)


def _mandatory(value: Json) -> Json:
    from jinja2 import Undefined

    if isinstance(value, Undefined):
        raise undefined_error(value._undefined_name, f"'{value._undefined_name}' is mandatory, and undefined")
    return value


def _ternary(value: Json, yes: Json, no: Json, none: Json = None) -> Json:
    if value is None and none is not None:
        return none
    return yes if value else no


def _flags(ignorecase: bool, multiline: bool) -> int:
    return (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0)


def _regex_replace(
    value: Json, pattern: str, replacement: str = "", ignorecase: bool = False, multiline: bool = False, count: int = 0
) -> str:
    return re.sub(pattern, replacement, str(value), count=count, flags=_flags(ignorecase, multiline))


def _regex_search(
    value: Json, pattern: str, *groups: str, ignorecase: bool = False, multiline: bool = False
) -> str | list[str | None] | None:
    found = re.search(pattern, str(value), _flags(ignorecase, multiline))
    if found is None:
        return None  # which writes nothing; roles of Ansible compare it with none
    if not groups:
        return found.group()
    names = [group.removeprefix("\\g<").rstrip(">").lstrip("\\") for group in groups]
    return [found.group(int(name) if name.isdigit() else name) for name in names]


def _regex_findall(value: Json, pattern: str, multiline: bool = False, ignorecase: bool = False) -> list[Any]:
    return re.findall(pattern, str(value), _flags(ignorecase, multiline))


def _matches(how: str) -> Filter:
    def test(value: Json, pattern: str = "", ignorecase: bool = False, multiline: bool = False) -> bool:
        return getattr(re, how)(pattern, str(value), _flags(ignorecase, multiline)) is not None

    return test


def _dict2items(value: Mapping[str, Json], key_name: str = "key", value_name: str = "value") -> list[Json]:
    return [{key_name: key, value_name: item} for key, item in value.items()]


def _items2dict(value: Iterable[Any], key_name: str = "key", value_name: str = "value") -> dict[str, Json]:
    return {item[key_name]: item[value_name] for item in value}


def _flatten(value: Iterable[Json], levels: int | None = None, skip_nulls: bool = True) -> list[Json]:
    found: list[Json] = []
    for item in value:
        if isinstance(item, list) and levels != 0:
            found += _flatten(item, None if levels is None else levels - 1, skip_nulls)
        elif item is not None or not skip_nulls:
            found.append(item)
    return found


def _unique(value: Iterable[Json], *_: object, **__: object) -> list[Json]:
    found: list[Json] = []
    for item in value:
        if item not in found:
            found.append(item)
    return found


def _union(one: Iterable[Json], other: Iterable[Json]) -> list[Json]:
    return _unique([*one, *other])


def _intersect(one: Iterable[Json], other: Sequence[Json]) -> list[Json]:
    return _unique(item for item in one if item in other)


def _difference(one: Iterable[Json], other: Sequence[Json]) -> list[Json]:
    return _unique(item for item in one if item not in other)


def _symmetric_difference(one: Sequence[Json], other: Sequence[Json]) -> list[Json]:
    return _difference(one, other) + _difference(other, one)


def _combine(*tables: Mapping[str, Any], recursive: bool = False, list_merge: str = "replace") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            old = found.get(key)
            if recursive and isinstance(old, Mapping) and isinstance(value, Mapping):
                found[key] = _combine(old, value, recursive=True, list_merge=list_merge)
            elif isinstance(old, list) and isinstance(value, list) and list_merge != "replace":
                found[key] = _merge_lists(old, value, list_merge)
            else:
                found[key] = value
    return found


def _merge_lists(old: list[Json], new: list[Json], how: str) -> list[Json]:
    if how in ("append_rp", "prepend_rp"):
        old = [item for item in old if item not in new]
    if how == "keep":
        return old
    if how in ("append", "append_rp"):
        return old + new
    if how in ("prepend", "prepend_rp"):
        return new + old
    raise ValueError(f"combine: {how!r} is not one of replace, keep, append, prepend, append_rp, prepend_rp")


def _comment(text: str, style: str = "plain", decoration: str | None = None, prefix: str | None = None) -> str:
    usual, beginning, end = _COMMENTS[style]
    decoration = usual if decoration is None else decoration
    edge = decoration.rstrip() if prefix is None else prefix
    lines = [edge, *(f"{decoration}{line}".rstrip() for line in str(text).split("\n")), decoration.rstrip()]
    return "\n".join([*([beginning] if beginning else []), *lines, *([end] if end else [])])


def _hash(value: Json, kind: str = "sha1") -> str:
    return hashlib.new(kind, str(value).encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def _human_readable(size: float, isbits: bool = False, unit: str | None = None) -> str:
    name = "b" if isbits else "B"
    power = 0
    wanted = unit.upper()[:1] if unit else None
    while power < len(_UNITS) - 1 and (_UNITS[power] != wanted if wanted else size >= 1024 ** (power + 1)):
        power += 1
    prefix = _UNITS[power] if power else ""
    word = ("bits" if isbits else "Bytes") if not power else prefix + name
    return f"{size / 1024**power:.2f} {word}"


def _human_to_bytes(size: Json, default_unit: str | None = None) -> int:
    found = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", str(size))
    if found is None:
        raise ValueError(f"human_to_bytes: not a size: {size!r}")
    unit = (found.group(2) or default_unit or "B").upper()[:1]
    factor: int = 1024 ** _UNITS.index(unit)
    return round(float(found.group(1)) * factor)


def _subelements(value: Any, path: str, skip_missing: bool = False) -> list[Json]:
    found: list[Json] = []
    for item in value.values() if isinstance(value, Mapping) else value:
        inner: Any = item
        for name in path.split("."):
            if name not in inner and skip_missing:
                inner = []
                break
            inner = inner[name]
        found += [[item, element] for element in inner]
    return found


def _version_key(text: str) -> list[tuple[int, int, str]]:
    """Return what versions are ordered by: numbers as numbers, letters before a number, as LooseVersion does."""
    parts = re.findall(r"\d+|[A-Za-z]+", str(text).removeprefix("v"))
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def _version(value: str, other: str, how: str = "eq", **_: object) -> bool:
    if how not in _COMPARISONS:
        raise ValueError(f"version: {how!r} is no comparison; use one of {', '.join(_COMPARISONS)}")
    return bool(_COMPARISONS[how](_version_key(value), _version_key(other)))


def _yaml(**settings: Any) -> Filter:
    def write(value: Json, indent: int | None = None, **more: Any) -> str:
        options = {"default_flow_style": None, "allow_unicode": True, **settings, **more}
        return str(_import_yaml().safe_dump(value, indent=indent or settings.get("indent"), **_without(options)))

    return write


def _without(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "indent"}


def _from_yaml(text: str) -> Any:
    yaml = _import_yaml()
    if "*" in text:
        try:
            load_yaml(text, "from_yaml")  # refuses aliases that expand to far too much
        except InventoryError as error:
            raise ValueError(str(error)) from None
    if is_too_deep(text):
        raise ValueError("from_yaml: lists or tables are nested too deeply")
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("from_yaml: lists or tables are nested too deeply") from None
    except NOT_OF_TAG:
        raise ValueError("from_yaml: a value is not of the type that its tag names") from None
    except (OverflowError, yaml.YAMLError) as error:
        raise ValueError(f"from_yaml: {' '.join(str(error).split())[:400]}") from None


def _import_yaml() -> Any:
    try:
        return importlib.import_module("yaml")
    except ImportError:
        raise ValueError("the YAML filters need the Python package PyYAML on the controller") from None


def _zip(*values: Iterable[Json]) -> Iterator[list[Json]]:
    return (list(items) for items in zip(*values, strict=False))


FILTERS: Mapping[str, Filter] = {
    "b64decode": lambda value: base64.b64decode(value).decode(),
    "b64encode": lambda value: base64.b64encode(str(value).encode()).decode("ascii"),
    "basename": lambda value: posixpath.basename(str(value)),
    "bool": _bool,
    "checksum": _hash,
    "combine": _combine,
    "comment": _comment,
    "dict2items": _dict2items,
    "difference": _difference,
    "dirname": lambda value: posixpath.dirname(str(value)),
    "extract": lambda key, container: container[key],
    "flatten": _flatten,
    "from_json": json.loads,
    "from_yaml": _from_yaml,
    "hash": _hash,
    "human_readable": _human_readable,
    "human_to_bytes": _human_to_bytes,
    "intersect": _intersect,
    "items2dict": _items2dict,
    "mandatory": _mandatory,
    "md5": lambda value: _hash(value, "md5"),
    "path_join": lambda parts: posixpath.join(*([parts] if isinstance(parts, str) else parts)),
    "product": lambda *values: [list(items) for items in itertools.product(*values)],
    "quote": lambda value: shlex.quote(str(value)),
    "regex_escape": lambda value: re.escape(str(value)),
    "regex_findall": _regex_findall,
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
    "relpath": lambda value, start=".": os.path.relpath(value, start),
    "sha1": _hash,
    "split": lambda value, *args: str(value).split(*args),
    "splitext": lambda value: list(posixpath.splitext(str(value))),
    "strftime": lambda form, second=None, utc=False: time.strftime(
        form, (time.gmtime if utc else time.localtime)(None if second is None else float(second))
    ),
    "subelements": _subelements,
    "symmetric_difference": _symmetric_difference,
    "ternary": _ternary,
    "to_json": lambda value, **options: json.dumps(value, **options),
    "to_nice_json": lambda value, indent=4, **options: json.dumps(
        value, **{"indent": indent, "sort_keys": True, "separators": (",", ": "), **options}
    ),
    "to_nice_yaml": _yaml(indent=4, default_flow_style=False),
    "to_yaml": _yaml(),
    "type_debug": lambda value: type(value).__name__,
    "union": _union,
    "unique": _unique,
    "zip": _zip,
}
TESTS: Mapping[str, Filter] = {
    "all": lambda value: all(value),
    "any": lambda value: any(value),
    "contains": lambda value, item: item in value,
    "falsy": lambda value: not value,
    "match": _matches("match"),
    "regex": _matches("search"),
    "search": _matches("search"),
    "subset": lambda value, other: set(value) <= set(other),
    "superset": lambda value, other: set(value) >= set(other),
    "truthy": lambda value: bool(value),
    "version": _version,
}
