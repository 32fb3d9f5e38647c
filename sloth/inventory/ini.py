"""Ansible's INI inventories: sections of hosts, of child groups and of variables."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import warnings
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.inventory.content import Content
from sloth.inventory.host_names import read_host
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?\Z")
_CHILD = re.compile(r"([^:\]\s]+)\s*(?:#.*)?\Z")
_KINDS = ("hosts", "children", "vars")
_PLAIN = re.compile(r"[A-Za-z_/~][^\"'()]*\Z")  # a text that cannot be a literal of Python, but for:
_WORD = re.compile(r"""(?:[^\s"'\\#]|"[^"\\]*"|'[^']*')+""")
_QUOTED = re.compile(rf"(?:{_WORD.pattern}(?:\s+|\Z))+\Z")
_QUOTE = re.compile(r"""\"([^"]*)\"|'([^']*)'""")
_WORDS = ("True", "False", "None")  # with which a literal may begin: "True  # comment" is one
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+\Z")


def read_ini(text: str, content: Content) -> None:
    """Add what an INI inventory defines. Raises InventoryError with the line of what is wrong."""
    group, kind = "ungrouped", "hosts"
    members = content.group(group, 0)
    declared: set[str] = set()
    variables_of: dict[str, int] = {}  # groups with a section of variables -> its line
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and (line[-1] == "]" or "#" in line or _SECTION.match(line)):
            group, kind = _section(line, content, number)
            members = content.group(group, number)
            if kind == "vars":
                variables_of.setdefault(group, number)
            else:
                declared.add(group)
        elif kind == "hosts":
            _host(line, content, group, number)
        elif kind == "vars":
            name, equals, value = line.partition("=")
            if not equals:
                raise content.error(f"expected name=value, not {line!r}", number)
            content.set_group(members, name.strip(), read_value(value.strip()), number)
        else:
            found = _CHILD.match(line)
            if found is None:
                raise content.error(f"expected the name of a group, not {line!r}", number)
            content.add_child(group, found[1], number)
    _check_groups(content, declared, variables_of)


def _section(line: str, content: Content, number: int) -> tuple[str, str]:
    found = _SECTION.match(line)
    if found is None:
        hint = "a section is [group], [group:children] or [group:vars], without blanks"
        raise content.error(f"{line!r} is not a section", number, hint)
    kind = found[2] or "hosts"
    if kind not in _KINDS:
        hint = did_you_mean(kind, _KINDS) or "a section is [group], [group:children] or [group:vars]"
        raise content.error(f"the section {line} has the unknown kind {kind!r}", number, hint)
    return found[1], kind


def _check_groups(content: Content, declared: set[str], variables_of: dict[str, int]) -> None:
    """Raise InventoryError for a group that is used, and that neither this file nor an earlier one declares."""
    known = declared | content.defined_earlier
    for name, number in variables_of.items():
        if name not in known:
            hint = did_you_mean(name, sorted(known)) or f"add a section [{name}]"
            raise content.error(f"[{name}:vars] is about a group that does not exist", number, hint)
    for name, group in list(content.groups.items()):
        for child, number in group.children.items():
            if child not in known:
                hint = did_you_mean(child, sorted(known)) or f"add a section [{child}]"
                raise content.error(f"[{name}:children] names the group {child}, which does not exist", number, hint)


def _host(line: str, content: Content, group: str, number: int) -> None:
    try:
        words = _words(line)
        names, port = read_host(words[0])
    except ValueError as error:
        raise content.error(str(error), number, _hint(line)) from None
    if names[0] == "---":
        raise content.error("'---' begins a YAML file", number, "give the file the extension .yml")
    given: list[tuple[str, Json]] = []
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals:
            raise content.error(f"expected name=value after the host, not {word!r}", number, _hint(line))
        given.append((name, read_value(value)))
    for each in names:
        try:
            variables = content.add_host(each, group, number, port)
        except InventoryError as error:
            error.hint = _hint(line) or error.hint
            raise
        for name, value in given:
            if name in variables and variables[name][0] != value:
                content.warn(f"{name} of {each} was set in line {variables[name][1]}; the last one is used", number)
            content.set(variables, name, value, number)


def _hint(line: str) -> str:
    if re.match(r"[\w.-]+\s+=\s*[\"'\[{]", line):
        return "this looks like TOML: give the file the extension .toml"
    if re.match(r"-?\s*[\w.-]+:(\s|$)", line):
        return "this looks like YAML: give the file the extension .yml"
    return ""


def _words(line: str) -> list[str]:
    """Return the words of a line as a shell splits it, without a comment."""
    if line.isascii() and not any(mark in line for mark in "\"'\\#"):
        return line.split()
    if line.isascii() and _QUOTED.match(line):  # a tenth of the time that shlex takes
        return [_QUOTE.sub(lambda found: found[1] or found[2] or "", word) for word in _WORD.findall(line)]
    words = shlex.split(line, comments=True)
    if not words:
        raise ValueError(f"{line!r} has no host in it")
    return words


@functools.lru_cache(maxsize=4096)
def _literal(text: str) -> Json:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _plain(ast.literal_eval(text))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _plain(value: object) -> Json:
    match value:
        case list() | tuple() | set():
            return [_plain(item) for item in value]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case bytes():
            return value.decode("utf-8", "surrogateescape")
        case bool() | int() | float() | str() | None:
            return value
    return "..." if value is ... else str(value)


def read_value(text: str) -> Json:
    """Return a value as Ansible reads it: as a literal of Python when it is one, else as a text."""
    if (_PLAIN.match(text) and not text.startswith(_WORDS)) or _ADDRESS.match(text):
        return text
    return _literal(text)
