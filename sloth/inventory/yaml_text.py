"""YAML with line numbers: plain data whose tables know the line of each key, bounded in depth and size."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from sloth.errors import InventoryError
from sloth.inventory.templated import Encrypted, Literal, tagged

if TYPE_CHECKING:
    from collections.abc import Callable

    from sloth.payload.kernel.values import Json

_TAG = "tag:yaml.org,2002:"
DEEPEST = 100  # levels
LARGEST = 1_000_000  # values; a text counts for more when it is long
LONGEST_NUMBER = 4096  # bits; Python refuses to write numbers of more than 4300 digits
NOT_OF_TAG = (IndexError, KeyError, AttributeError)  # what PyYAML raises for a text that its tag does not allow
_COLLECTIONS = frozenset((_TAG + "map", _TAG + "seq", _TAG + "omap", _TAG + "pairs", _TAG + "set", "!unsafe"))
MOST_REPEATED = 10  # times as many values as are written that aliases may stand for, in a larger file


class Table(dict[str, Any]):
    """A mapping; lines: the line of each key."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


def load_data(text: str, name: str, warn: Callable[[str], None] = lambda _: None) -> Json:
    """Return the data of a file that is JSON or YAML, as load_yaml() does.

    As in Ansible, what is JSON is read as such: `1e3` is a number there and a text in YAML, tabs may indent it, and
    `{"__ansible_unsafe": "{{ x }}"}` is a text that is no template. YAML still knows the lines.
    """
    data: Json = None
    if text.lstrip().startswith(("{", "[")):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            pass
    try:
        found = load_yaml(text, name, warn)
    except InventoryError:
        if data is None:
            raise
        found = None
    return found if data is None else _with_lines(data, found, name, 0)


def _with_lines(value: Json, known: Json, name: str, depth: int) -> Json:
    """Return JSON as tables with the lines of what YAML has made of the same text."""
    if depth > DEEPEST:
        raise InventoryError(f"lists or tables are nested more than {DEEPEST} levels deep", where=name)
    if isinstance(value, list):
        others = known if isinstance(known, list) and len(known) == len(value) else [None] * len(value)
        return [_with_lines(item, other, name, depth + 1) for item, other in zip(value, others, strict=True)]
    if isinstance(value, dict) and len(value) == 1:
        value = tagged(value, name)
    if not isinstance(value, dict):
        return value
    of_yaml = known if isinstance(known, Table) else Table()
    table = Table()
    table.lines = of_yaml.lines
    for key, item in value.items():
        table[key] = _with_lines(item, of_yaml.get(key), name, depth + 1)
    return table


def load_yaml(text: str, name: str, warn: Callable[[str], None] = lambda _: None) -> Json:
    """Return the data of one YAML document, None for an empty one.

    name: the file, for positions. warn: is called for a key that is defined twice; as in Ansible, the last one wins.
    Raises InventoryError, with the line, for what is no YAML, unknown tags, and aliases that expand to too much.
    """
    import yaml

    if is_too_deep(text):
        raise InventoryError(f"lists or tables are nested more than {DEEPEST} levels deep", where=name)
    loader = _loader()(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _Builder(loader, name, warn).build(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = error.problem or "not valid YAML"
        if mark and "\t" in _line(text, mark.line)[: mark.column + 1]:
            raise InventoryError("a tab cannot indent YAML", where=where, hint="use spaces") from None
        raise InventoryError(f"invalid YAML: {problem}", where=where) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InventoryError(f"invalid YAML: {error.reason}", where=f"{name}:{line}") from None
    except RecursionError:
        raise InventoryError("lists or tables are nested too deeply", where=name) from None
    finally:
        loader.dispose()


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number] if number < len(lines) else ""


def is_too_deep(text: str) -> bool:
    """Return whether brackets, or indicators on one line, are so deep that the C parser would use up the stack."""
    depth = deepest = 0
    if text.count("[") + text.count("{") > DEEPEST:
        for character in text:
            if character in "[{":
                depth += 1
                deepest = max(deepest, depth)
            elif character in "]}":
                depth -= 1
    longest = max((line.count("- ") for line in text.splitlines()), default=0) if "- - " in text else 0
    return max(deepest, longest) > DEEPEST * 10


def _loader() -> Any:  # a class of PyYAML, which has no types
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Builder:
    """Makes plain data of the nodes of one document. A node that has several aliases is built once."""

    def __init__(self, loader: Any, name: str, warn: Callable[[str], None]) -> None:
        self._loader = loader
        self._name = name
        self._warn = warn
        self._done: dict[int, Json] = {}
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def build(self, node: Any, depth: int = 0) -> Json:
        key = id(node)
        if key in self._done:
            return self._done[key]
        if depth > DEEPEST:
            raise self._error(f"lists or tables are nested more than {DEEPEST} levels deep", node)
        if key in self._open:
            raise self._error("an alias contains itself", node)
        self._open.add(key)
        kind = node.id
        if kind != "scalar" and node.tag not in _COLLECTIONS:
            raise self._error(f"the YAML tag {node.tag} is not known", node)
        if kind == "scalar":
            value, size = self._scalar(node), 1 + len(node.value) // 64
        elif kind == "mapping":
            value, size = self._mapping(node, depth)
        else:
            items = [self.build(item, depth + 1) for item in node.value]
            value, size = items, 1 + sum(self._sizes[id(item)] for item in node.value)
            if node.tag == "!unsafe":
                value = _literal(items)
            elif node.tag == _TAG + "set":
                raise self._error("a set cannot be used here", node)
        if size > LARGEST and size > MOST_REPEATED * len(self._sizes):
            raise self._error(f"aliases expand to more than {LARGEST} values", node)
        self._open.discard(key)
        self._done[key] = value
        self._sizes[key] = size
        return value

    def _mapping(self, node: Any, depth: int) -> tuple[Json, int]:
        table, size = Table(), 1
        merged: list[Table] = []
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged += self._merged(value_node, depth)
                size += self._sizes[id(value_node)]
                continue
            key = self._key(key_node)
            if key in table:
                text = f"the key {key} is defined twice; the last one is used"
                self._warn(f"{self._name}:{key_node.start_mark.line + 1}: {text}")
            table[key] = self.build(value_node, depth + 1)
            table.lines[key] = key_node.start_mark.line + 1
            size += 1 + self._sizes[id(value_node)]
        for other in merged:
            for key, value in other.items():
                if key not in table:
                    table[key] = value
                    table.lines[key] = other.lines.get(key, node.start_mark.line + 1)
        return (_literal(table) if node.tag == "!unsafe" else table), size

    def _merged(self, node: Any, depth: int) -> list[Table]:
        value = self.build(node, depth + 1)
        tables = value if isinstance(value, list) else [value]
        if not all(isinstance(table, Table) for table in tables):
            raise self._error("<< takes a table, or a list of tables", node)
        return tables

    def _key(self, node: Any) -> str:
        if node.id != "scalar":
            raise self._error("a key must be a text", node)
        value = self._scalar(node)
        if isinstance(value, bool):
            return str(value).lower()
        return "null" if value is None else str(value)

    def _scalar(self, node: Any) -> Json:
        tag = node.tag
        if tag == _TAG + "str":
            return node.value
        if tag in ("!vault", "!vault-encrypted"):
            return Encrypted(self._where(node))
        if tag == "!unsafe":
            return Literal(node.value)
        if not tag.startswith(_TAG):
            raise self._error(f"the YAML tag {tag} is not known", node)
        try:
            value = self._loader.construct_object(node)
        except (ValueError, OverflowError) as error:
            raise self._error(f"{node.value[:60]!r} is not a value: {str(error)[:200]}", node) from None
        except NOT_OF_TAG:
            raise self._error(f"{node.value[:60]!r} is not of the type !!{tag[len(_TAG) :]}", node) from None
        if isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
            raise self._error(f"{node.value[:60]!r}... is too long for a number", node)
        if isinstance(value, (datetime.date, datetime.datetime)):
            return value.isoformat()
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def _where(self, node: Any) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"

    def _error(self, message: str, node: Any) -> InventoryError:
        return InventoryError(message, where=self._where(node))


def _literal(value: Json) -> Json:
    """Return a value whose texts are no templates."""
    if isinstance(value, str):
        return Literal(value)
    if isinstance(value, Table):
        for key in value:
            value[key] = _literal(value[key])
        return value
    return [_literal(item) for item in value] if isinstance(value, list) else value
